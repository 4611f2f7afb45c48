"""The overlaps between ground-truth and predicted segments, on which all metrics are based."""
from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.ids import Runs, find_ids, id_runs, join_runs, relabel_ids
from adaptis.types import AnnotatedObjects, Objects, PanopticResult, Segment, Taxonomy


@dataclass(frozen=True)
class Overlap:
    """The overlaps of one image, counted once for all metrics.

    Attributes
    ----------
    shared : int64 (1 + G, 1 + P), the number of pixels that each of G ground-truth segments shares
        with each of P predicted ones, in the order of the lists; row 0 and column 0 are void
    truth, found : the segments
    crowd : ids of ground-truth segments that are crowds
    true_areas, found_areas : int64 (G,) and (P,), given if they differ from the sums of the rows or
        columns of ``shared``
    annotated_areas : float64 (G,), given if the annotation has other areas than ``true_areas``
    """

    shared: np.ndarray
    truth: Sequence[Segment]
    found: Sequence[Segment]
    crowd: Collection[int] = ()
    true_areas: Optional[np.ndarray] = None
    found_areas: Optional[np.ndarray] = None
    annotated_areas: Optional[np.ndarray] = None

    @property
    def truth_area(self) -> np.ndarray:
        """Number of pixels of each ground-truth segment: int64 (G,)."""
        return self.shared.sum(axis=1)[1:] if self.true_areas is None else self.true_areas

    @property
    def found_area(self) -> np.ndarray:
        """Number of pixels of each predicted segment: int64 (P,)."""
        return self.shared.sum(axis=0)[1:] if self.found_areas is None else self.found_areas

    @property
    def annotated_area(self) -> np.ndarray:
        """Area of each ground-truth segment according to the annotation: (G,)."""
        return self.truth_area if self.annotated_areas is None else self.annotated_areas

    @property
    def is_crowd(self) -> np.ndarray:
        """Which ground-truth segments are crowds: bool (G,)."""
        return np.array([s.id in self.crowd for s in self.truth], dtype=bool)


def compute_overlap(truth: PanopticResult, found: PanopticResult, crowd: Collection[int] = (),
                    name: str = 'The image',
                    runs: Optional[tuple[Runs, Runs]] = None) -> Overlap:
    """Count the pixels that the segments of two segmentations share.

    Parameters
    ----------
    truth, found : areas are computed from the maps, not taken from the lists
    crowd : ids of true segments that are crowds
    name : name of the image in error messages
    runs : of both maps, by place in the list, if they are known (``segments.segment_runs``)

    Raises
    ------
    AdaptisError
        If the sizes differ, or a map contains an id that its segments do not list.
    """
    rows_of, columns_of = truth.segment_map, found.segment_map
    if rows_of.shape != columns_of.shape:
        raise AdaptisError(f'{name}: the ground truth is {rows_of.shape[0]}x{rows_of.shape[1]} but '
                           f'the prediction is {columns_of.shape[0]}x{columns_of.shape[1]}.')
    if runs is None:
        (rows, columns), lengths = id_runs(rows_of, columns_of)
        rows = find_ids(rows, [s.id for s in truth.segments], f'{name} (ground truth)')
        columns = find_ids(columns, [s.id for s in found.segments], f'{name} (prediction)')
    else:
        rows, columns, lengths = join_runs(*runs)
    shape = len(truth.segments) + 1, len(found.segments) + 1
    pairs = rows.astype(np.int64) * shape[1] + columns
    shared = np.bincount(pairs, lengths, shape[0] * shape[1]).astype(np.int64).reshape(shape)
    return Overlap(shared, truth.segments, found.segments, crowd)


def compute_object_overlap(truth: PanopticResult, found: Objects, crowd: Collection[int] = (),
                           name: str = 'The image') -> Overlap:
    """Do the same for predicted objects that may overlap each other.

    Raises AdaptisError if the sizes differ, or the ground-truth map contains an unlisted id.
    """
    if len(found.masks) and found.masks.shape[1:] != truth.segment_map.shape:
        raise AdaptisError(f'{name}: the ground truth is '
                           f'{truth.segment_map.shape[0]}x{truth.segment_map.shape[1]} but the '
                           f'predicted objects are {found.masks.shape[1]}x{found.masks.shape[2]}.')
    rows = relabel_ids(truth.segment_map, [s.id for s in truth.segments], f'{name} (ground truth)')
    height = len(truth.segments) + 1
    shared = np.zeros((height, len(found.masks) + 1), np.int64)
    for column, mask in enumerate(found.masks, start=1):
        shared[:, column] = np.bincount(rows[mask], minlength=height)
    segments = [Segment(k, int(category), True, float(score), int(shared[:, k].sum()))
                for k, (category, score) in enumerate(zip(found.category_ids, found.scores), 1)]
    return Overlap(shared, truth.segments, segments, crowd,
                   true_areas=np.bincount(rows.ravel(), minlength=height)[1:])


def compute_annotated_overlap(truth: AnnotatedObjects, found: PanopticResult, taxonomy: Taxonomy,
                              name: str = 'The image') -> Overlap:
    """Do the same for ground-truth objects that may overlap each other; their ids become 1, 2, ....

    It counts the ``objects`` of ``found``, or its segments if it has none.

    Raises AdaptisError if the sizes differ, or the predicted map contains an unlisted id.
    """
    layers, height = truth.layers, len(truth) + 1
    size = found.segment_map.shape if found.objects is None else found.objects.masks.shape[1:]
    if size != layers.shape[1:] and (found.objects is None or len(found.objects.masks)):
        raise AdaptisError(f'{name}: the ground truth is {layers.shape[1]}x{layers.shape[2]} but '
                           f'the predicted objects are {size[0]}x{size[1]}.')
    masks, segments = _masks_of(found, name)
    shared = np.zeros((height, len(segments) + 1), np.int64)
    areas = np.zeros(len(segments), np.int64)
    for k, mask in enumerate(masks):
        areas[k] = np.count_nonzero(mask)
        for layer in layers:
            shared[:, k + 1] += np.bincount(layer[mask], minlength=height)
    shared[0] = 0   # a pixel that is void in one layer may be covered in another
    ids = [c.id for c in taxonomy.categories]
    true = [Segment(k, ids[c], True, 1.0, 0) for k, c in enumerate(truth.classes.tolist(), 1)]
    return Overlap(shared, true, segments, frozenset((np.flatnonzero(truth.crowd) + 1).tolist()),
                   true_areas=np.bincount(layers.ravel(), minlength=height)[1:],
                   found_areas=areas, annotated_areas=truth.areas)


def _masks_of(found: PanopticResult,
              name: str) -> tuple[Iterable[np.ndarray], Sequence[Segment]]:
    """Return the masks (H, W) and the list of predicted objects, else of segments."""
    objects = found.objects
    if objects is None:
        columns = relabel_ids(found.segment_map, [s.id for s in found.segments],
                              f'{name} (prediction)')
        return (columns == k + 1 for k in range(len(found.segments))), found.segments
    return objects.masks, [Segment(k, int(category), True, float(score), 0) for k, (
        category, score) in enumerate(zip(objects.category_ids, objects.scores), 1)]
