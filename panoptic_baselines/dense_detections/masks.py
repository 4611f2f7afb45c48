"""Upsample the mask probabilities of dense detections from the levelness grid to an image."""
from __future__ import annotations

import cv2
import numpy as np

from panoptic_baselines.layers.boxes import Size

GRID_STRIDE = 4
"""Stride of the grid, which is twice the size of p3."""


def full_masks(probabilities: np.ndarray, size: Size, output_size: Size,
               threshold: float) -> np.ndarray:
    """Return bool (N, H, W) of ``output_size``: where (N, h, w) on the grid reach ``threshold``.

    The grid is upsampled by 4, cropped to ``size`` and resized to ``output_size``, bilinearly.
    OpenCV, one mask at a time, is ten times as fast as MXNet with all masks at once.
    """
    masks = np.empty((len(probabilities), *output_size), bool)
    for probability, mask in zip(probabilities, masks):
        np.greater_equal(full_map(probability, size, output_size), threshold, out=mask)
    return masks


def full_map(probability: np.ndarray, size: Size, output_size: Size) -> np.ndarray:
    """Return float32 (H, W) of ``output_size`` for a map (h, w) on the grid; see ``full_masks``."""
    height, width = probability.shape
    full = cv2.resize(probability, (GRID_STRIDE * width, GRID_STRIDE * height),
                      interpolation=cv2.INTER_LINEAR)[:size[0], :size[1]]
    if size == output_size:
        return full
    return cv2.resize(full, output_size[::-1], interpolation=cv2.INTER_LINEAR)
