"""Helpers for the tests in this folder: tiny panoptic results drawn by hand, and a worker."""
from __future__ import annotations

import os

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.types import Category, PanopticResult, Segment, Taxonomy

TAXONOMY = Taxonomy([
    Category(7, 'sky', False, (1, 2, 3)),
    Category(21, 'cat', True, (4, 5, 6)),
    Category(22, 'dog', True, (7, 8, 9)),
    Category(9, 'grass', False, (10, 11, 12)),
])


def result(segment_map, categories, scores=None) -> PanopticResult:
    """A result from rows of ids and {id: category}; ``scores`` default to 1."""
    segment_map = np.array(segment_map, dtype=np.int32)
    segments = [Segment(i, c, TAXONOMY.by_id(c).isthing, (scores or {}).get(i, 1.0),
                        int((segment_map == i).sum())) for i, c in categories.items()]
    return PanopticResult(segment_map, segments)


def row(*lengths) -> list:
    """A picture of one row: (id, number of pixels) pairs one after the other."""
    return [[i for i, n in lengths for _ in range(n)]]


def square(value):
    """What worker processes do: 99 is an error, -1 kills the process."""
    if value == 99:
        raise AdaptisError('no square of 99.')
    if value == -1:
        os._exit(9)
    return value * value, os.environ.get('OMP_NUM_THREADS')
