"""Costs that are read off a graph, against small networks worked out by hand."""
from __future__ import annotations

import pytest

from adaptis.model import get_model
from adaptis.model.graph import multiply_adds, parameter_count, peak_bytes, trace
from adaptis.runtime import mx

nn = mx.gluon.nn


class Products(mx.gluon.HybridBlock):
    """Products of (4, 6) and of (2, 5, 3), each with itself transposed on either side."""

    def hybrid_forward(self, F, a, b):
        return (F.dot(a, a, transpose_b=True), F.batch_dot(b, b, transpose_b=True),
                F.dot(a, a, transpose_a=True), F.batch_dot(b, b, transpose_a=True))


def stack(*layers):
    net = nn.HybridSequential()
    net.add(*layers)
    return net


@pytest.mark.parametrize('layer, shape, expected', [
    # Output values x inputs that each of them sums up.
    (lambda: nn.Conv2D(4, 3, padding=1), (2, 3, 8, 10), 2 * 4 * 8 * 10 * 3 * 9),
    (lambda: nn.Conv2D(4, 3, strides=2, use_bias=False), (1, 3, 9, 9), 4 * 4 * 4 * 3 * 9),
    (lambda: nn.Conv2D(6, 3, padding=1, groups=6), (1, 6, 5, 7), 6 * 5 * 7 * 9),
    (lambda: nn.Conv2D(8, 1, groups=2), (1, 6, 5, 7), 8 * 5 * 7 * 3),
    (lambda: nn.Conv2D(4, 3, dilation=2), (1, 2, 10, 10), 4 * 6 * 6 * 2 * 9),
    (lambda: nn.Dense(5), (7, 3), 7 * 5 * 3),
    # Every input value goes into 4 x 4 places of each output channel of its group.
    (lambda: nn.Conv2DTranspose(6, 4, strides=2, padding=1), (1, 3, 5, 7), 3 * 5 * 7 * 6 * 16),
    (lambda: nn.Conv2DTranspose(6, 4, strides=2, padding=1, groups=3), (1, 3, 5, 7),
     3 * 5 * 7 * 2 * 16),
    (lambda: stack(nn.Activation('relu'), nn.BatchNorm(), nn.MaxPool2D()), (1, 3, 8, 8), 0),
    (lambda: stack(nn.Conv2D(2, 1), nn.Conv2D(5, 1)), (1, 3, 4, 4), 16 * (3 * 2 + 2 * 5)),
])
def test_multiply_adds_of_layers(layer, shape, expected):
    assert multiply_adds(trace(layer(), shape)) == expected


def test_multiply_adds_of_products():
    graph = trace(Products(), (4, 6), (2, 5, 3))
    assert multiply_adds(graph) == 4 * 4 * 6 + 2 * 5 * 5 * 3 + 6 * 6 * 4 + 2 * 3 * 3 * 5
    assert graph.outputs == [(4, 4), (2, 5, 5), (6, 6), (2, 3, 3)]


def test_the_toy_head_by_hand():
    """Width 4 on 6 x 5: per point, and for two points just twice as much."""
    share, head = get_model('adaptis_toy', width=4).point_head.split()
    assert multiply_adds(trace(share, (1, 4, 6, 5))) == 30 * 4 * 4 * 9
    convolutions = 30 * (4 * 3 * 9 + 2 * 4 * 4 * 9 + 2 * 4 * 9 + 2)
    adain = 2 * 4 * 30 + 2 * 4 * 4  # sums for mean and variance; two dense layers
    for points in (1, 2):
        graph = trace(head, (1, 4, 6, 5), (1, 4, 6, 5), (1, points, 2))
        assert graph.outputs == [(points, 1, 6, 5)]
        assert multiply_adds(graph) == points * (convolutions + adain)


class Branches(mx.gluon.HybridBlock):
    """Splits, reshapes and joins: several outputs of one operator, and maps that live long."""

    def hybrid_forward(self, F, x):
        first, second = F.split(x * 2, num_outputs=2, axis=1)
        early = F.relu(second)
        late = F.relu(F.relu(first.reshape((0, -1))))
        return early, late


def test_peak_counts_what_is_alive_at_one_time():
    map_ = 4 * 4 * 16  # bytes of (1, 4, 4, 4)
    chain = stack(*(nn.Activation('relu') for _ in range(5)))
    assert peak_bytes(trace(chain, (1, 4, 4, 4))) == 2 * map_
    # The doubled input and its halves; then a half, its two successors and the early output.
    assert peak_bytes(trace(Branches(), (1, 4, 4, 4))) == 2 * map_
    concurrent = mx.gluon.contrib.nn.HybridConcurrent(axis=1)
    concurrent.add(*(nn.Activation('relu') for _ in range(3)))
    assert peak_bytes(trace(concurrent, (1, 4, 4, 4))) == 6 * map_


def test_peak_of_a_transposed_convolution_counts_its_buffer():
    layer = nn.Conv2DTranspose(6, 4, strides=2, padding=1)
    assert peak_bytes(trace(layer, (1, 3, 5, 7))) == 4 * (6 * 10 * 14 + 6 * 16 * 5 * 7)


def test_parameters_that_are_trained():
    net = stack(nn.Conv2D(4, 3, in_channels=3), nn.BatchNorm(in_channels=4))
    assert parameter_count(net) == 4 * 3 * 9 + 4 + 2 * 4  # no running statistics
