"""Labels of files and class indices of networks."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.data.labels import LabelMap
from adaptis.errors import AdaptisError

LABELS = LabelMap([7, 3, 9], count=12, void=2)


def test_whole_maps_go_both_ways() -> None:
    labels = np.array([[7, 3, 9], [2, 0, 11]], np.uint8)
    classes = LABELS.to_classes(labels)
    assert classes.dtype == np.int32 and classes.tolist() == [[0, 1, 2], [-1, -1, -1]]
    assert LABELS.to_labels(classes).tolist() == [[7, 3, 9], [2, 2, 2]]


@pytest.mark.parametrize('wrong', [-1, 12, 255])
def test_a_number_that_is_no_label_is_named(wrong: int) -> None:
    with pytest.raises(AdaptisError, match=f'^x.png contains {wrong}, which is not one of the 12'):
        LABELS.to_classes(np.array([7, wrong]), 'x.png')


@pytest.mark.parametrize('wrong', [-2, 3])
def test_a_number_that_is_no_class_is_named(wrong: int) -> None:
    with pytest.raises(AdaptisError, match=f'no class index {wrong}: they range from 0 to 2'):
        LABELS.to_labels(np.array([0, wrong]))


@pytest.mark.parametrize('void', [3, 12, -1])
def test_void_must_be_a_label_of_its_own(void: int) -> None:
    with pytest.raises(ValueError, match='is the label of a class, or not a label'):
        LabelMap([7, 3, 9], count=12, void=void)
