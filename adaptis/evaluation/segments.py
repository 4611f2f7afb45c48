"""Fast, vectorised properties of segment maps, for all metrics."""
from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.ids import Runs, find_ids, id_runs, present_ids
from adaptis.types import PanopticResult, Sample, Segment, Taxonomy


def segment_areas(segment_map: np.ndarray, ids: Sequence[int], what: str) -> dict[int, int]:
    """Return segment id -> area; AdaptisError if the map contains an id that is not in ``ids``."""
    return areas_of_runs(segment_runs(segment_map, ids, what), ids)


def segment_runs(segment_map: np.ndarray, ids: Sequence[int], what: str) -> Runs:
    """Return the runs of a map, with k + 1 for the segment ``ids[k]`` and 0 for none.

    Raises AdaptisError if the map contains an id that is not in ``ids``.
    """
    (found,), lengths = id_runs(segment_map)
    return Runs(find_ids(found, ids, what), lengths)


def areas_of_runs(runs: Runs, ids: Sequence[int]) -> dict[int, int]:
    """Return segment id -> area from the result of :func:`segment_runs`."""
    counts = np.bincount(runs.values, runs.lengths, len(ids) + 1)
    return dict(zip(ids, counts[1:].astype(np.int64).tolist()))


def segment_boxes(positions: np.ndarray, count: int) -> np.ndarray:
    """Return tight boxes of ``count`` segments: int (count, 4) as x, y, width, height.

    ``positions`` is the result of :func:`relabel_ids`; a segment without pixels gets (0, 0, 0, 0).
    """
    height, width = positions.shape
    top, tall = _extent(positions, np.arange(height)[:, None], height, count)
    left, wide = _extent(positions, np.arange(width)[None, :], width, count)
    return np.stack([left, top, wide, tall], axis=1)


def _extent(positions: np.ndarray, coordinate: np.ndarray, size: int,
            count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first coordinate and the length of each segment along one axis."""
    cells = positions.astype(np.int64) * size + coordinate
    seen = np.bincount(cells.ravel(), minlength=(count + 1) * size)
    seen = seen.reshape(count + 1, size)[1:] > 0
    first = seen.argmax(axis=1)
    last = size - 1 - seen[:, ::-1].argmax(axis=1)
    return first, np.where(seen.any(axis=1), last - first + 1, 0)


def sample_truth(sample: Sample, taxonomy: Taxonomy) -> tuple[PanopticResult, Collection[int]]:
    """Return the ground truth of a sample as a panoptic result, and the ids of its crowd segments.

    Objects keep their ids; each stuff class becomes one segment with a larger id.  Pixels without
    an object whose semantic class is a thing or -1 belong to no segment (void).
    Raises AdaptisError if an object has no class, or an id is too large for COCO.
    """
    objects = present_ids(sample.instances, sample.name or 'A sample')
    classes = [_class_of(sample, int(i), len(taxonomy)) for i in objects]
    first_free = int(objects.max(initial=0)) + 1
    stuff = (sample.instances == 0) & (sample.semantic >= 0)
    stuff &= sample.semantic < taxonomy.num_stuff
    segment_map = np.where(stuff, sample.semantic + first_free, sample.instances).astype(np.int32)
    present = np.flatnonzero(np.bincount(sample.semantic[stuff]))
    ids = [int(i) for i in objects] + [first_free + int(c) for c in present]
    areas = segment_areas(segment_map, ids, sample.name or 'A sample')
    segments = [_segment(i, taxonomy, c, areas[i])
                for i, c in zip(ids, classes + [int(c) for c in present])]
    return PanopticResult(segment_map, segments), sample.ignored


def _class_of(sample: Sample, instance: int, num_classes: int) -> int:
    index = sample.classes.get(instance)
    if index is None or not 0 <= index < num_classes:
        raise AdaptisError(f'{sample.name or "A sample"}: object {instance} has '
                           f'{"no class" if index is None else f"the unknown class {index}"}.')
    return index


def _segment(segment_id: int, taxonomy: Taxonomy, index: int, area: int) -> Segment:
    category = taxonomy.categories[index]
    return Segment(segment_id, category.id, category.isthing, 1.0, area, category.name)
