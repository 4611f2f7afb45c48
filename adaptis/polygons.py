"""Convert masks to polygons, and back.

Coordinates are continuous, as in COCO and labelme: pixel (row, col) covers the square from
(col, row) to (col + 1, row + 1), so a polygon runs along the borders of pixels.
"""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def mask_to_polygons(mask: np.ndarray, tolerance: float = 0.0) -> list[np.ndarray]:
    """Return the outline of a mask.

    Each connected region (pixels that share a side) becomes one polygon.  A hole is joined to the
    outline around it by a slit of zero width, because most formats have no holes.

    Parameters
    ----------
    mask : bool or integer (H, W)
    tolerance : maximum deviation of the outline in pixels, which saves points; 0 = exact

    Returns
    -------
    float64 (N, 2) each, x and y; small regions may vanish if there is a tolerance
    """
    polygons = []
    count, regions = cv2.connectedComponents(mask.astype(bool).view(np.uint8), connectivity=4)
    for number in range(1, count):
        part = (regions == number).view(np.uint8)
        x, y, w, h = cv2.boundingRect(part)
        loops = _boundary_loops(part[y:y + h, x:x + w].astype(bool))
        if tolerance > 0:
            loops = [cv2.approxPolyDP(loop.astype(np.float32), tolerance, True)[:, 0].astype(float)
                     for loop in loops]
        loops = [loop + (x, y) for loop in loops if len(loop) >= 3]
        if loops:
            polygons.append(_join(loops))
    return polygons


def polygons_to_mask(polygons: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Return bool (H, W): the union of polygons, each (N, 2) x and y with N >= 3, by pycocotools.

    A pixel belongs to a polygon if its centre does.
    """
    from pycocotools import mask as rle  # not needed for exports
    flat = [np.asarray(polygon, np.float64).ravel().tolist() for polygon in polygons]
    flat = [values for values in flat if len(values) >= 6]   # 4 would be read as a box
    if not flat:
        return np.zeros(size, bool)
    return rle.decode(rle.merge(rle.frPyObjects(flat, *size))).astype(bool)


def _boundary_loops(mask: np.ndarray) -> list[np.ndarray]:
    """Return the closed boundaries, float64 (N, 2) each; the outer one, which is longest, first."""
    follows = _edges(np.pad(mask, 1))
    loops = []
    while follows:
        start = next(iter(follows))
        point, loop = start, []
        while True:
            ends = follows[point]
            loop.append(point)
            following = ends.pop()
            if not ends:
                del follows[point]
            point = following
            if point == start:
                break
        loops.append(_corners(np.array(loop, np.float64)) - 1)
    return sorted(loops, key=lambda loop: -np.ptp(loop, axis=0).sum())


def _edges(mask: np.ndarray) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Return point -> points that follow it along the boundary, with the mask to the right."""
    follows: dict[tuple[int, int], list[tuple[int, int]]] = {}
    below, above = mask[1:] & ~mask[:-1], mask[:-1] & ~mask[1:]
    right, left = mask[:, 1:] & ~mask[:, :-1], mask[:, :-1] & ~mask[:, 1:]
    for edge, (y0, x0), (y1, x1) in ((below, (1, 0), (1, 1)), (above, (1, 1), (1, 0)),
                                     (right, (1, 1), (0, 1)), (left, (0, 1), (1, 1))):
        for y, x in np.argwhere(edge).tolist():
            follows.setdefault((x + x0, y + y0), []).append((x + x1, y + y1))
    return follows


def _corners(loop: np.ndarray) -> np.ndarray:
    """Return the points of a loop at which it turns."""
    before, after = loop - np.roll(loop, 1, axis=0), np.roll(loop, -1, axis=0) - loop
    return loop[(before != after).any(axis=1)]


def _join(loops: Sequence[np.ndarray]) -> np.ndarray:
    """Return one polygon: the outline, with a slit to each hole."""
    outline, *holes = loops
    for hole in holes:
        distance = np.abs(outline[:, None] - hole).sum(axis=2)
        at, start = np.unravel_index(distance.argmin(), distance.shape)
        ring = np.roll(hole, -start, axis=0)
        outline = np.concatenate([outline[:at + 1], ring, ring[:1], outline[at:]])
    return outline
