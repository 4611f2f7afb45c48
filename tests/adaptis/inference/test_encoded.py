"""A network whose maps are smaller than its image: the order of resizing and nonlinearity."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.inference.encoded import NetworkEncoder
from adaptis.inference.settings import Settings
from adaptis.runtime import mx

RNG = np.random.RandomState(0)
SEMANTIC = RNG.randn(1, 3, 9, 11).astype(np.float32) * 3
PROPOSALS = RNG.randn(1, 1, 9, 11).astype(np.float32) * 3
MASKS = RNG.randn(5, 1, 9, 11).astype(np.float32) * 3


class Head:
    """The point head of ``Quarter``."""

    _active = False

    def split(self):
        return lambda features: features, self

    def __call__(self, features, queries, points):
        rows = points[0, :, 0].asnumpy().astype(int)
        return mx.nd.array(MASKS[rows])


class Quarter:
    """Answers with fixed logits on a small grid."""

    num_classes, num_stuff = 3, 2

    def __init__(self, proposals: bool = True):
        self._proposals = [mx.nd.array(PROPOSALS)] if proposals else []
        self.point_head = Head()

    def collect_params(self):
        return {}

    _collect_params_with_prefix = collect_params

    def encoder(self, image):
        return (image, image, mx.nd.array(SEMANTIC), *self._proposals)


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
    encoded = NetworkEncoder(Quarter(), Settings(batch_size=2))(np.zeros((*size, 3), np.uint8))
    exponents = np.exp(SEMANTIC[0])
    classes = resize(exponents / exponents.sum(axis=0), size)
    np.testing.assert_allclose(encoded.stuff_prob, classes[:2], atol=1e-5)
    np.testing.assert_allclose(encoded.things_prob, classes[2:], atol=1e-5)
    np.testing.assert_allclose(encoded.proposals_prob, sigmoid(resize(PROPOSALS[0, 0], size)) ** 2,
                               atol=1e-5)
    points = np.array([[4, 0], [0, 0], [2, 1]], np.float32)  # more than a batch
    np.testing.assert_allclose(encoded.masks_at(points), resize(sigmoid(MASKS[[4, 0, 2], 0]), size),
                               atol=1e-5)
    assert encoded.masks_at(np.zeros((0, 2))).shape == (0, *size)


def test_a_network_without_proposals():
    image = np.zeros((20, 20, 3), np.uint8)
    encoded = NetworkEncoder(Quarter(proposals=False), Settings())(image)
    assert encoded.proposals_prob is None
    flipped = NetworkEncoder(Quarter(proposals=False), Settings(flip=True))(image)
    assert flipped.proposals_prob is None


def test_logits_that_are_not_numbers_are_reported():
    class Broken(Head):
        def __call__(self, *arguments):
            return super().__call__(*arguments) * float('nan')

    net = Quarter()
    net.point_head = Broken()
    encoded = NetworkEncoder(net, Settings())(np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(AdaptisError, match='masks'):
        encoded.masks_at(np.zeros((1, 2)))
