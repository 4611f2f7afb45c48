"""Turn coarse class logits into a label for every pixel of an image."""
from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from panoptic_baselines.layers.boxes import Size

SEMANTIC_STRIDE = 4
"""Stride of the logits of a semantic branch on a pyramid (Panoptic FPN, section 3.1)."""

STRIP_VALUES = 2 ** 16
"""Number of values that are interpolated at a time; they fit into the CPU's cache."""


def upsampled_labels(logits: np.ndarray, stride: int, image_size: Size,
                     output_size: Size) -> np.ndarray:
    """Return int32 (H, W) of ``output_size``: the most likely class; in a tie, the first one.

    Parameters
    ----------
    logits : (C, h, w) of the padded image
    stride : of the logits; they are upsampled by it bilinearly, then cropped to ``image_size``
        (H, W), then resized bilinearly to ``output_size``, in one step
    """
    strips = [strip.argmax(axis=2) for strip in _strips(logits, stride, image_size, output_size)]
    return np.ascontiguousarray(np.concatenate(strips).T.astype(np.int32))


def labels_of_batch(logits: np.ndarray, stride: int, image_sizes: Sequence[Size],
                    output_sizes: Sequence[Size]) -> list[np.ndarray]:
    """Return ``upsampled_labels`` of every image; ``logits`` are (B, C, h, w)."""
    return [upsampled_labels(image, stride, *sizes)
            for image, *sizes in zip(logits, image_sizes, output_sizes)]


def upsampled_logits(logits: np.ndarray, stride: int, image_size: Size,
                     output_size: Size) -> np.ndarray:
    """Return float32 (C, H, W): the interpolated values themselves; see ``upsampled_labels``."""
    strips = list(_strips(logits, stride, image_size, output_size))
    return np.ascontiguousarray(np.concatenate(strips).transpose(2, 1, 0))


def _strips(logits: np.ndarray, stride: int, image_size: Size,
            output_size: Size) -> Iterator[np.ndarray]:
    """Yield the result a few columns at a time: (columns, H, C)."""
    rows, columns = (_weights(source, stride, cut, target) for source, cut, target
                     in zip(logits.shape[1:], image_size, output_size))
    tall = np.concatenate(list(_products(rows, np.ascontiguousarray(logits.transpose(1, 2, 0)))))
    yield from _products(columns, np.ascontiguousarray(tall.transpose(1, 0, 2)))


def _products(weights: np.ndarray, values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield ``weights`` (n, k) times ``values`` (k, ...), some rows at a time."""
    flat = values.reshape(len(values), -1)
    step = max(1, STRIP_VALUES // flat.shape[1])
    for begin in range(0, len(weights), step):
        part = weights[begin:begin + step]
        used = np.flatnonzero(part.any(axis=0))
        band = slice(used[0], used[-1] + 1)
        yield (part[:, band] @ flat[band]).reshape(len(part), *values.shape[1:])


def _weights(source: int, stride: int, cut: int, target: int) -> np.ndarray:
    """Return both interpolations along one axis as a single matrix (target, source)."""
    first = bilinear(source, source * stride)[:cut]
    if cut != target:   # an identity matrix of a wide image would be large
        first = bilinear(cut, target) @ first
    return first.astype(np.float32)


def bilinear(source: int, target: int) -> np.ndarray:
    """Return weights (target, source) of bilinear interpolation, with align_corners=False."""
    at = np.maximum((np.arange(target) + 0.5) * (source / target) - 0.5, 0)
    low = np.minimum(at.astype(np.int64), source - 1)
    weights = np.zeros((target, source))
    weights[np.arange(target), np.minimum(low + 1, source - 1)] = at - low
    weights[np.arange(target), low] += 1 - (at - low)
    return weights
