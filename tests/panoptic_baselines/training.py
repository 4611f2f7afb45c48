"""Helpers for tests of the ports' training: images to learn from, and checks of gradients."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adaptis.runtime import mx
from adaptis.types import Category, Sample, Taxonomy

TAXONOMY = Taxonomy([Category(1, 'sky', False), Category(2, 'ground', False),
                     Category(3, 'disc', True), Category(4, 'bar', True)])
COLORS = ((200, 220, 255), (90, 160, 80), (250, 40, 40), (30, 30, 160))
OBJECTS = ((8, 6, 40, 34, 2), (30, 38, 60, 62, 3))


def scene(height: int = 64, width: int = 64, objects: Sequence[tuple] = OBJECTS,
          colors: Sequence[tuple] = COLORS) -> Sample:
    """Sky above ground, and rectangles (top, left, bottom, right, class), the later in front.

    Every class has a color.
    """
    semantic = np.zeros((height, width), np.int32)
    semantic[height // 2:] = 1
    instances = np.zeros((height, width), np.int32)
    for k, (top, left, bottom, right, kind) in enumerate(objects):
        semantic[top:bottom, left:right] = kind
        instances[top:bottom, left:right] = 5 * k + 5
    classes = {5 * k + 5: o[4] for k, o in enumerate(objects)}
    return Sample(np.uint8(colors)[semantic], instances, classes, semantic)


def host_batch(system: Any, *samples: Sample) -> dict[str, np.ndarray]:
    """A batch as the data processes hand it on."""
    return system.targets()(samples, [np.random.default_rng(i) for i in range(len(samples))])


def to_device(system: Any, batch: dict[str, np.ndarray]) -> dict[str, Any]:
    """A batch as the losses take it."""
    return {key: value if key in system.host_keys else mx.nd.array(value, dtype='float32')
            for key, value in batch.items()}


def make_batch(system: Any, *samples: Sample) -> dict[str, Any]:
    """Samples as the losses take them."""
    return to_device(system, host_batch(system, *samples))


def learn(system: Any, batch: dict[str, Any], only: str = ''
          ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Losses and gradients by name, of one loss if ``only`` names it.

    What a pass leaves untouched has a gradient of 0.
    """
    np.random.seed(0)
    for parameter in system.parameters().values():
        parameter.zero_grad()
    with mx.autograd.record():
        losses = system.losses(batch)
        total = losses[only] if only else sum(losses.values())
    total.backward()
    names = {p.name: n for n, p in system.net._collect_params_with_prefix().items()}
    return ({name: float(loss.asscalar()) for name, loss in losses.items()},
            {names[k]: p.grad().asnumpy() for k, p in system.parameters().items()})


def assert_a_graph_gives_the_same(system: Any, batch: dict[str, Any],
                                  losses: dict[str, float], gradients: dict[str, np.ndarray],
                                  near: float = 1e-3) -> None:
    """``system`` is hybridized; losses and gradients are those of the one that is not.

    Sums are in another order: gradients may differ by ``near`` of their deviation.
    """
    graph_losses, graph_gradients = learn(system, batch)
    assert set(graph_losses) == set(losses)
    for name, loss in losses.items():
        assert abs(graph_losses[name] - loss) <= 1e-4 * abs(loss), name
    for name, gradient in gradients.items():
        np.testing.assert_allclose(graph_gradients[name], gradient, rtol=10 * near,
                                   atol=near * gradient.std() + 1e-7, err_msg=name)


def assert_backbone_is_frozen(gradients: dict[str, np.ndarray]) -> None:
    """The stem, the first stage and all norms of the backbone learn nothing."""
    assert not any(name.startswith(('encoder.backbone.stem', 'encoder.backbone.res2'))
                   or 'running' in name or ('backbone' in name and 'norm' in name)
                   for name in gradients)
    assert any(name.startswith('encoder.backbone.res3') for name in gradients)
