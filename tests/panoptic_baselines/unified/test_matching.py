"""Panoptic matching against the reference cases and by hand."""
from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from adaptis.runtime import mx
from panoptic_baselines.unified.matching import (
    PanopticMatchingLoss,
    match_detections,
    panoptic_target,
    same_class_iou,
)

SCENES = ('simple', 'class_differs', 'duplicate', 'threshold', 'permutation_vs_greedy',
          'no_detection', 'no_ground_truth', 'crowded')


@pytest.fixture(scope='module')
def scenes(unified_kit: Any) -> dict[str, Any]:
    """By name."""
    return {s['name']: s for s in json.loads((unified_kit / 'matching.json').read_text())}


@pytest.mark.parametrize('name', SCENES)
def test_scenes(scenes: dict[str, Any], name: str) -> None:
    scene = scenes[name]
    case = [np.array(scene[key]) for key in ('det_boxes', 'det_classes', 'gt_boxes', 'gt_classes')]
    iou = same_class_iou(*case)
    np.testing.assert_allclose(iou, np.reshape(scene['iou_same_class'], iou.shape), rtol=1e-6)
    matching = match_detections(*case)
    assert matching.assigned.tolist() == scene['assigned']
    assert matching.duplicate.astype(int).tolist() == scene['removed_duplicate']
    matched = matching.assigned[matching.assigned >= 0]
    unmatched = ~np.isin(np.arange(len(scene['gt_boxes'])), matched)
    assert unmatched.astype(int).tolist() == scene['gt_ignored']
    rows = np.flatnonzero(matching.assigned >= 0)
    assert iou[rows, matched].sum() == pytest.approx(scene['total_iou'], rel=1e-6)


def test_every_scene_is_looked_at(scenes: dict[str, Any]) -> None:
    assert set(scenes) == set(SCENES)


def test_targets(unified_kit: Any) -> None:
    golden = np.load(unified_kit / 'pipeline.npz')
    num_stuff = int(golden['n_stuff'])
    matching = match_detections(*(golden[key] for key in ('det_boxes', 'det_classes', 'gt_boxes',
                                                          'gt_classes')))
    np.testing.assert_array_equal(matching.assigned, golden['assigned'])
    np.testing.assert_array_equal(matching.duplicate, golden['removed_duplicate'])
    semantic = np.where(golden['void'], -1, golden['stuff'])
    target = panoptic_target(golden['gt_ids'], semantic, matching.assigned[~matching.duplicate],
                             len(golden['gt_boxes']), num_stuff)
    np.testing.assert_array_equal(np.where(target < 0, 255, target), golden['target'])


@pytest.mark.parametrize('hybridize', [False, True])
@pytest.mark.parametrize('logits, value, gradient', [('P', 'loss', 'grad_P'),
                                                     ('psi', 'loss_on_psi', None)])
def test_loss(unified_kit: Any, logits: str, value: str, gradient: str, hybridize: bool) -> None:
    golden = np.load(unified_kit / 'pipeline.npz')
    target = np.where(golden['target'] == 255, -1, golden['target'])
    array = mx.nd.array(golden[logits][None], dtype='float64')
    array.attach_grad()
    loss = PanopticMatchingLoss()
    loss.hybridize(hybridize)
    with mx.autograd.record():
        found = loss(array, mx.nd.array(target[None], dtype='float64'),
                     mx.nd.array([(target >= 0).sum()], dtype='float64'))
    found.backward()
    assert found.asscalar() == pytest.approx(float(golden[value]), rel=1e-12)
    if gradient:
        np.testing.assert_allclose(array.grad[0].asnumpy(), golden[gradient], rtol=1e-9,
                                   atol=1e-15)


def test_loss_by_hand(unified_kit: Any) -> None:
    expected = json.loads((unified_kit / 'hand.json').read_text())['panoptic_ce']['loss']
    logits = mx.nd.array(np.log([3.0, 1.0]).reshape(1, 2, 1, 1))
    found = PanopticMatchingLoss()(logits, mx.nd.zeros((1, 1, 1)), mx.nd.ones(1))
    assert found.asscalar() == pytest.approx(expected, rel=1e-6)


def test_stuff_by_class_where_no_object_is() -> None:
    instances = np.array([[0, 0, 0, 1, 2]])
    semantic = np.array([[1, 3, -1, 0, 4]])   # a thing without an object, void, ...
    target = panoptic_target(instances, semantic, np.array([-1, 1]), 2, 3)
    assert target.tolist() == [[3, -1, -1, -1, 1]]
    nothing = panoptic_target(instances * 0, semantic, np.zeros(0, int), 0, 3)
    assert nothing.tolist() == [[1, -1, -1, 0, -1]]
