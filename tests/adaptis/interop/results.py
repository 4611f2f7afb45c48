"""A result with stuff, overlapping objects and void, and what every tool must return."""
from __future__ import annotations

from typing import Optional

import numpy as np

from adaptis.types import Category, PanopticResult, Segment, Taxonomy

TAXONOMY = Taxonomy([Category(7, 'car', True, (0, 0, 142)),
                     Category(3, 'sky', False, (70, 130, 180)),
                     Category(11, 'road & path', False, (128, 64, 128)),
                     Category(2, 'person', True, (220, 20, 60))])
SIZE = (40, 56)
SCORES = {4: 0.75, 9: 0.5, 12: 0.875, 30: 1.0, 31: 0.9375}


def make_result() -> PanopticResult:
    """Two cars, one of them in two parts and with a hole, a person on it, sky, road, and void."""
    segment_map = np.zeros(SIZE, np.int32)
    segment_map[:12] = 30
    segment_map[25:] = 31
    segment_map[14:30, 4:24] = 4
    segment_map[18:22, 8:12] = 0
    segment_map[14:30, 14:18] = 31
    segment_map[28:38, 30:50] = 9
    segment_map[20:34, 36:42] = 12
    kinds = {4: 7, 9: 7, 12: 2, 30: 3, 31: 11}
    return PanopticResult(segment_map, [
        Segment(k, c, TAXONOMY.by_id(c).isthing, SCORES[k], int((segment_map == k).sum()),
                TAXONOMY.by_id(c).name) for k, c in kinds.items()])


def assert_same(found: PanopticResult, scores: bool = True,
                expected: Optional[PanopticResult] = None) -> None:
    """The same segments at the same places, whatever their numbers."""
    expected = expected or make_result()
    np.testing.assert_array_equal(found.segment_map == 0, expected.segment_map == 0)
    for segment in expected.segments:
        where = expected.segment_map == segment.id
        (number,) = np.unique(found.segment_map[where])
        np.testing.assert_array_equal(found.segment_map == number, where)
        (other,) = [s for s in found.segments if s.id == number]
        assert (other.category_id, other.isthing, other.area, other.name) == (
            segment.category_id, segment.isthing, segment.area, segment.name)
        if scores:
            assert abs(other.score - segment.score) < 1e-6
    assert len(found.segments) == len(expected.segments)
