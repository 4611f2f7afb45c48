"""Upsample the coarse mask probabilities of CondInst to masks at the size of the image."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from panoptic_baselines.layers.upsample import bilinear

Size = tuple[int, int]

CHUNK_SIZE = 64   # pixels of an axis in one matrix product


class Block(NamedTuple):
    """Weights (end - begin, high - low) of source pixels ``low:high`` in pixels ``begin:end``."""

    begin: int
    end: int
    low: int
    high: int
    weights: np.ndarray


def full_masks(probabilities: np.ndarray, stride: int, image_size: Size, output_size: Size,
               threshold: float = 0.5) -> np.ndarray:
    """Return bool (N, H, W) of ``output_size``: where each mask is above ``threshold``.

    Parameters
    ----------
    probabilities : (N, h, w) of the padded image
    stride : of the probabilities; they are upsampled by it like ``AlignedUpsample``, then cropped
        to ``image_size`` (H, W), then resized bilinearly to ``output_size``, in one step
    """
    rows, columns = (
        _blocks(resize_weights(*sizes), CHUNK_SIZE) for sizes in zip(
            probabilities.shape[1:], (stride, stride), image_size, output_size))
    result = np.zeros((len(probabilities), *output_size), bool)
    wide: np.ndarray = np.empty((probabilities.shape[1], output_size[1]), np.float32)
    for values, target in zip(probabilities, result):
        # Interpolated values are averages: where all inputs are below the threshold, so are they.
        above = values > threshold
        across = _reached(columns, above.any(axis=0))
        if not across:
            continue
        for block in across:
            np.matmul(values[:, block.low:block.high], block.weights.T,
                      out=wide[:, block.begin:block.end])
        window = slice(across[0].begin, across[-1].end)
        for block in _reached(rows, above.any(axis=1)):
            np.greater(block.weights @ wide[block.low:block.high, window], threshold,
                       out=target[block.begin:block.end, window])
    return result


def resize_weights(source: int, stride: int, cut: int, target: int) -> np.ndarray:
    """Return both interpolations along one axis as a single matrix (target, source)."""
    at = np.clip((np.arange(cut) - stride // 2) / stride, 0, source - 1)
    first = np.maximum(1 - np.abs(at[:, None] - np.arange(source)), 0)
    return (bilinear(cut, target) @ first).astype(np.float32)


def _blocks(matrix: np.ndarray, step: int) -> list[Block]:
    blocks = []
    for begin in range(0, len(matrix), step):
        part = matrix[begin:begin + step]
        used = np.flatnonzero(part.any(axis=0))
        low, high = int(used[0]), int(used[-1]) + 1
        blocks.append(Block(begin, begin + len(part), low, high,
                            np.ascontiguousarray(part[:, low:high])))
    return blocks


def _reached(blocks: Sequence[Block], above: np.ndarray) -> list[Block]:
    """Return the blocks from the first to the last one with a non-zero input."""
    seen = [i for i, block in enumerate(blocks) if above[block.low:block.high].any()]
    return list(blocks[seen[0]:seen[-1] + 1]) if seen else []
