"""Segment ids in maps and in PNGs of the COCO panoptic format.

A panoptic PNG stores the segment id of each pixel as R + 256 G + 256^2 B, 0 = no segment
(cocodataset.org, format of the panoptic task).
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import cv2
import numpy as np

from adaptis.errors import AdaptisError
from adaptis.files import PathLike, read_colours
from adaptis.image_bytes import Layout

MAX_ID = 256 ** 3 - 1
"""The largest segment id that a COCO panoptic PNG can store."""


def relabel_ids(segment_map: np.ndarray, ids: Sequence[int], what: str) -> np.ndarray:
    """Replace ``ids[k]`` by ``k + 1`` in a segment map; 0 stays 0.

    Only runs of equal ids are looked up, not single pixels.

    Parameters
    ----------
    segment_map : integer (H, W), 0 = none
    ids : the ids that may occur, each once, 1 to 2^24 - 1
    what : the name of the map in error messages

    Returns
    -------
    int32 (H, W)

    Raises
    ------
    AdaptisError
        If the map contains an id that is not in ``ids``, or an id is out of range or listed twice.
    """
    (values,), lengths = id_runs(segment_map)
    positions = find_ids(values, ids, what)
    return spread_runs(positions, lengths, segment_map.shape)


def find_ids(values: np.ndarray, ids: Sequence[int], what: str) -> np.ndarray:
    """Do the same as :func:`relabel_ids` for any values (R,): int32 (R,)."""
    listed = np.asarray(ids)  # an array of Python integers if one is huge
    check_ids(listed, what)
    order = np.argsort(listed.astype(np.int64), kind='stable')
    rising = np.append(listed[order], MAX_ID + 1).astype(np.int64)   # never empty
    places = np.searchsorted(rising[:-1], values)
    numbers = np.append(order + 1, 0).astype(np.int32)
    positions = np.where(rising[places] == values, numbers[places], np.int32(0))
    unlisted = (positions == 0) & (values != 0)
    if unlisted.any():
        raise AdaptisError(f'{what} holds segment {int(values[unlisted][0])} in its map, '
                           'but not in its list of segments.')
    return positions


def id_runs(*maps: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the runs of equal ids in maps of the same shape, row by row.

    Segments are long runs, so counting runs is much faster than counting pixels.

    Returns
    -------
    The ids of each map in the runs, each (R,), and the number of pixels of each run, int64 (R,).  A
    run ends where an id of any map changes.
    """
    flat = [each.ravel() for each in maps]
    changes = np.ones(flat[0].size, bool)
    np.not_equal(flat[0][1:], flat[0][:-1], out=changes[1:])
    for pixels in flat[1:]:
        changes[1:] |= pixels[1:] != pixels[:-1]
    begins = np.flatnonzero(changes)
    return [pixels[begins] for pixels in flat], np.diff(begins, append=changes.size)


class Runs(NamedTuple):
    """The runs of equal values of one map: the value and the pixels of each, both (R,)."""

    values: np.ndarray
    lengths: np.ndarray


def join_runs(first: Runs, second: Runs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the runs in which neither of two maps of one shape changes.

    It merges the runs of both maps, which is faster than going through their pixels again.

    Returns
    -------
    The values of the first map, those of the second one, and the pixels of each run, which may be
    0.
    """
    ends = np.concatenate([first.lengths.cumsum(), second.lengths.cumsum()])
    order = np.argsort(ends, kind='stable')   # merges two rising lists in linear time
    is_first = order < len(first.lengths)
    # A run has the value of each map whose next end is not before the run's.
    firsts, seconds = (np.cumsum(mine) - mine for mine in (is_first, ~is_first))
    last = [np.minimum(at, len(runs.lengths) - 1) for at, runs in (
        (firsts, first), (seconds, second))]
    return first.values[last[0]], second.values[last[1]], np.diff(ends[order], prepend=0)


def spread_runs(values: np.ndarray, lengths: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the map (H, W) that has the given value in each run of :func:`id_runs`."""
    return np.repeat(values, lengths).reshape(shape)


def present_ids(segment_map: np.ndarray, what: str) -> np.ndarray:
    """Return the sorted nonzero ids of a map, without sorting its pixels.

    Raises AdaptisError if an id is out of range.
    """
    if not segment_map.size:
        return np.zeros(0, dtype=np.int64)
    extremes = np.array([segment_map.min(), segment_map.max()])
    check_ids(np.unique(extremes[extremes != 0]), what)
    seen = np.zeros(int(extremes[1]) + 1, dtype=bool)
    seen[segment_map] = True
    seen[0] = False
    return np.flatnonzero(seen)


def check_ids(ids: np.ndarray, what: str) -> None:
    """Raise AdaptisError unless every id is between 1 and 2^24 - 1 and occurs only once."""
    wrong = ids[(ids < 1) | (ids > MAX_ID)]
    if wrong.size:
        raise AdaptisError(f'{what} has a segment with id {int(wrong[0])}: ids must be between 1 '
                           f'and {MAX_ID}.')
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise AdaptisError(f'{what} lists segment {int(values[counts > 1][0])} twice.')


def ids_to_rgb(segment_map: np.ndarray) -> np.ndarray:
    """Return segment ids (H, W) as the ``uint8`` (H, W, 3) RGB pixels of a panoptic PNG."""
    ids = np.ascontiguousarray(segment_map).astype('<i4', copy=False)
    return ids.view(np.uint8).reshape(*ids.shape, 4)[..., :3].copy()  # its bytes are the channels


def rgb_to_ids(picture: np.ndarray) -> np.ndarray:
    """Return the RGB pixels of a panoptic PNG, ``uint8`` (H, W, 3), as ``int32`` ids (H, W)."""
    return _words_to_ids(cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA))


def read_panoptic_png(path: PathLike) -> np.ndarray:
    """Return the segment ids of a panoptic PNG, ``int32`` (H, W).

    Alpha is ignored, and a palette is replaced by its colours.  The pixels are not rotated. Raises
    AdaptisError for a broken file, or one that does not have three 8-bit channels.
    """
    pixels, layout = read_colours(path)
    problem = panoptic_png_problem(path, layout)
    if problem:
        raise AdaptisError(problem)
    return _words_to_ids(pixels)


def _words_to_ids(pixels: np.ndarray) -> np.ndarray:
    """Return the ids of RGBA pixels (H, W, 4), in the same memory."""
    words = pixels.view('<u4')[..., 0]
    words &= MAX_ID
    return words.view('<i4').astype(np.int32, copy=False)


def panoptic_png_problem(path: PathLike, layout: Layout) -> Optional[str]:
    """Return a sentence if pixels with this layout are not a panoptic PNG, else None."""
    if layout.channels in (3, 4) and layout.bits == 8:
        return None
    return (f'{path} is not a panoptic PNG: it must have three channels of 8 bits, but it has '
            f'{layout.channels} of {layout.bits} bits.')
