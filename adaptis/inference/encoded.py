"""A network behind an :class:`EncodedImage`: features once per image, masks per point.

The prediction wrapper of the official code orders things its own way, which
matters where the maps are smaller than the image: masks are sigmoid, then
resized; classes softmax, then resized; proposals resized, then sigmoid, then
squared.  Resizing is bilinear with aligned corners.
"""
from __future__ import annotations

from typing import Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.inference.encoded_image import EncodedImage, FlipAveraged
from adaptis.inference.settings import Settings
from adaptis.runtime import mx


class NetworkEncoder:
    """Makes an :class:`EncodedImage` of a picture.

    Parameters
    ----------
    net : an ``AdaptIS`` network
    settings : ``flip``, ``batch_size`` and ``official`` matter here
    ctx : where to compute; default where the network's parameters are
    """

    def __init__(self, net, settings: Settings, ctx=None):
        self._net, self._settings = net, settings
        self._ctx = ctx or _context_of(net)

    def __call__(self, image: np.ndarray) -> EncodedImage:
        """Encode an RGB ``uint8`` image (H, W, 3).

        Raises AdaptisError if it is too large or the network's outputs are not finite.
        """
        height, width = image.shape[:2]
        if height * width > self._settings.max_pixels:
            raise AdaptisError(f'The image is {height}x{width}, too large to be segmented as a '
                               'whole: set tiles, for instance --tile 512 512.')
        plain = self._encode(image)
        if not self._settings.flip:
            return plain
        return FlipAveraged(plain, self._encode(image[:, ::-1]), self._settings.official)

    def _encode(self, image: np.ndarray) -> EncodedImage:
        planes = np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32)
        return _NetworkImage(self._net, mx.nd.array(planes, ctx=self._ctx),
                             self._settings.batch_size)


class _NetworkImage(EncodedImage):
    """One pass of the network over one image."""

    def __init__(self, net, image, batch_size: int):
        self._net, self._batch_size, self._ctx = net, batch_size, image.context
        self._shape: tuple[int, int] = image.shape[2:]
        self._features, self._queries, semantic, proposals = net.encoder(image)
        prob = _resize(mx.nd.softmax(semantic, axis=1), self._shape)
        prob = _finite(prob.asnumpy()[0], 'class probabilities')
        self.stuff_prob, self.things_prob = prob[:net.num_stuff], prob[net.num_stuff:]
        if proposals is not None:  # a network without that branch
            prob = mx.nd.sigmoid(_resize(proposals, self._shape)) ** 2
            self.proposals_prob = _finite(prob.asnumpy()[0, 0], 'proposals')

    def masks_at(self, points: np.ndarray) -> np.ndarray:
        points = np.asarray(points, dtype=np.float32).reshape(-1, 2)
        masks = np.empty((len(points), *self._shape), np.float32)
        for start in range(0, len(points), self._batch_size):
            part = np.s_[start:start + self._batch_size]
            masks[part] = self._evaluate(points[part])
        return _finite(masks, 'masks')

    def _evaluate(self, points: np.ndarray) -> np.ndarray:
        batch = mx.nd.array(points[None], ctx=self._ctx)
        logits = self._net.point_head(self._features, self._queries, batch)
        return _resize(mx.nd.sigmoid(logits), self._shape).asnumpy()[:, 0]


def _resize(maps, size: tuple[int, int]):
    if maps.shape[2:] == size:
        return maps
    return mx.nd.contrib.BilinearResize2D(maps, height=size[0], width=size[1])


def _finite(values: np.ndarray, what: str) -> np.ndarray:
    if not np.isfinite(values.sum()):
        raise AdaptisError(f'The network gives {what} that are not numbers: its weights hold NaN '
                           'or infinity; use another checkpoint.')
    return values


def _context_of(net) -> Optional[object]:
    parameters = list(net.collect_params().values())
    return parameters[0].list_ctx()[0] if parameters else mx.cpu()
