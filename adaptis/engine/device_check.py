"""Compare a device with the CPU: losses, gradients and maps of one system's small network.

The reference runs on the CPU without ``hybridize``; the device runs the same weights, batches and
random numbers through cached graphs.
"""
from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import numpy as np

from adaptis.config import OptimizerConfig, StageConfig
from adaptis.data.batches import Batch, BatchSource
from adaptis.engine.steps import make_trainer, prepare_gradients, seed_everything, train_step
from adaptis.registry import ModelFamily
from adaptis.runtime import mx
from adaptis.types import Category, Sample, Taxonomy

TAXONOMY = Taxonomy([Category(1, 'sky', False), Category(2, 'ground', False),
                     Category(3, 'box', True), Category(4, 'disc', True)])
OBJECTS = (3, 7)   # objects per image in the first and in the second step
TRAINED_SIZE = (96, 128)
PREDICTED_SIZES = ((64, 96), (96, 64))
_COLORS = np.array([(200, 220, 255), (90, 160, 80), (250, 40, 40), (30, 30, 160)])
_STEP = StageConfig(2, OptimizerConfig(lr=1e-3, name='sgd', options={'momentum': 0.9}))


class Trained(NamedTuple):
    """The result of a training step: ``losses`` and ``gradients`` by name, and its seconds."""

    losses: dict[str, float]
    gradients: dict[str, np.ndarray]
    seconds: float


@dataclass(frozen=True)
class Scenes(Sequence):
    """Images of the same size with ``objects`` rectangles each, above sky and ground."""

    size: tuple[int, int]
    objects: int
    taxonomy = TAXONOMY

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        if index >= len(self):
            raise IndexError(index)
        height, width = self.size
        rng = np.random.default_rng((index, self.objects))
        semantic = np.zeros(self.size, np.int32)
        semantic[height // 2:] = 1
        instances = np.zeros(self.size, np.int32)
        classes = {k: 2 + k % 2 for k in range(1, self.objects + 1)}
        for k, kind in classes.items():
            top, left = rng.integers(0, height * 2 // 3), rng.integers(0, width * 2 // 3)
            area = np.s_[top:top + rng.integers(12, 48), left:left + rng.integers(12, 48)]
            semantic[area], instances[area] = kind, k
        noise = rng.integers(-20, 21, (*self.size, 3))
        image = np.clip(_COLORS[semantic] + noise, 0, 255).astype(np.uint8)
        shown = set(np.unique(instances).tolist())
        return Sample(image, instances, {k: c for k, c in classes.items() if k in shown}, semantic,
                      name=f'scene {index}')


class Side:
    """A network on some devices, with its system and its optimizer.

    Parameters
    ----------
    family : the family of the system
    model, options : the network's name and arguments, and those of the system
    contexts : the devices; they share a batch
    hybridize : train through cached graphs
    weights : values of the parameters; by default random ones
    """

    def __init__(self, family: ModelFamily, model: Mapping[str, Any], contexts: Sequence[Any],
                 hybridize: bool, options: Mapping[str, Any],
                 weights: Optional[Mapping[str, np.ndarray]] = None):
        self.family, self.contexts = family, list(contexts)
        seed_everything(0, 0, 0)
        self.net = family.build(model, self.contexts)
        self.system = family.make_system(self.net, TAXONOMY, family.stages[0],
                                         hybridize=hybridize, **options)
        self._parameters = self.net._collect_params_with_prefix()
        self.set_weights(weights or {})
        self._trainer = make_trainer(self.system, _STEP, 'device')
        prepare_gradients(self._trainer, accumulate=False)

    def weights(self) -> dict[str, np.ndarray]:
        """Return the values of all parameters."""
        return {name: p.data(self.contexts[0]).asnumpy() for name, p in self._parameters.items()}

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Set parameters by name."""
        for name, values in weights.items():
            self._parameters[name].set_data(mx.nd.array(values))

    def train(self, step: int) -> Trained:
        """Do a step with a batch of two images; their number of objects depends on the step."""
        batch = self._batch(step)
        seed_everything(0, 0, step)
        if hasattr(self.system, 'begin_step'):
            self.system.begin_step(step)
        began = time.perf_counter()
        losses = train_step(self.system, self._trainer, batch, self.contexts)
        gradients = {name: p.grad(self.contexts[0]).asnumpy()
                     for name, p in self._parameters.items() if p.grad_req != 'null'}
        return Trained(losses, gradients, time.perf_counter() - began)

    def maps(self, size: tuple[int, int]) -> list[np.ndarray]:
        """Return the outputs of the network's encoder for an image of ``size``."""
        image = _picture(size).transpose(2, 0, 1)[None]
        outputs = self.net.encoder(mx.nd.array(image, self.contexts[0], 'float32'))
        return [array.asnumpy() for array in _flat(outputs)]

    def predict(self, size: tuple[int, int]) -> np.ndarray:
        """Return the class index and the segment of every pixel of an image: int (2, H, W)."""
        seed_everything(0, 1, 0)
        settings = self.family.presets['toy' if 'toy' in self.family.presets else 'toy_v1']
        predictor = self.family.make_predictor(self.net, settings, TAXONOMY, (), self.contexts[0])
        result = self.family.evaluation_result(predictor.set_image(_picture(size)))
        classes = np.full(1 + max([0, *(s.id for s in result.segments)]), -1)
        for segment in result.segments:
            classes[segment.id] = TAXONOMY.index(segment.category_id)
        return np.stack([classes[result.segment_map], result.segment_map])

    def _batch(self, step: int) -> Batch:
        objects = OBJECTS[step % len(OBJECTS)]
        points = objects + 1 if self.family.uses_points else None
        targets = None if points else self.system.targets()
        return BatchSource(Scenes(TRAINED_SIZE, objects), 2, points, targets=targets,
                           shuffle=False).batch(0)


def loss_error(found: Trained, expected: Trained) -> float:
    """Return the largest difference of a loss, relative to the loss or a tenth of the sum."""
    floor = 0.1 * sum(map(abs, expected.losses.values()))
    return max(abs(found.losses[name] - value) / max(abs(value), floor, 1e-12)
               for name, value in expected.losses.items())


def total_error(found: Trained, expected: Trained) -> float:
    """Return the difference of the sum of the losses, relative to that sum."""
    total = sum(expected.losses.values())
    return abs(sum(found.losses.values()) - total) / max(abs(total), 1e-12)


def gradient_error(found: Trained, expected: Trained) -> tuple[float, str]:
    """Return the largest error of a parameter's gradient, and the parameter's name.

    It is the norm of the difference relative to the norm of the gradient, or to a hundredth of the
    largest gradient norm if the parameter's own is smaller (a bias before a norm has no gradient).
    """
    return _largest_error(found.gradients, expected.gradients, 1e-2)


def update_error(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray],
                 before: Mapping[str, np.ndarray]) -> float:
    """Return the error of the weights after a step, measured as that of gradients."""
    return _largest_error({name: found[name] - before[name] for name in before},
                          {name: expected[name] - before[name] for name in before}, 1e-2)[0]


def _largest_error(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray],
                   least: float) -> tuple[float, str]:
    lengths = {name: float(np.linalg.norm(array)) for name, array in expected.items()}
    floor = max(least * max(lengths.values()), 1e-30)
    errors = {name: float(np.linalg.norm(found[name] - array)) / max(lengths[name], floor)
              for name, array in expected.items()}
    worst = max(errors, key=lambda name: np.inf if np.isnan(errors[name]) else errors[name])
    return errors[worst], worst


def map_error(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Return the largest error of a map: the norm of the difference, relative to the map's norm."""
    return max(float(np.linalg.norm(a - b)) / max(float(np.linalg.norm(b)), 1e-30)
               for a, b in zip(found, expected))


def _picture(size: tuple[int, int]) -> np.ndarray:
    return Scenes(size, OBJECTS[0])[0].image


def _flat(outputs: Any) -> list[Any]:
    if isinstance(outputs, (list, tuple)):
        return [array for each in outputs for array in _flat(each)]
    return [outputs]
