"""Images of two files are compared with their own counterparts, however they are numbered."""
from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from adaptis.errors import AdaptisError, MatchWarning
from adaptis.evaluation.coco import PanopticFolder, write_panoptic
from adaptis.evaluation.matching import match_images
from adaptis.types import TOY_TAXONOMY, PanopticResult, Segment


def folder(tmp_path: Path, name: str, *images: tuple) -> PanopticFolder:
    """A file that lists (id, file name); each picture holds one segment."""
    picture = PanopticResult(np.ones((2, 2), np.int32), [Segment(1, 2, True, 1.0, 4)])
    write_panoptic(tmp_path / f'{name}.json', tmp_path / name,
                   [(i, file, picture) for i, file in images], TOY_TAXONOMY)
    return PanopticFolder(tmp_path / f'{name}.json')


TRUTH = (3, 'a.jpg'), (1, 'b.jpg'), (2, 'c.jpg')


@pytest.mark.parametrize('predicted, pairs', [
    ([(1, 'b.png'), (2, 'c.png'), (3, 'a.png')], [(3, 3), (1, 1), (2, 2)]),
    ([('1', 'deep/b.png'), ('2', 'c.png'), ('3', 'a.png'), ('9', 'more.png')],
     [(3, '3'), (1, '1'), (2, '2')])])
def test_ids_count_if_the_names_agree(tmp_path, predicted, pairs):
    gt, pred = folder(tmp_path, 'gt', *TRUTH), folder(tmp_path, 'pred', *predicted)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert match_images(gt, pred) == pairs


@pytest.mark.parametrize('predicted', [
    [(1, 'a.png'), (2, 'b.png'), (3, 'c.png')], [(10, 'a.png'), (11, 'b.png'), (12, 'c.png')],
    [('a', 'a.png'), ('b', 'b.png'), ('c', 'c.png'), ('d', 'd.png')]])
def test_names_count_if_the_ids_are_of_other_images(tmp_path, predicted):
    gt, pred = folder(tmp_path, 'gt', *TRUTH), folder(tmp_path, 'pred', *predicted)
    ids = [i for i, _ in predicted][:3]
    with pytest.warns(MatchWarning, match='images are matched by file name') as told:
        assert match_images(gt, pred) == list(zip([3, 1, 2], ids))
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert match_images(gt, pred, 'name') == list(zip([3, 1, 2], ids))


def test_folders_count_if_images_have_one_name(tmp_path):
    gt = folder(tmp_path, 'gt', (1, 'x/f.png'), (2, 'y/f.png'))
    pred = folder(tmp_path, 'pred', (1, 'y/f.jpg'), (2, 'x/f.jpg'))
    with pytest.warns(MatchWarning, match=r'image 1 is x/f.png in one and y/f.jpg in the other'):
        assert match_images(gt, pred) == [(1, 2), (2, 1)]


@pytest.mark.parametrize('predicted, by, message', [
    ([(1, 'a.png'), (2, 'b.png'), (3, 'other.png')], None, 'same ids for different .*match id'),
    ([(1, 'b.png'), (2, 'c.png')], None, 'no prediction for 1 of 3 images; .* is 3 .a.jpg'),
    ([(1, 'b.png'), (2, 'c.png'), (4, 'a.png')], 'id', 'no prediction for 1 of 3 images'),
    ([(3, 'x.png'), (1, 'b.png'), (2, 'c.png')], 'name', 'no prediction for 1 of 3 images'),
    ([(3, 'a.png'), (1, 'b.png'), (2, 'c.png')], 'size', 'id or name, not by')])
def test_what_nobody_can_decide_is_refused(tmp_path, predicted, by, message):
    gt, pred = folder(tmp_path, 'gt', *TRUTH), folder(tmp_path, 'pred', *predicted)
    with pytest.raises(AdaptisError, match=message):
        match_images(gt, pred, by)


def test_ids_can_be_insisted_on(tmp_path):
    gt = folder(tmp_path, 'gt', *TRUTH)
    pred = folder(tmp_path, 'pred', (1, 'a.png'), (2, 'b.png'), (3, 'c.png'))
    assert match_images(gt, pred, 'id') == [(3, 3), (1, 1), (2, 2)]


def test_ids_that_are_words_need_no_names(tmp_path):
    gt = folder(tmp_path, 'gt', ('aachen_1', 'aachen_1_gtFine.png'))
    pred = folder(tmp_path, 'pred', ('aachen_1', 'aachen_1_leftImg8bit.png'))
    assert match_images(gt, pred) == [('aachen_1', 'aachen_1')]
