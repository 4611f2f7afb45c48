"""A network whose maps are smaller than its image: the order of resizing and nonlinearity."""
from __future__ import annotations

from typing import Optional

import numpy as np
import pytest

from adaptis.deploy.stages import Interface, Signature
from adaptis.errors import AdaptisError
from adaptis.inference.encoded import ImageEncoder, InferenceNetwork, NetworkRunner
from adaptis.inference.settings import AdaptISSettings
from adaptis.model import get_model

RNG = np.random.RandomState(0)
SEMANTIC = RNG.randn(1, 3, 9, 11).astype(np.float32) * 3
PROPOSALS = RNG.randn(1, 1, 9, 11).astype(np.float32) * 3
MASKS = RNG.randn(5, 1, 9, 11).astype(np.float32) * 3


class Quarter:
    """Runs the stages of a network that answers with fixed maps on a small grid."""

    device = 'cpu'

    def __init__(self, masks: np.ndarray = MASKS, proposals: bool = True,
                 best_batch: Optional[int] = None):
        self._masks, self.best_batch = masks, best_batch
        self.batches = []
        self.stages = {'features': Interface((Signature('image', (1, 3, 'H', 'W')),), ('shared',)),
                       'points': Interface((Signature('shared', (1, 3, 'H', 'W')),
                                            Signature('points', (1, 'N', 2))), ('masks',)),
                       'semantics': Interface((), ('classes',))}
        if proposals:
            self.stages['proposals'] = Interface((), ('logits',))

    def run(self, stage, *arrays):
        if stage == 'points':
            rows = arrays[1][0, :, 0].astype(int)
            self.batches.append(len(rows))
            return [sigmoid(self._masks[rows])]
        exponents = np.exp(SEMANTIC)
        return {'features': arrays, 'proposals': [PROPOSALS],
                'semantics': [exponents / exponents.sum(axis=1, keepdims=True)]}[stage]


PLAIN = AdaptISSettings()


def encode(image, settings=PLAIN, **options):
    return ImageEncoder(InferenceNetwork(Quarter(**options), num_classes=3, num_stuff=2),
                          settings)(image)


def resize(maps: np.ndarray, size) -> np.ndarray:
    """Bilinear with aligned corners: output i looks at i * (in - 1) / (out - 1)."""
    for axis, out in ((-2, size[0]), (-1, size[1])):
        at = np.arange(out) * (maps.shape[axis] - 1) / (out - 1)
        low = np.minimum(at.astype(int), maps.shape[axis] - 2)
        weight = (at - low).reshape((-1, 1) if axis == -2 else (-1,))
        maps = (np.take(maps, low, axis) * (1 - weight)
                + np.take(maps, low + 1, axis) * weight)
    return maps


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_order_of_resizing_and_nonlinearities():
    size = (33, 41)
    encoded = encode(np.zeros((*size, 3), np.uint8), AdaptISSettings(batch_size=2))
    exponents = np.exp(SEMANTIC[0])
    classes = resize(exponents / exponents.sum(axis=0), size)
    np.testing.assert_allclose(encoded.stuff_prob, classes[:2], atol=1e-5)
    np.testing.assert_allclose(encoded.things_prob, classes[2:], atol=1e-5)
    np.testing.assert_allclose(encoded.proposals_prob, sigmoid(resize(PROPOSALS[0, 0], size)) ** 2,
                               atol=1e-5)
    points = np.array([[4, 0], [0, 0], [2, 1]], np.float32)  # more than a batch
    np.testing.assert_allclose(encoded.masks_at(points), resize(sigmoid(MASKS[[4, 0, 2], 0]), size),
                               atol=1e-5)
    assert encoded._runner.batches == [2, 1]
    assert encoded.masks_at(np.zeros((0, 2))).shape == (0, *size)


@pytest.mark.parametrize('flip', [False, True])
def test_a_runner_that_is_fastest_point_by_point(flip):
    encoded = encode(np.zeros((20, 20, 3), np.uint8), AdaptISSettings(batch_size=3, flip=flip),
                     best_batch=1)
    points = np.array([[4, 0], [0, 0]], np.float32)
    several = encode(np.zeros((20, 20, 3), np.uint8), AdaptISSettings(batch_size=3, flip=flip))
    np.testing.assert_array_equal(encoded.masks_at(points), several.masks_at(points))
    one = encoded._plain if flip else encoded
    assert encoded.batch_size == 1 and one._runner.batches == [1, 1] * (1 + flip)


def test_a_network_without_proposals():
    image = np.zeros((20, 20, 3), np.uint8)
    assert encode(image, proposals=False).proposals_prob is None
    assert encode(image, AdaptISSettings(flip=True), proposals=False).proposals_prob is None


def test_probabilities_that_are_not_numbers_are_reported():
    encoded = encode(np.zeros((20, 20, 3), np.uint8), masks=MASKS * np.float32('nan'))
    with pytest.raises(AdaptisError, match='masks'):
        encoded.masks_at(np.zeros((1, 2)))


def test_a_network_that_is_hybridized_later_is_from_then_on():
    net = get_model('adaptis_toy', width=2)
    net.initialize()
    runner = NetworkRunner(net)
    image = np.zeros((1, 3, 16, 16), np.float32)
    plain = runner.run('features', image)
    assert runner._blocks() is runner._blocks()
    net.hybridize(static_alloc=True)
    for one, other in zip(plain, runner.run('features', image)):
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), atol=1e-6)
    block = runner._blocks()._blocks['features']
    assert block._active and dict(block._flags)['static_alloc']
