"""Potentials, affinity and argmax together against double precision, and small stuff."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.runtime import mx
from adaptis.types import Category, Taxonomy
from panoptic_baselines.rcnn.proposals import Detections
from panoptic_baselines.unified.network import Maps
from panoptic_baselines.unified.predictor import PanopticLogits, UnifiedSegmentation, to_result
from panoptic_baselines.unified.settings import UnifiedSettings
from tests.panoptic_baselines.unified.conftest import make_network


@pytest.fixture(scope='module')
def pipeline(unified_kit):
    return dict(np.load(unified_kit / 'pipeline.npz'))


@pytest.fixture(params=[('float64', 1e-10), ('float32', 1e-4)], ids=lambda param: param[0])
def precision(request):
    """A type, and how close its numbers come."""
    return request.param


@pytest.fixture
def net(pipeline, precision):
    net = make_network(masks=False, num_stuff=int(pipeline['n_stuff']), num_things=2,
                       affinity_channels=pipeline['Q'].shape[1])
    net.affinity.cast(precision[0])
    for i, phi in enumerate((net.affinity.phi0, net.affinity.phi1)):
        phi.weight.set_data(mx.nd.array(pipeline[f'W{i}'][..., None, None], dtype=precision[0]))
        phi.bias.set_data(mx.nd.array(pipeline[f'b{i}'], dtype=precision[0]))
    return net


def found(pipeline):
    """The detections that are no duplicates."""
    kept = ~pipeline['removed_duplicate']
    return Detections(pipeline['det_boxes'][kept], pipeline['det_scores'][kept],
                      pipeline['det_classes'][kept] - pipeline['n_stuff'], np.flatnonzero(kept))


def as_arrays(seen, dtype):
    """Boxes, classes and scores."""
    return [mx.nd.array(part, dtype=dtype) for part in (seen.boxes, seen.classes, seen.scores)]


def close(found, expected, tolerance):
    """Also relative to the largest, as sums of large numbers may be small."""
    np.testing.assert_allclose(found.asnumpy(), expected, rtol=tolerance,
                               atol=tolerance / 10 * np.abs(expected).max())


@pytest.mark.parametrize('hybridize', [False, True])
def test_pipeline(net, pipeline, precision, hybridize):
    """With padding on two sides, in a batch of two."""
    dtype, tolerance = precision
    net.hybridize(hybridize)
    height, width = pipeline['V'].shape[1:]
    features = pipeline['Q'].T.reshape(1, -1, height, width)
    grow = ((1, 0), (0, 0), (0, 2), (0, 6))
    semantic, affinity = (mx.nd.array(np.pad(a, grow, constant_values=3), dtype=dtype)
                          for a in (np.log(pipeline['V'])[None], features))
    semantic.attach_grad()
    affinity.attach_grad()
    with mx.autograd.record():
        logits = net.panoptic_logits(Maps([], [], [], semantic, affinity), 1,
                                     (4 * height, 4 * width - 3),
                                     *as_arrays(found(pipeline), dtype))
    logits.backward(mx.nd.array(pipeline['grad_P'][None], dtype=dtype))
    close(logits[0], pipeline['P'], tolerance)
    np.testing.assert_array_equal(logits[0].asnumpy().argmax(axis=0), pipeline['prediction'])
    close(affinity.grad[1, :, :height, :width],
          pipeline['grad_Q'].T.reshape(-1, height, width), tolerance)
    gradient = affinity.grad.asnumpy()
    assert not gradient[0].any() and not gradient[1, :, height:].any()
    assert np.abs(semantic.grad[1].asnumpy()[:, :height, :width]).max() > 0


def test_potentials_and_their_gradient(net, pipeline, precision):
    dtype, tolerance = precision
    potentials = net.potentials(mx.nd.array(pipeline['V'][None], dtype=dtype),
                                *as_arrays(found(pipeline), dtype))
    close(potentials[0], pipeline['psi'], min(tolerance, 1e-5))
    potentials.attach_grad()
    features = mx.nd.array(pipeline['Q'].T.reshape(1, -1, *pipeline['V'].shape[1:]), dtype=dtype)
    with mx.autograd.record():
        logits = net.affinity(features, potentials)
    logits.backward(mx.nd.array(pipeline['grad_P'][None], dtype=dtype))
    close(potentials.grad[0], pipeline['grad_psi'], tolerance)


def test_result_at_the_size_of_the_image(pipeline):
    """Fourfold upsampling of the logits, bilinear, before the argmax."""
    height, width = pipeline['V'].shape[1:]
    size = 4 * height, 4 * width
    seen = found(pipeline)
    image = UnifiedSegmentation(pipeline['V'].astype(np.float32), size, size,
                                channels=PanopticLogits(seen, pipeline['P'].astype(np.float32)))
    upsampled = mx.nd.contrib.BilinearResize2D(mx.nd.array(pipeline['P'][None]), scale_height=4,
                                               scale_width=4, align_corners=False)[0].asnumpy()
    assert (image.channel_map == upsampled.argmax(axis=0)).mean() > 0.999
    num_stuff = int(pipeline['n_stuff'])
    taxonomy = Taxonomy([Category(i + 1, str(i), i >= num_stuff) for i in range(5)])
    result = to_result(image.channel_map, seen, taxonomy)
    classes = [*(seen.classes + num_stuff), *range(num_stuff)]
    for segment, channel in zip(result.segments, np.unique(image.channel_map)):
        np.testing.assert_array_equal(result.segment_map == segment.id,
                                      image.channel_map == channel)
        assert segment.category_id == classes[channel] + 1
        assert segment.isthing == (channel < len(seen.scores))
        assert segment.score == pytest.approx(seen.scores[channel] if segment.isthing else 1)
    instances = image.instances
    assert len(instances) == len(result.things)
    assert instances.masks.sum() == sum(s.area for s in result.things)


def test_small_stuff_becomes_void(unified_kit):
    """Ids below 1000 are stuff; a segment of exactly the limit, and small things, stay."""
    golden = np.load(unified_kit / 'trim.npz')
    ids, limit, void = golden['ids'], int(golden['limit']), int(golden['void'])
    things = ids[ids >= 1000]
    order = [*things, *ids[ids < 1000]]
    channel_map = np.argmax([golden['panoptic'] == i for i in order], axis=0).astype(np.int32)
    taxonomy = Taxonomy([*(Category(int(i) + 1, str(i), False) for i in ids[ids < 1000]),
                         Category(1001, 'thing', True)])
    seen = Detections(np.zeros((len(things), 4), np.float32), np.ones(len(things), np.float32),
                      np.zeros(len(things), np.int64), np.arange(len(things)))

    def trimmed(limit):
        result = to_result(channel_map, seen, taxonomy, limit)
        names = {0: void}   # things come first
        for s in result.segments:
            names[s.id] = things[s.id - 1] if s.isthing else s.category_id - 1
            assert (result.segment_map == s.id).sum() == s.area
        return np.vectorize(names.get)(result.segment_map)

    np.testing.assert_array_equal(trimmed(limit), golden['trimmed'])
    np.testing.assert_array_equal(trimmed(0), golden['panoptic'])
    assert UnifiedSettings().stuff_area_limit == 0
