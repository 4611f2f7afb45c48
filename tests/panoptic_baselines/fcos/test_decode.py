"""Cases of FCOS that the golden data do not cover."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.fcos.decode import distances_to_boxes, find_candidates
from panoptic_baselines.fcos.head import Tower
from panoptic_baselines.layers.fpn import FPN


@pytest.mark.parametrize('top, count, shapes', [
    ('p6p7', 3, [(1, 2), (1, 1)]), ('pool', 4, [(1, 2)]), (None, 3, [])])
def test_levels_of_the_pyramid(top, count, shapes):
    fpn = FPN(8, [4] * count, top)
    fpn.initialize()
    fpn.hybridize()
    features = [mx.nd.random.normal(shape=(1, 4, 16 >> i, 24 >> i)) for i in range(4)][4 - count:]
    levels = [x.shape[2:] for x in fpn(*features)]
    assert levels == [f.shape[2:] for f in features] + shapes
    names = {name.split('.')[0] for name in fpn._collect_params_with_prefix()}
    assert names == {f'{kind}{i}' for kind in ('lateral', 'output') for i in range(6 - count, 6)
                     } | ({'p6', 'p7'} if top == 'p6p7' else set())


def test_unknown_top():
    with pytest.raises(AdaptisError, match="'p8'.*p6p7"):
        FPN(8, [4, 4, 4], 'p8')


def test_members_of_a_tower_are_numbered_as_officially():
    tower = Tower(16, 8, depth=2, num_groups=4)
    shapes = {name: p.shape for name, p in tower._collect_params_with_prefix().items()}
    assert shapes == {'0.weight': (16, 8, 3, 3), '0.bias': (16,), '1.gamma': (16,),
                      '1.beta': (16,), '3.weight': (16, 16, 3, 3), '3.bias': (16,),
                      '4.gamma': (16,), '4.beta': (16,)}
    tower.initialize()
    assert (tower(mx.nd.random.normal(shape=(1, 8, 4, 5))).asnumpy() >= 0).all()
    assert 'running_mean' in str(list(Tower(16, 8, 1, norm_layer='BatchNorm').collect_params()))


def test_decoding():
    boxes = distances_to_boxes(np.array([[10., 20]]), np.array([[1., 2, 3, 4]]))
    np.testing.assert_array_equal(boxes, [[9, 18, 13, 24]])


@pytest.mark.parametrize('thresh_with_ctr', [False, True])
@pytest.mark.parametrize('sqrt_scores', [False, True])
def test_thresholds_and_scores(thresh_with_ctr, sqrt_scores):
    def logit(p):
        return np.log(np.float32(p) / (1 - np.float32(p)))

    logits = logit([[[0.5, 0.1]], [[0.2, 0.04]]])
    center = logit([[[0.3, 0.9]]])
    found = find_candidates([logits], [np.ones((4, 1, 2), np.float32)], [center], [8],
                            threshold=0.08, thresh_with_ctr=thresh_with_ctr,
                            sqrt_scores=sqrt_scores)
    expected = [(0, 0, 0.15), (0, 1, 0.06), (1, 0, 0.09)]   # cell, class, product
    if thresh_with_ctr:
        del expected[1]
    cells, classes, scores = zip(*expected)
    assert found.cells.tolist() == list(cells) and found.classes.tolist() == list(classes)
    np.testing.assert_allclose(found.scores, np.sqrt(scores) if sqrt_scores else scores, rtol=1e-5)
    assert found.locations.tolist() == [[4 + 8 * cell, 4] for cell in cells]


def test_any_threshold():
    logits = np.array([[[-60., 0, 60]]], np.float32)
    for threshold, count in ((0.0, 3), (1.0, 0)):
        found = find_candidates([logits], [np.ones((4, 1, 3), np.float32)],
                                [np.full((1, 1, 3), 60, np.float32)], [8], threshold=threshold)
        assert len(found.scores) == count
