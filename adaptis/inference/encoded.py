"""A network behind an :class:`EncodedImage`: features once per image, masks per point.

The prediction wrapper of the official code orders things its own way, which
matters where the maps are smaller than the image: masks are sigmoid, then
resized; classes softmax, then resized; proposals resized, then sigmoid, then
squared.  Resizing is bilinear with aligned corners.
"""
from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.inference.encoded_image import EncodedImage, FlipAveraged
from adaptis.inference.settings import Settings
from adaptis.runtime import mx

MIN_SIDE = 16
"""A smaller image is continued to this size: the network halves what it sees four times."""


class NetworkEncoder:
    """Makes an :class:`EncodedImage` of a picture.

    Parameters
    ----------
    net : an ``AdaptIS`` network
    settings : ``flip``, ``batch_size`` and ``official`` matter here
    ctx : where to compute; default where the network's parameters are
    """

    def __init__(self, net: Any, settings: Settings, ctx: Any = None):
        _refuse_broken(net)
        self._net, self._settings = net, settings
        self._ctx = ctx or _context_of(net)

    def __call__(self, image: np.ndarray) -> EncodedImage:
        """Encode an RGB ``uint8`` image (H, W, 3).

        Raises AdaptisError if it is too large or the network's outputs are not finite.
        """
        height, width = image.shape[:2]
        if height * width > self._settings.max_pixels:
            raise AdaptisError(f'The image is {height}x{width}, too large to be seen as a whole: '
                               'segment it in tiles, for instance --tile 512 512, and click in '
                               'a part of it.')
        plain = self._encode(image)
        if not self._settings.flip:
            return plain
        return FlipAveraged(plain, self._encode(image[:, ::-1]), self._settings.official)

    def _encode(self, image: np.ndarray) -> EncodedImage:
        height, width = image.shape[:2]
        more = [(0, max(MIN_SIDE - height, 0)), (0, max(MIN_SIDE - width, 0)), (0, 0)]
        planes = np.pad(image, more, mode='edge').transpose(2, 0, 1)[None].astype(np.float32)
        return _NetworkImage(self._net, mx.nd.array(planes, ctx=self._ctx), (height, width),
                             self._settings.batch_limit((height, width)))


class _NetworkImage(EncodedImage):
    """One pass of the network over an image, whose first ``size`` rows and columns count."""

    def __init__(self, net: Any, image: Any, size: tuple[int, int], batch_size: int):
        self._net, self._batch_size, self._ctx = net, batch_size, image.context
        self._full, self._size = image.shape[2:], size
        self._features, self._queries, semantic, *proposals = net.encoder(image)
        prob = self._maps(mx.nd.softmax(semantic, axis=1), 'class probabilities')[0]
        self.stuff_prob, self.things_prob = prob[:net.num_stuff], prob[net.num_stuff:]
        if proposals:  # not in a network without that branch
            prob = self._resize(proposals[0]).sigmoid() ** 2
            self.proposals_prob = self._maps(prob, 'proposals')[0, 0]

    def masks_at(self, points: np.ndarray) -> np.ndarray:
        points = np.asarray(points, dtype=np.float32).reshape(-1, 2)
        masks = np.empty((len(points), *self._size), np.float32)
        for start in range(0, len(points), self._batch_size):
            part = np.s_[start:start + self._batch_size]
            batch = mx.nd.array(points[None, part], ctx=self._ctx)
            logits = self._net.point_head(self._features, self._queries, batch)
            masks[part] = self._maps(logits.sigmoid(), 'masks')[:, 0]
        return masks

    def _maps(self, prob: Any, what: str) -> np.ndarray:
        """Probabilities (N, C, h, w) at the size of the image; AdaptisError if not finite."""
        prob = _finite(self._resize(prob).asnumpy(), what)
        return prob[..., :self._size[0], :self._size[1]]

    def _resize(self, maps: Any) -> Any:
        if maps.shape[2:] == self._full:
            return maps
        return mx.nd.contrib.BilinearResize2D(maps, height=self._full[0], width=self._full[1])


def _refuse_broken(net: Any) -> None:
    """Look at the weights, because a ReLU turns NaN into 0 and the outputs may seem fine."""
    sums = {}
    for name, parameter in net._collect_params_with_prefix().items():
        # Before the first image some shapes, and so some values, may not exist yet.
        with contextlib.suppress(mx.gluon.parameter.DeferredInitializationError):
            sums[name] = parameter.data().sum()
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
