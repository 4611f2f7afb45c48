"""How the segments of a truth and of a result overlap: all that the measures need of an image."""
from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.ids import compact
from adaptis.types import PanopticResult, Segment


@dataclass(frozen=True)
class Overlap:
    """The overlaps of one image, counted once for all measures.

    Attributes
    ----------
    shared : int64 (1 + G, 1 + P), the pixels that each of G true and each of P found segments
        share, in the order of the lists; row 0 and column 0 are void
    truth, found : the segments
    crowd : ids of true segments that are crowds
    positions : int32 (H, W), the column of each pixel
    """

    shared: np.ndarray
    truth: Sequence[Segment]
    found: Sequence[Segment]
    crowd: Collection[int] = ()
    positions: Optional[np.ndarray] = field(default=None, repr=False)

    @property
    def truth_area(self) -> np.ndarray:
        """Pixels of each true segment: int64 (G,)."""
        return self.shared.sum(axis=1)[1:]

    @property
    def found_area(self) -> np.ndarray:
        """Pixels of each found segment: int64 (P,)."""
        return self.shared.sum(axis=0)[1:]

    @property
    def is_crowd(self) -> np.ndarray:
        """Which true segments are crowds: bool (G,)."""
        return np.array([s.id in self.crowd for s in self.truth], dtype=bool)


def overlap_of(truth: PanopticResult, found: PanopticResult, crowd: Collection[int] = (),
               name: str = 'The image') -> Overlap:
    """Count what two segmentations of one image share.

    Parameters
    ----------
    truth, found : areas are taken from the maps, not from the lists
    crowd : ids of true segments that are crowds
    name : what error messages call the image

    Raises
    ------
    AdaptisError
        If the sizes differ, or a map holds an id that its segments do not list.
    """
    rows_of, columns_of = truth.segment_map, found.segment_map
    if rows_of.shape != columns_of.shape:
        raise AdaptisError(f'{name}: the ground truth is {rows_of.shape[0]}x{rows_of.shape[1]} but '
                           f'the prediction is {columns_of.shape[0]}x{columns_of.shape[1]}.')
    rows = compact(rows_of, [s.id for s in truth.segments], f'{name} (ground truth)')
    columns = compact(columns_of, [s.id for s in found.segments], f'{name} (prediction)')
    shape = len(truth.segments) + 1, len(found.segments) + 1
    size = shape[0] * shape[1]
    if size >= 2 ** 31:
        rows = rows.astype(np.int64)
    rows *= shape[1]
    rows += columns
    shared = np.bincount(rows.ravel(), minlength=size).reshape(shape)
    return Overlap(shared, truth.segments, found.segments, crowd, columns)
