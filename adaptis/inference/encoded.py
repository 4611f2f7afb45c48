"""A network behind an :class:`EncodedImage`: features once per image, masks per point.

The prediction wrapper of the official code orders things its own way, which
matters where the maps are smaller than the image: masks are sigmoid, then
resized; classes softmax, then resized; proposals resized, then sigmoid, then
squared.  Resizing is bilinear with aligned corners.
"""
from __future__ import annotations

import contextlib
from typing import Any, Optional

import numpy as np
from scipy.special import expit

from adaptis.errors import AdaptisError
from adaptis.inference.encoded_image import EncodedImage, FlipAveraged
from adaptis.inference.memory import (
    check_features,
    check_memory,
    features_bytes,
    footprint,
    memory_of,
    points_at_once,
)
from adaptis.inference.settings import Settings
from adaptis.inference.upsample import upsample
from adaptis.runtime import mx

MIN_SIDE = 16
"""A smaller image is continued to this size: the network halves what it sees four times."""


class NetworkEncoder:
    """Makes an :class:`EncodedImage` of a picture.

    Parameters
    ----------
    net : an ``AdaptIS`` network
    settings : ``flip``, ``batch_size``, ``memory_mib``, ``max_pixels`` and ``official`` matter here
    ctx : where to compute; default where the network's parameters are
    """

    def __init__(self, net: Any, settings: Settings, ctx: Any = None):
        refuse_broken(net)
        self._net, self._settings = net, settings
        self._ctx = ctx or _context_of(net)
        self._needs = footprint(net)
        self._split: Optional[tuple[bool, tuple[Any, Any]]] = None
        self._min_side = max(MIN_SIDE, getattr(net, 'min_side', 1))

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

    def _checked_batch(self, size: tuple[int, int]) -> int:
        """How many points to compute at once; AdaptisError if the image is too large for one."""
        settings = self._settings
        if size[0] * size[1] > settings.max_pixels:
            raise AdaptisError(f'The image is {size[0]}x{size[1]}, too large to be seen as a '
                               'whole: segment it in tiles, for instance --tile 512 512, and '
                               'click in a part of it.')
        if self._needs is None:
            return settings.batch_size
        needed = features_bytes(self._needs, size, self._net.num_classes, settings.flip)
        check_features(needed, size, memory_of(self._ctx))
        return min(settings.batch_size, points_at_once(self._needs, size, settings.memory_mib))

    def _encode(self, image: np.ndarray, batch_size: int) -> EncodedImage:
        height, width = image.shape[:2]
        more = [(0, max(self._min_side - height, 0)), (0, max(self._min_side - width, 0)), (0, 0)]
        planes = np.pad(image, more, mode='edge').transpose(2, 0, 1)[None].astype(np.float32)
        return _NetworkImage(self._net, self._split_head(), mx.nd.array(planes, ctx=self._ctx),
                             (height, width), batch_size)

    def _split_head(self) -> tuple[Any, Any]:
        """The point head in two, hybridized if the network is so by now."""
        hybridized = self._net.point_head._active
        if self._split is None or self._split[0] != hybridized:
            self._split = hybridized, self._net.point_head.split()
        return self._split[1]


class _NetworkImage(EncodedImage):
    """One pass of the network over an image, whose first ``size`` rows and columns count."""

    def __init__(self, net: Any, heads: tuple[Any, Any], image: Any, size: tuple[int, int],
                 batch_size: int):
        self._batch_size, self._ctx = batch_size, image.context
        self._full, self._size = image.shape[2:], size
        share, self._head = heads
        features, self._queries, semantic, *proposals = net.encoder(image)
        # Adding leaves MXNet's own layout, to which every point would convert oneDNN's again.
        self._features = share(features) + 0
        prob = mx.nd.softmax(semantic, axis=1).asnumpy()[0]
        prob = self._enlarge(_finite(prob, 'class probabilities'))
        self.stuff_prob, self.things_prob = prob[:net.num_stuff], prob[net.num_stuff:]
        if proposals:  # not in a network without that branch
            logits = _finite(proposals[0].asnumpy()[0, 0], 'proposals')
            self.proposals_prob = expit(self._enlarge(logits)) ** 2

    def masks_at(self, points: np.ndarray) -> np.ndarray:
        points = np.asarray(points, dtype=np.float32).reshape(-1, 2)
        check_memory(len(points), self._size)
        masks = np.empty((len(points), *self._size), np.float32)
        for start in range(0, len(points), self._batch_size):
            part = np.s_[start:start + self._batch_size]
            batch = mx.nd.array(points[None, part], ctx=self._ctx)
            prob = self._head(self._features, self._queries, batch).sigmoid().asnumpy()[:, 0]
            for mask, larger in zip(_finite(prob, 'masks'), masks[part]):
                larger[:] = self._enlarge(mask)
        return masks

    def drop_maps(self) -> None:
        del self.stuff_prob, self.things_prob
        self.proposals_prob = None

    def _enlarge(self, maps: np.ndarray) -> np.ndarray:
        """Maps (h, w) or (N, h, w) at the size of the image."""
        return upsample(maps, self._full)[..., :self._size[0], :self._size[1]]


def refuse_broken(net: Any) -> None:
    """AdaptisError if a weight is not finite: a ReLU turns NaN into 0, and outputs seem fine."""
    sums = {}
    for name, parameter in net._collect_params_with_prefix().items():
        # Before the first image some shapes, and so some values, may not exist yet.
        with contextlib.suppress(mx.gluon.parameter.DeferredInitializationError):
            sums[name] = parameter.data(parameter.list_ctx()[0]).sum().as_in_context(mx.cpu())
    if not sums:
        return
    finite = np.isfinite(mx.nd.concat(*sums.values(), dim=0).asnumpy())
    if not finite.all():
        raise AdaptisError('The network holds values that are not finite, in '
                           f'{list(sums)[finite.argmin()]}: use another checkpoint.')


def _finite(values: np.ndarray, what: str) -> np.ndarray:
    if not np.isfinite(values.sum()):
        raise AdaptisError(f'The network gives {what} that are not numbers: its weights hold NaN '
                           'or infinity; use another checkpoint.')
    return values


def _context_of(net: Any) -> Any:
    parameters = list(net.collect_params().values())
    return parameters[0].list_ctx()[0] if parameters else mx.cpu()
