"""Encode an image with a network: features once per image, masks per point.

The prediction wrapper of the official code uses a specific order of operations, which matters if
the maps are smaller than the image: masks are sigmoid, then resize; classes are softmax, then
resize; proposals are resize, then sigmoid, then square.  Resizing is bilinear with aligned corners.

In this module a network is a runner of its stages (``adaptis.model.stages``) and a few numbers, so
MXNet is loaded only for networks that consist of Gluon blocks.
"""
from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

import numpy as np

from adaptis.arrays import as_numpy, expit
from adaptis.deploy.attributes import check_attributes
from adaptis.deploy.backends import BlockRunner, Runner, network_lock, run_stage
from adaptis.deploy.stages import Interface
from adaptis.errors import AdaptisError
from adaptis.inference.encoded_image import EncodedImage, FlipAveraged
from adaptis.inference.memory import (
    Footprint,
    check_features,
    check_memory,
    device_memory,
    estimate_footprint,
    features_bytes,
    fitting_pixels,
    points_at_once,
)
from adaptis.inference.settings import AdaptISSettings
from adaptis.inference.upsample import upsample

MIN_SIDE = 16
"""Smaller images are padded to this size, because the network halves its input four times."""


_USUAL_FEATURES = 64   # numbers per pixel if the graph is not available


class InferenceNetwork(NamedTuple):
    """A network for inference.

    Attributes
    ----------
    runner : runs the stages
    num_classes, num_stuff : classes of the semantic branch, stuff first
    min_side : minimum side of an image, in pixels
    footprint : memory that the network needs; None if unknown
    """

    runner: Runner
    num_classes: int
    num_stuff: int
    min_side: int = MIN_SIDE
    footprint: Optional[Footprint] = None

    @classmethod
    def from_network(cls, net: Any, ctx: Any = None) -> InferenceNetwork:
        """Wrap an ``AdaptIS`` network; AdaptisError if a weight is not finite."""
        check_finite_weights(net)
        with network_lock(net):   # because its graphs are traced
            return cls.from_attributes(NetworkRunner(net, ctx), export_attributes(net))

    @classmethod
    def from_attributes(cls, runner: Runner, attributes: Mapping[str, Any]) -> InferenceNetwork:
        """Wrap a runner of stages and what ``export_attributes`` returned for the network.

        Raises AdaptisError if an attribute is missing or has the wrong type.
        """
        check_attributes({'num_classes': int, 'num_stuff': int, 'min_side': int}, attributes)
        footprint = attributes.get('footprint')
        if footprint is not None:
            check_attributes(dict.fromkeys(Footprint._fields, list), footprint)
            footprint = Footprint(**{name: footprint[name] for name in Footprint._fields})
        return cls(runner, attributes['num_classes'], attributes['num_stuff'],
                   attributes['min_side'], footprint)


def export_attributes(net: Any) -> dict[str, Any]:
    """Return what inference needs besides a network's stages, as plain data."""
    footprint = estimate_footprint(net)
    return {'num_classes': net.num_classes, 'num_stuff': net.num_stuff,
            'min_side': max(MIN_SIDE, net.min_side),
            'footprint': None if footprint is None else footprint._asdict()}


class ImageEncoder:
    """Makes an :class:`EncodedImage` from an image.

    Parameters
    ----------
    net : an ``AdaptIS`` network, or an :class:`InferenceNetwork`
    settings : only ``flip``, ``batch_size``, ``memory_mib``, ``max_pixels`` and ``official`` matter
    ctx : where to compute; by default where the network's parameters are
    """

    def __init__(self, net: Any, settings: AdaptISSettings, ctx: Any = None):
        wrapped = isinstance(net, InferenceNetwork)
        self._net = net if wrapped else InferenceNetwork.from_network(net, ctx)
        self._settings = settings

    def __call__(self, image: np.ndarray) -> EncodedImage:
        """Encode an RGB ``uint8`` image (H, W, 3).

        Raises AdaptisError if it is too large or the network's outputs are not finite.
        """
        batch_size = self._checked_batch(image.shape[:2])
        plain = self._encode(image, batch_size)
        if not self._settings.flip:
            return plain
        return FlipAveraged(plain, self._encode(image[:, ::-1], batch_size),
                            self._settings.official)

    def kept_bytes(self, size: tuple[int, int]) -> float:
        """Return the estimated memory of the features and maps of an image of (H, W)."""
        net, passes = self._net, 2 if self._settings.flip else 1
        features = 4 * _USUAL_FEATURES if net.footprint is None else net.footprint.kept
        image, proposals = 3, 4
        per_pixel = image + passes * features + 4 * net.num_classes + proposals
        return per_pixel * size[0] * size[1]

    def fitting_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (H, W) of the largest copy of an image that can be encoded as a whole.

        It is the size itself unless the image is larger than ``max_pixels`` or takes too much
        memory.
        """
        settings, net = self._settings, self._net
        limit = float(settings.max_pixels)
        if net.footprint is not None:
            memory = device_memory(net.runner.device)
            limit = min(limit, fitting_pixels(net.footprint, net.num_classes, memory,
                                              settings.memory_mib, settings.flip))
        scale = math.sqrt(limit / (size[0] * size[1]))
        return size if scale >= 1 else (max(1, int(size[0] * scale)), max(1, int(size[1] * scale)))

    def _checked_batch(self, size: tuple[int, int]) -> int:
        """Return the number of points per batch; AdaptisError if the image is too large for one."""
        settings, net = self._settings, self._net
        if size[0] * size[1] > settings.max_pixels:
            raise AdaptisError(f'The image is {size[0]}x{size[1]}, too large to process as a '
                               'whole: segment it in tiles, for example with --tile 512 512.')
        best = net.runner.best_batch
        batch_size = settings.batch_size if best is None else min(settings.batch_size, best)
        if net.footprint is None:
            return batch_size
        needed = features_bytes(net.footprint, size, net.num_classes, settings.flip)
        check_features(needed, size, device_memory(net.runner.device))
        return min(batch_size, points_at_once(net.footprint, size, settings.memory_mib))

    def _encode(self, image: np.ndarray, batch_size: int) -> EncodedImage:
        height, width = image.shape[:2]
        least = self._net.min_side
        more = [(0, max(least - height, 0)), (0, max(least - width, 0)), (0, 0)]
        planes = np.pad(image, more, mode='edge').transpose(2, 0, 1)[None].astype(np.float32)
        return _NetworkImage(self._net, planes, (height, width), batch_size)


class _NetworkImage(EncodedImage):
    """One pass of the network over a padded image; its first ``size`` rows and columns count."""

    def __init__(self, net: InferenceNetwork, image: np.ndarray, size: tuple[int, int],
                 batch_size: int):
        self._runner = net.runner
        self.batch_size = self._batch_size = batch_size
        self._full, self._size = image.shape[2:], size
        maps = run_stage(net.runner, 'features', {'image': image})
        prob = run_stage(net.runner, 'semantics', maps)['classes']
        prob = self._enlarge(_finite(as_numpy(prob)[0], 'class probabilities'))
        self.stuff_prob, self.things_prob = prob[:net.num_stuff], prob[net.num_stuff:]
        if 'proposals' in net.runner.stages:  # missing if the network has no proposal branch
            logits = run_stage(net.runner, 'proposals', maps)['logits']
            logits = _finite(as_numpy(logits)[0, 0], 'proposals')
            self.proposals_prob = expit(self._enlarge(logits)) ** 2
        asked = [signature.name for signature in net.runner.stages['points'].inputs]
        self._maps = {name: maps[name] for name in asked if name in maps}

    def masks_at(self, points: np.ndarray) -> np.ndarray:
        points = np.asarray(points, dtype=np.float32).reshape(-1, 2)
        check_memory(len(points), self._size)
        masks = np.empty((len(points), *self._size), np.float32)
        for start in range(0, len(points), self._batch_size):
            part = np.s_[start:start + self._batch_size]
            found = run_stage(self._runner, 'points', {**self._maps, 'points': points[None, part]})
            prob = as_numpy(found['masks'])[:, 0]
            for mask, larger in zip(_finite(prob, 'masks'), masks[part]):
                larger[:] = self._enlarge(mask)
        return masks

    def drop_maps(self) -> None:
        del self.stuff_prob, self.things_prob
        self.proposals_prob = None

    def _enlarge(self, maps: np.ndarray) -> np.ndarray:
        """Return maps (h, w) or (N, h, w) at the size of the image."""
        return upsample(maps, self._full)[..., :self._size[0], :self._size[1]]


class NetworkRunner:
    """Runs the stages of an ``AdaptIS`` network, imperative or hybridized as it is at the time.

    Only one thread runs at a time, even if several runners share the network; the others wait.
    """

    def __init__(self, net: Any, ctx: Any = None):
        self._net, self.device, self.best_batch = net, ctx or _context_of(net), None
        self._made: Optional[tuple[Any, BlockRunner]] = None

    @property
    def stages(self) -> dict[str, Interface]:
        """See ``Runner``."""
        with network_lock(self._net):
            return self._blocks().stages

    def run(self, stage: str, *arrays: Any) -> list[Any]:
        """See ``Runner``."""
        with network_lock(self._net):
            return self._blocks().run(stage, *arrays)

    def _blocks(self) -> BlockRunner:
        from adaptis.model.stages import export_stages  # loads MXNet
        how = self._net.encoder._active, list(self._net.encoder._flags)
        if self._made is None or self._made[0] != how:
            self._made = how, BlockRunner(export_stages(self._net), self.device)
        return self._made[1]


def check_finite_weights(net: Any) -> None:
    """Raise AdaptisError if a weight is not finite.

    A ReLU turns NaN into 0, so the outputs of such a network can look right.
    """
    from adaptis.runtime import mx  # loads MXNet
    sums = {}
    for name, parameter in net._collect_params_with_prefix().items():
        # Before the first image, some shapes may be unknown and their values do not exist.
        with contextlib.suppress(mx.gluon.parameter.DeferredInitializationError):
            sums[name] = parameter.data(parameter.list_ctx()[0]).sum().as_in_context(mx.cpu())
    if not sums:
        return
    finite = np.isfinite(mx.nd.concat(*sums.values(), dim=0).asnumpy())
    if not finite.all():
        raise AdaptisError('The weights of the network contain values that are not finite, in '
                           f'{list(sums)[finite.argmin()]}: use another checkpoint.')


def _finite(values: np.ndarray, what: str) -> np.ndarray:
    if not np.isfinite(values.sum()):
        raise AdaptisError(f'The network outputs {what} that are not numbers, because its weights '
                           'contain NaN or infinity: use another checkpoint.')
    return values


def _context_of(net: Any) -> Any:
    from adaptis.runtime import mx  # loads MXNet
    parameters = list(net.collect_params().values())
    return parameters[0].list_ctx()[0] if parameters else mx.cpu()
