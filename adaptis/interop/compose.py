"""Convert masks that may overlap to a ``PanopticResult``, and a result to masks."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.types import Category, Objects, PanopticResult, Segment, Taxonomy


class Region(NamedTuple):
    """A segment before overlaps are resolved: its category, mask bool (H, W) and score."""

    category: Category
    mask: np.ndarray
    score: float = 1.0


def compose(regions: Sequence[Region], size: tuple[int, int]) -> PanopticResult:
    """Return a result with one segment per pixel.

    Things cover stuff.  Of two things the one with the higher score is on top, or the smaller one
    if the scores are equal.  All regions of a stuff class become one segment.  ``objects`` of the
    result contains the things with their whole masks.

    Raises AdaptisError for a mask of another size.
    """
    for region in regions:
        if region.mask.shape != tuple(size):
            raise AdaptisError(f'A mask of {region.category.name} is {region.mask.shape}, but the '
                               f'image is {tuple(size)}.')
    segment_map = np.zeros(size, np.int32)
    owners: list[Region] = []
    stuff: dict[int, int] = {}
    order = sorted(regions, key=lambda r: (r.category.isthing, r.score, -np.count_nonzero(r.mask)))
    for region in order:
        number = stuff.get(region.category.id)
        if number is None:
            owners.append(region)
            number = len(owners)
        if not region.category.isthing:
            stuff[region.category.id] = number
        segment_map[region.mask] = number
    areas = np.bincount(segment_map.ravel(), minlength=len(owners) + 1)
    segments = [Segment(k, r.category.id, r.category.isthing, float(r.score), int(areas[k]),
                        r.category.name) for k, r in enumerate(owners, start=1) if areas[k]]
    things = [r for r in regions if r.category.isthing]
    objects = Objects(
        np.array([r.mask for r in things], bool).reshape(-1, *size),
        np.array([r.score for r in things], float),
        np.array([r.category.id for r in things], np.int64))
    return PanopticResult(segment_map, segments, objects=objects)


def from_map(segment_map: np.ndarray, infos: Mapping[int, tuple[Category, float]]
             ) -> PanopticResult:
    """Return a result from a segment map and id -> (category, score).  Ids without a pixel are
    omitted, and pixels of other ids belong to no segment."""
    known = np.isin(segment_map, list(infos))
    segment_map = np.where(known, segment_map, 0).astype(np.int32)
    present, counts = np.unique(segment_map[segment_map > 0], return_counts=True)
    segments = [Segment(int(k), infos[int(k)][0].id, infos[int(k)][0].isthing,
                        float(infos[int(k)][1]), int(area), infos[int(k)][0].name)
                for k, area in zip(present, counts)]
    return PanopticResult(segment_map, segments)


def segment_masks(result: PanopticResult, things_only: bool = False
                  ) -> list[tuple[Segment, np.ndarray]]:
    """Return the segments that have a pixel, with their masks, bool (H, W)."""
    wanted = result.things if things_only else result.segments
    masks = ((segment, result.segment_map == segment.id) for segment in wanted)
    return [(segment, mask) for segment, mask in masks if mask.any()]


def find_category(taxonomy: Taxonomy, label: str) -> Category:
    """Return the category of a name; AdaptisError if there is none."""
    for category in taxonomy.categories:
        if category.name == label:
            return category
    raise AdaptisError(f'There is no category "{label}"; the categories are '
                       f'{", ".join(c.name for c in taxonomy.categories)}.')


def category_at(taxonomy: Taxonomy, index: int) -> Category:
    """Return the category of a class index; AdaptisError if there is none."""
    if not 0 <= index < len(taxonomy):
        raise AdaptisError(f'There is no class {index}: the taxonomy has {len(taxonomy)} classes, '
                           'counted from 0.')
    return taxonomy.categories[index]


def to_array(values: object) -> np.ndarray:
    """Return a tensor of any library, on any device, as a NumPy array."""
    for method in ('detach', 'cpu'):
        values = getattr(values, method, lambda unchanged=values: unchanged)()
    return np.asarray(values)


def name_of(segment: Segment, taxonomy: Optional[Taxonomy]) -> str:
    """Return the class name of a segment."""
    return segment.name if taxonomy is None else taxonomy.by_id(segment.category_id).name
