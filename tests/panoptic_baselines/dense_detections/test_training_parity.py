"""All losses of dense detections on one image, against golden data worked out from the paper."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from adaptis.types import Category, Sample, Taxonomy
from panoptic_baselines.dense_detections.boxes import dense_boxes
from panoptic_baselines.dense_detections.network import DenseDetections, DenseOutputs, Maps
from panoptic_baselines.dense_detections.training import DenseDetectionsSystem, Queries
from panoptic_baselines.fcos.targets import locations

LEVELS = [f'P{level}' for level in range(3, 8)]
CITYSCAPES = Taxonomy([Category(i + 1, f'class {i}', i >= 11) for i in range(19)])
SIZES = (12, 24, 36, 60)
nd = mx.nd


@pytest.fixture(scope='module')
def case(parity_root):
    folder = parity_root / 'realtime' / 'training'
    return dict(np.load(folder / 'total.npz'))


@pytest.fixture(scope='module')
def net():
    """What says how many classes there are; no test here asks it anything else."""
    net = DenseDetections(backbone='resnet18', fpn_channels=8, class_channels=8, box_channels=8)
    net.initialize()
    return net


@pytest.fixture(scope='module')
def dense(case):
    """What the network of the case says."""
    def levels(name):
        return [nd.array(case[f'{name}_{level}'][None]) for level in LEVELS]
    maps = Maps(levels('box_cls_logits'), levels('box_offsets'), levels('centerness_logits'),
                nd.array(case['sem_logits'][None]), nd.array(case['levelness_logits'][None]))
    return DenseOutputs(maps, nd.array(case['dense_boxes'].transpose(2, 0, 1)[None]), None)


def make(net, case, **options):
    """A system, and the batch that it makes of the image."""
    system = DenseDetectionsSystem(net, CITYSCAPES, sizes=SIZES, hybridize=True, **options)
    semantic = np.where(case['sem_target'] == 255, -1, case['sem_target'].astype(np.int32))
    sample = Sample(np.zeros((*case['ids'].shape, 3), np.uint8), case['ids'].astype(np.int32),
                    {i + 1: 10 + int(kind) for i, kind in enumerate(case['classes'])}, semantic)
    batch = system.targets()([sample], [None])
    return system, {key: value if key in system.host_keys else nd.array(value, dtype='float32')
                    for key, value in batch.items()}


def queries_of(case):
    begins = np.cumsum([0, *(case[f'box_offsets_{level}'][0].size for level in LEVELS)])
    cells, places, objects = [], [], case['target_of_query']
    for level, row, column in case['query_source']:
        shape = case[f'box_offsets_{LEVELS[level]}'].shape[1:]
        cell = row * shape[1] + column
        cells.append(begins[level] + cell)
        places.append(locations(shape, 8 * 2 ** level)[cell])
    return Queries(np.array(cells), np.array(places), objects)


@pytest.mark.parametrize('total, semantic_weight', [('cityscapes', 1.0), ('coco', 0.4)])
def test_every_loss_and_the_total(net, case, dense, total, semantic_weight):
    system, batch = make(net, case, semantic_weight=semantic_weight)
    assert batch['averages'].asnumpy()[0, 0] == case['out_N_fg']
    assert batch['labels'].size == case['out_N_locations']
    np.testing.assert_array_equal(batch['boxes'][0] - [0, 0, 1, 1], case['boxes'])
    losses = system.losses_from_maps(dense.maps, batch)
    losses['masks'] = system.mask_loss(dense, batch, [queries_of(case)])
    names = {'classes': 'box_cls', 'boxes': 'box_reg', 'centerness': 'center',
             'levelness': 'levelness', 'masks': 'mask'}
    for ours, official in names.items():
        assert losses[ours].asscalar() == pytest.approx(case[f'out_{official}'], rel=1e-5), ours
    semantic = losses['semantic'].asscalar() / semantic_weight
    assert semantic == pytest.approx(case['out_semantics'], rel=1e-5)
    assert sum(losses.values()).asscalar() == pytest.approx(case[f'out_total_{total}'], rel=1e-5)
    assert system.metrics() == {'queries': 6}


def test_other_choices_of_the_kit(net, case, dense):
    system, batch = make(net, case, box_loss='smooth_iou', focal_normalizer='foreground')
    losses = system.losses_from_maps(dense.maps, batch)
    assert losses['boxes'].asscalar() == pytest.approx(case['out_box_reg_plus1'], rel=1e-5)
    by_foreground = case['out_box_cls'] * case['out_N_locations'] / case['out_N_fg']
    assert losses['classes'].asscalar() == pytest.approx(by_foreground, rel=1e-5)


def test_parts_of_the_mask_loss(net, case):
    _, batch = make(net, case)
    masks = batch['pixels'].asnumpy().reshape(case['gt_masks_quarter'].shape[1:])
    for k, mask in enumerate(case['gt_masks_quarter']):
        np.testing.assert_array_equal(masks == k, mask)


def test_the_boxes_of_all_pixels_and_where_their_gradient_goes(case, dense):
    offsets = [x.copy() for x in dense.maps.distances]
    for x in offsets:
        x.attach_grad()
    with mx.autograd.record():
        boxes = dense_boxes(nd, offsets, nd.slice_axis(dense.maps.levelness, axis=1, begin=1,
                                                       end=None))
    boxes.backward()
    np.testing.assert_allclose(boxes.asnumpy()[0].transpose(1, 2, 0), case['dense_boxes'],
                               rtol=1e-5, atol=2e-5)
    pixels = [-x.grad.asnumpy()[0, 0].sum() for x in offsets]
    level = case['levelness_logits'][1:].argmax(axis=0)
    np.testing.assert_allclose(pixels, np.bincount(level.ravel(), minlength=5), rtol=1e-5)


def test_queries_are_what_is_detected_on_objects(net, case, dense):
    system, batch = make(net, case, queries=1000)
    (chosen,) = system.select_queries(dense.maps, batch)
    owners = batch['objects'][0]
    assert len(chosen.cells) and (owners[chosen.cells] == chosen.objects).all()
    assert (chosen.objects >= 0).all()
    (few,) = make(net, case, queries=3)[0].select_queries(dense.maps, batch)
    assert len(few.cells) <= 3
    places = np.concatenate([locations(case[f'box_offsets_{level}'].shape[1:], 8 * 2 ** i)
                             for i, level in enumerate(LEVELS)])
    np.testing.assert_array_equal(places[chosen.cells], chosen.locations)


def test_gradients_of_the_mask_loss_reach_boxes_of_queries_and_of_pixels(net, case, dense):
    system, batch = make(net, case)
    offsets = [x.copy() for x in dense.maps.distances]
    for x in offsets:
        x.attach_grad()
    queries = queries_of(case)
    with mx.autograd.record():
        maps = dense.maps._replace(distances=offsets)
        loss = system.mask_loss(dense._replace(maps=maps), batch, [queries])
    loss.backward()
    gradients = np.concatenate([x.grad.asnumpy().reshape(4, -1) for x in offsets], axis=1)
    assert np.flatnonzero(gradients.any(axis=0)).tolist() == sorted(queries.cells)
