"""From detections to the panoptic loss and its gradients, against double precision."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy
from panoptic_baselines.rcnn.proposals import Detections
from panoptic_baselines.unified.network import Maps
from panoptic_baselines.unified.training import UnifiedSystem, match_channels
from tests.panoptic_baselines.unified.conftest import make_network

STUFF = 3
TAXONOMY = Taxonomy([Category(i, str(i), i > STUFF) for i in range(1, 6)])


@pytest.fixture(scope='module')
def pipeline(unified_kit: Any) -> dict[str, np.ndarray]:
    return dict(np.load(unified_kit / 'pipeline.npz'))


@pytest.fixture(scope='module')
def system(pipeline: dict[str, np.ndarray]) -> UnifiedSystem:
    net = make_network(masks=False, num_stuff=STUFF, num_things=2,
                       affinity_channels=pipeline['Q'].shape[1])
    for i, phi in enumerate((net.affinity.phi0, net.affinity.phi1)):
        phi.weight.set_data(mx.nd.array(pipeline[f'W{i}'][..., None, None]))
        phi.bias.set_data(mx.nd.array(pipeline[f'b{i}']))
    return UnifiedSystem(net, TAXONOMY, hybridize=True)


def make_batch(case: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The ground truth at the size of the image, with the batch's own numbers."""
    semantic = np.where(case['gt_ids'] > 0, 0, case['stuff'])
    semantic = np.where(case['void'], -1, semantic)
    large = [np.kron(labels, np.ones((4, 4), int))[None] for labels in (case['gt_ids'], semantic)]
    return {'instances': large[0], 'semantic': large[1], 'sizes': np.float32([large[0].shape[1:]]),
            'boxes': case['gt_boxes'][None].astype(np.float32),
            'classes': case['gt_classes'][None] - STUFF}


def test_the_loss_and_its_gradients(pipeline: dict[str, np.ndarray], system: UnifiedSystem,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    height, width = pipeline['V'].shape[1:]
    semantic = mx.nd.array(np.log(pipeline['V'])[None])
    affinity = mx.nd.array(pipeline['Q'].T.reshape(1, -1, height, width))
    batch, classes = make_batch(pipeline), pipeline['det_classes'] - STUFF
    found = Detections(pipeline['det_boxes'].astype(np.float32), pipeline['det_scores'], classes,
                       np.arange(len(classes)))
    channels = match_channels(found, found.boxes, batch['boxes'][0], batch['classes'][0])
    kept = ~pipeline['removed_duplicate']
    np.testing.assert_array_equal(channels.assigned, pipeline['assigned'][kept])
    (target,) = system.panoptic_targets(batch, [channels])
    np.testing.assert_array_equal(np.where(target < 0, 255, target), pipeline['target'])
    scores = mx.nd.array(pipeline['det_scores'][kept])
    monkeypatch.setattr(system, '_scores', lambda *_: [scores])
    for array in (semantic, affinity, scores):
        array.attach_grad()
    with mx.autograd.record():
        loss = system.panoptic_loss(Maps([semantic], [], [], semantic, affinity), batch, [channels])
    loss.backward()
    assert loss.asscalar() == pytest.approx(float(pipeline['loss']), rel=1e-5)
    gradient = affinity.grad.asnumpy()[0].reshape(-1, height * width).T
    np.testing.assert_allclose(gradient, pipeline['grad_Q'], rtol=1e-4,
                               atol=1e-5 * np.abs(pipeline['grad_Q']).max())
    of_scores = _by_score(pipeline, channels.boxes, channels.classes)
    np.testing.assert_allclose(scores.grad.asnumpy(), of_scores, rtol=1e-4,
                               atol=1e-5 * np.abs(of_scores).max())


def _by_score(case: dict[str, np.ndarray], boxes: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Gradient of scores, by hand from that of the potentials: psi = s V inside the box."""
    y, x = (np.arange(length) * 4 + 2 for length in case['V'].shape[1:])
    gradients = []
    for gradient, (x0, y0, x1, y1), kind in zip(case['grad_psi'], boxes, classes):
        inside = ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))
        gradients.append((gradient * case['V'][STUFF + kind] * inside).sum())
    return np.array(gradients)
