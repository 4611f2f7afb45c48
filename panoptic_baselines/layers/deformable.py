"""Deformable convolutions (Dai et al. 2017; modulated, Zhu et al. 2019) from plain operators.

MXNet's own modulated operator has no gradient on a CPU.  Unlike the official implementations, its
older operator ignores samples that lie less than a pixel outside the image.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional, Union

import cv2
import numpy as np

from adaptis.arrays import as_numpy, expit
from adaptis.runtime import mx
from panoptic_baselines.layers.norm import ConvNorm
from panoptic_baselines.layers.sampling import pixels_first, sampling_matrix

nn = mx.gluon.nn

SAMPLED_VALUES = 2 ** 20
"""Number of values that are sampled at a time; they fit into the CPU's cache."""


def samples_in_numpy(x: Any) -> bool:
    """Return whether ``DeformableConvNorm`` computes an input with NumPy and SciPy.

    It does so for arrays on a CPU without gradient, which takes a fifth of the time.  A block that
    contains such layers then calls them one by one instead of as a part of its graph.
    """
    return (isinstance(x, mx.nd.NDArray) and x.context.device_type == 'cpu'
            and not mx.autograd.is_recording())


class DeformableConvNorm(ConvNorm):
    """``ConvNorm`` whose kernel samples positions that depend on the image.

    The child ``offset`` is a convolution with bias that is initialised with zeros.  It predicts the
    shift (y, x) of each tap of the kernel, in pixels and in row-major order.  If ``modulated``, the
    logits of the taps' weights follow; these weights start at 0.5.  The image is padded with zeros.
    """

    def __init__(self, channels: int, in_channels: int, kernel: int = 3, strides: int = 1,
                 groups: int = 1, relu: bool = True, norm_layer: Union[str, type] = 'GroupNorm',
                 norm_kwargs: Optional[Mapping[str, Any]] = None, modulated: bool = True):
        super().__init__(channels, in_channels, kernel, strides, groups, relu, norm_layer,
                         norm_kwargs)
        self._size, self._modulated = kernel, modulated
        with self.name_scope():
            self.offset = nn.Conv2D((3 if modulated else 2) * kernel ** 2, kernel, strides,
                                    kernel // 2, in_channels=in_channels,
                                    weight_initializer='zeros')

    def forward(self, x):
        """Run the layer; see ``samples_in_numpy``."""
        if not samples_in_numpy(x) or self._kwargs['num_group'] != 1:
            return super().forward(x)
        weight = as_numpy(self.weight.data(x.context))
        taps = np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).reshape(-1, self._channels)
        found = np.stack([self._convolve(image, offset, taps) for image, offset
                          in zip(as_numpy(x), as_numpy(self.offset(x)))])
        found = self.norm(mx.nd.array(found, x.context))
        return mx.nd.Activation(found, 'relu') if self._relu else found

    def _convolve(self, image: np.ndarray, offset: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return float32 (channels, h', w') for an image (C, h, w) and offsets (., h', w').

        ``weight`` is (taps * C, channels).
        """
        size, taps = offset.shape[1:], self._size ** 2
        offset = cv2.transpose(offset.reshape(len(offset), -1))           # (h' * w', .)
        row, column = (at.reshape(-1, 1) * self._kwargs['stride'][0] - self._size // 2
                       for at in np.indices(size, np.float32))
        tap = np.arange(taps, dtype=np.float32)
        matrix = sampling_matrix((offset[:, :2 * taps:2] + (row + tap // self._size)).ravel(),
                                 (offset[:, 1:2 * taps:2] + (column + tap % self._size)).ravel(),
                                 image.shape[1:])
        if self._modulated:
            matrix.data *= np.repeat(expit(offset[:, 2 * taps:]).ravel(), 4)
        pixels = pixels_first(image[None])
        found = np.empty((len(offset), self._channels), np.float32)
        step = max(1, SAMPLED_VALUES // len(weight))
        for begin in range(0, len(found), step):
            some = matrix[begin * taps:(begin + step) * taps] @ pixels
            np.matmul(some.reshape(-1, len(weight)), weight, out=found[begin:begin + step])
        return cv2.transpose(found).reshape(self._channels, *size)

    def hybrid_forward(self, F, x, weight):
        taps = self._size ** 2
        offset = self.offset(x)
        values = F.BilinearSampler(*self._grid(F, x, F.slice_axis(offset, axis=1, begin=0,
                                                                  end=2 * taps)))
        values = values.reshape((0, 0, -4, taps, -1, 0))
        if self._modulated:
            share = F.sigmoid(F.slice_axis(offset, axis=1, begin=2 * taps, end=None))
            values = F.broadcast_mul(values, F.expand_dims(share, axis=1))
        # The rest is a convolution of the sampled values, tap by tap.  It uses a copy of the
        # weight: outside of training, MXNet would try to reorder the shared memory.
        x = F.Convolution(values.reshape((0, -3, 0, 0)), F.identity(weight.reshape((0, -1, 1, 1))),
                          kernel=(1, 1), num_filter=self._channels, no_bias=True,
                          num_group=self._kwargs['num_group'])
        x = self.norm(x)
        return F.Activation(x, 'relu') if self._relu else x

    def _grid(self, F, x, offset):
        """Return the padded image, and positions (x, y) from -1 to 1: (B, 2, taps * h, w)."""
        # Without padding, an image of one pixel would have only a single valid coordinate.
        x = F.Pad(x, mode='constant', constant_value=0, pad_width=(0, 0, 0, 0, 1, 1, 1, 1))
        offset = offset.reshape((0, -4, -1, 2, 0, 0))                        # (B, taps, 2, h, w)
        tap = F.contrib.arange_like(F.BlockGrad(offset), axis=1)
        row = F.floor((tap + 0.5) / self._size)
        places = []
        for axis, first in ((1, tap - row * self._size), (0, row)):          # x, then y
            moved = F.slice_axis(offset, axis=2, begin=axis, end=axis + 1).reshape((0, 0, -3, 0))
            at = F.contrib.arange_like(F.BlockGrad(moved), axis=2 + axis)
            at = at * self._kwargs['stride'][0] + (1 - self._size // 2)
            at = at.reshape((1, 1, 1, -1) if axis else (1, 1, -1, 1))
            at = F.broadcast_add(at, first.reshape((1, -1, 1, 1)))
            last = F.max(F.contrib.arange_like(F.BlockGrad(x), axis=2 + axis))
            at = F.broadcast_div(F.broadcast_add(moved, at), last.reshape((1, 1, 1, 1))) * 2 - 1
            places.append(F.expand_dims(at.reshape((0, -3, 0)), axis=1))
        return x, F.concat(*places, dim=1)
