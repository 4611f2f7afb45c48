"""The joint losses and their gradients against the official code: two images, the whole network."""
from __future__ import annotations

import json

import numpy as np
import pytest

from adaptis.model.zoo import set_parameters
from adaptis.runtime import mx
from adaptis.types import TOY_TAXONOMY
from panoptic_baselines.layers.boxes import encode
from panoptic_baselines.panoptic_fpn.convert import detectron2_name
from panoptic_baselines.panoptic_fpn.network import PanopticFPN
from panoptic_baselines.panoptic_fpn.training import PanopticFPNSystem
from panoptic_baselines.rcnn.mask_targets import polygon_targets
from panoptic_baselines.rcnn.nearby import anchor_grids, anchor_targets
from panoptic_baselines.rcnn.proposals import BOX_WEIGHTS
from panoptic_baselines.rcnn.targets import padded_targets
from panoptic_baselines.rcnn.training import RoIs
from tests.golden import weights
from tests.golden.reading import Arrays, stored

SIZE = 128, 160
LOSSES = {'loss_rpn_cls': 'rpn_objectness', 'loss_rpn_loc': 'rpn_boxes', 'loss_cls': 'classes',
          'loss_box_reg': 'boxes', 'loss_mask': 'masks', 'loss_sem_seg': 'semantic'}


@pytest.fixture(scope='module')
def case(parity_root):
    """Arrays and numbers of the case."""
    folder = parity_root / 'panoptic_fpn' / 'training'
    return Arrays.load(folder / 'e2e.npz'), json.loads((folder / 'e2e.json').read_text())


@pytest.fixture(scope='module')
def trained(parity_root, case):
    """The losses and, by official name, the parameters after one backward pass."""
    arrays, _ = case
    net = PanopticFPN()
    net.initialize()
    official = weights.load(parity_root / 'panoptic_fpn' / 'names.json')
    set_parameters(net, {detectron2_name(k): mx.nd.array(v) for k, v in official.items()}, 'kit')
    system = PanopticFPNSystem(net, TOY_TAXONOMY, hybridize=True)   # not looked at here
    system.sample_rois = lambda maps, batch: _rois(arrays)   # what the official code had sampled
    batch = {key: mx.nd.array(value, dtype='float32') for key, value in _batch(arrays).items()}
    with mx.autograd.record():
        losses = system.losses(batch)
        total = sum(losses.values())
    total.backward()
    learned = set(system.parameters())
    ours = net._collect_params_with_prefix()
    parameters = {name: ours[detectron2_name(name)] for name in official}
    return losses, {n: p for n, p in parameters.items() if p.name in learned}


def _batch(arrays):
    grids = anchor_grids([(-(-SIZE[0] // s), -(-SIZE[1] // s)) for s in (4, 8, 16, 32, 64)],
                         (32, 64, 128, 256, 512))
    batch = {'image': np.zeros((2, 3, *SIZE)), 'sizes': np.zeros((2, 2)),
             'semantic': np.full((2, *SIZE), -1)}
    sampled = []
    for k in range(2):
        height, width = batch['sizes'][k] = arrays[f'image_{k}'].shape[:2]
        batch['image'][k, :, :height, :width] = arrays[f'image_{k}'][..., ::-1].transpose(2, 0, 1)
        labels = arrays[f'sem_seg_{k}'].astype(int)
        batch['semantic'][k, :height, :width] = np.where(labels == 255, -1, labels)
        sampled.append(padded_targets(anchor_targets(
            grids, *(arrays[f'rpn_{what}_{k}'] for what in ('pos', 'neg', 'pos_gt'))), 256))
    return {**batch, **{key: np.stack([s[key] for s in sampled]) for key in sampled[0]}}


def _rois(arrays):
    boxes = [arrays[f'roi_boxes_{k}'] for k in range(2)]
    classes = [arrays[f'roi_classes_{k}'] for k in range(2)]
    objects = [c < 80 for c in classes]
    deltas = [np.zeros_like(b) for b in boxes]
    for k in range(2):
        deltas[k][objects[k]] = encode(boxes[k][objects[k]],
                                       arrays[f'roi_gt_boxes_{k}'][objects[k]], BOX_WEIGHTS)
    return RoIs(boxes, np.concatenate(classes), np.concatenate(deltas),
                [b[o] for b, o in zip(boxes, objects)],
                np.concatenate([c[o] for c, o in zip(classes, objects)]),
                np.concatenate([_masks(arrays, k) for k in range(2)]))


def _masks(arrays, k):
    bits = np.unpackbits(arrays[f'mask_target_bits_{k}'], axis=1)
    return bits[:, :28 * 28].reshape(-1, 28, 28)


def test_the_six_losses(case, trained):
    losses, _ = trained
    for official, ours in LOSSES.items():
        assert losses[ours].asscalar() == pytest.approx(case[1]['losses'][official], rel=1e-5)


def test_what_is_trained_and_decays(parity_root, trained):
    text = (parity_root / 'panoptic_fpn' / 'training' / 'schedule.json').read_text()
    decay = json.loads(text)['trainable']
    assert {name: 1e-4 * p.wd_mult for name, p in trained[1].items()} == decay


def test_all_gradient_norms(case, trained):
    official = case[1]['grad_norm']
    assert set(official) == set(trained[1])
    for name, norm in official.items():
        gradient = trained[1][name].grad().asnumpy().astype(np.float64)
        assert np.linalg.norm(gradient) == pytest.approx(norm, rel=1e-3), name


def test_pieces_of_gradients(case, trained):
    pieces = {key[len('grad/'):]: a for key, a in case[0].items() if key.startswith('grad/')}
    assert len(pieces) == 20
    for name, official in pieces.items():
        whole = trained[1][name].grad().asnumpy()
        ours = whole.reshape(whole.shape[:official.ndim] + (-1,))[..., 0] \
            if whole.shape[2:] == (1, 1) else whole
        ours = ours[tuple(slice(n) for n in official.shape)]
        bound = 3e-3 if 'bottom_up' in name else 1e-3
        ours, official = stored(ours, official)
        assert np.linalg.norm(ours - official) <= bound * np.linalg.norm(official), name


def test_mask_targets_from_polygons(case):
    arrays, info = case
    for k in range(2):
        objects = arrays[f'roi_classes_{k}'] < 80
        which = [int(np.abs(arrays[f'gt_boxes_{k}'] - box).sum(axis=1).argmin())
                 for box in arrays[f'roi_gt_boxes_{k}'][objects]]
        targets = polygon_targets([info['polygons'][k][i] for i in which],
                                  arrays[f'roi_boxes_{k}'][objects])
        np.testing.assert_array_equal(targets, _masks(arrays, k))
