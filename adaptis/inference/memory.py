"""Memory estimates for inference, to give an error message instead of a killed process."""
from __future__ import annotations

import contextlib
import functools
import math
import os
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from adaptis.errors import AdaptisError

SHARE = 0.5
"""Fraction of the memory that the soft masks of one image, or the maps of a smaller copy, may
take."""

# oneDNN keeps maps and weights in its own layouts beside those of the graph, and has buffers. In
# measurements, features took up to 2.25 times the maps of the graph, and points of large images up
# to 1.55 times (``experiments/benchmarks/cost.py`` prints measured and estimated values).
_FEATURES_MARGIN = 2.5
_POINT_MARGIN = 1.75

_PROBE = 256  # side of the traced image; it has little effect on the memory per pixel


class Footprint(NamedTuple):
    """Bytes that a network takes while it computes.

    Attributes
    ----------
    weights : all weights
    features : for each pixel of an image, the peak memory of the maps
    kept : for each pixel, the maps that remain until the next image
    point : for each pixel, the mask of one point
    """

    weights: float
    features: float
    kept: float
    point: float


def estimate_footprint(net: Any) -> Optional[Footprint]:
    """Return the memory that a network needs, from its graph; None if it cannot be traced."""
    from adaptis.model.graph import BYTES, peak_bytes, trace  # loads MXNet
    try:
        encoder = trace(net.encoder, (1, 3, _PROBE, _PROBE))
        features, queries, *_ = encoder.outputs
        share, head = net.point_head.split()
        shared, = trace(share, features).outputs
        one, two = (trace(head, shared, queries, (1, n, 2)) for n in (1, 2))
    except (AttributeError, TypeError):
        return None  # the network can only run imperatively
    weights = BYTES * sum(math.prod(p.shape) for p in net.collect_params().values())
    kept = BYTES * (math.prod(shared) + math.prod(queries))
    pixels = _PROBE ** 2
    return Footprint(weights, peak_bytes(encoder) / pixels * _FEATURES_MARGIN, kept / pixels,
                     (peak_bytes(two) - peak_bytes(one)) / pixels * _POINT_MARGIN)


def features_bytes(footprint: Footprint, size: tuple[int, int], classes: int,
                   flip: bool = False) -> float:
    """Return the peak memory of an image's maps, (H, W), and of oneDNN's copy of the weights."""
    passes = 2 if flip else 1
    # With two passes there are three sets of probabilities: those of both passes, and their mean.
    per_pixel = footprint.features + (passes - 1) * footprint.kept + 4 * classes * (2 * passes - 1)
    return footprint.weights + per_pixel * size[0] * size[1]


def fitting_pixels(footprint: Footprint, classes: int, memory: float, budget_mib: int,
                   flip: bool = False) -> float:
    """Return how many pixels an image may have so that its maps and the mask of a point fit.

    The maps may take half of ``memory`` (bytes), and the mask of a point ``budget_mib``.
    """
    fixed = features_bytes(footprint, (0, 0), classes, flip)
    each = features_bytes(footprint, (1, 1), classes, flip) - fixed
    of_maps = max(0.0, SHARE * memory - fixed) / each
    return min(of_maps, budget_mib * 2 ** 20 / max(footprint.point, 1e-6))


def check_features(needed: float, size: tuple[int, int], memory: float) -> None:
    """Raise AdaptisError if an image of (H, W) needs more bytes than the memory has."""
    if needed > memory:
        raise AdaptisError(f'The features of {size[0]}x{size[1]} pixels take about '
                           f'{needed / 2 ** 30:.1f} GiB, more than the {memory / 2 ** 30:.1f} GiB '
                           'of memory: segment the image in tiles, for instance with --tile 512 '
                           '512.')


def points_at_once(footprint: Footprint, size: tuple[int, int], budget_mib: int) -> int:
    """Return how many points of an image of (H, W) fit into a budget; AdaptisError if none does."""
    each = footprint.point * size[0] * size[1] / 2 ** 20
    if each > budget_mib:
        raise AdaptisError(f'A point on {size[0]}x{size[1]} pixels takes about {each:.0f} MiB, '
                           f'more than memory_mib, {budget_mib}: segment the image in tiles, for '
                           'instance with --tile 512 512, or increase memory_mib.')
    return int(budget_mib / max(each, 1e-6))


def check_memory(count: int, size: tuple[int, int]) -> None:
    """Raise AdaptisError if ``count`` float32 masks of (H, W) take too much memory."""
    needed = 4 * count * size[0] * size[1]
    if needed > SHARE * physical_memory():
        raise AdaptisError(f'The masks of {count:,} objects on {size[0]}x{size[1]} pixels take '
                           f'{needed / 2 ** 30:.1f} GiB, more than half of the memory: segment '
                           'smaller parts of the image.')


def append_mask(masks: list[np.ndarray], mask: np.ndarray) -> None:
    """Append a mask; AdaptisError if all of them no longer fit into memory."""
    check_memory(len(masks) + 1, mask.shape)
    # A view would keep the masks of its whole batch.
    masks.append(mask if mask.base is None else mask.copy())


def device_memory(ctx: Any) -> float:
    """Return the memory of a device, in bytes.

    The device is an MXNet context, or 'cpu' or 'gpu:0' for ONNX Runtime.  ONNX Runtime does not
    report the memory of a GPU, so the result is infinite.
    """
    if isinstance(ctx, str):
        return physical_memory() if ctx == 'cpu' else float('inf')
    if ctx.device_type != 'gpu':
        return physical_memory()
    from adaptis.runtime import mx  # loads MXNet
    return float(mx.context.gpu_memory_info(ctx.device_id)[1])


@functools.cache
def physical_memory() -> float:
    """Return the memory that this process may use, in bytes; infinite if unknown."""
    limits = [float('inf')]
    with contextlib.suppress(AttributeError, OSError, ValueError):
        limits.append(float(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')))
    for file in ('memory.max', 'memory/memory.limit_in_bytes'):  # limits of a container
        with contextlib.suppress(OSError, ValueError):
            limits.append(float(Path('/sys/fs/cgroup', file).read_text(encoding='ascii')))
    return min(limits)
