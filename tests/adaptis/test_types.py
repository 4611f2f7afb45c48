"""The guarantees of samples and taxonomies."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.types import TOY_TAXONOMY, Category, PanopticResult, Sample, Segment, Taxonomy


def test_stuff_comes_first_and_the_order_stays():
    taxonomy = Taxonomy([Category(9, 'car', True), Category(4, 'sky', False),
                         Category(2, 'man', True), Category(7, 'sea', False)])
    assert [c.name for c in taxonomy.categories] == ['sky', 'sea', 'car', 'man']
    assert (taxonomy.num_stuff, taxonomy.num_things, len(taxonomy)) == (2, 2, 4)
    assert taxonomy.index(2) == 3 and taxonomy.by_id(7).name == 'sea'


def test_categories_that_do_not_exist_or_share_an_id():
    with pytest.raises(AdaptisError, match='no category 3; the known ones are .1, 2.'):
        TOY_TAXONOMY.by_id(3)
    with pytest.raises(AdaptisError, match='share an id'):
        Taxonomy([Category(1, 'sky', False), Category(1, 'car', True)])


@pytest.mark.parametrize('what', ['instances', 'semantic'])
def test_a_map_that_does_not_match_its_image(what):
    maps = {'instances': np.zeros((4, 6), np.int32), 'semantic': np.zeros((4, 6), np.int32)}
    maps[what] = maps[what].T
    with pytest.raises(AdaptisError, match=f'a.png: the {what} map is 6x4 but the image is 4x6'):
        Sample(image=np.zeros((4, 6, 3), np.uint8), classes={}, name='a.png', **maps)


def test_things_of_a_result():
    segments = [Segment(1, 2, True, 0.9, 3), Segment(2, 1, False, 0.8, 3)]
    assert PanopticResult(np.array([[1, 2]], np.int32), segments).things == segments[:1]
