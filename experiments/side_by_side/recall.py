"""Which objects are found, by how much other objects cover of their boxes, and by their size."""
from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np

from adaptis.evaluation.coco import PanopticFolder
from adaptis.evaluation.segments import boxes, sample_truth
from adaptis.ids import compact
from adaptis.types import PanopticResult
from experiments.side_by_side.pictures import errors, open_config

COVERED = (0.0, 0.02, 0.15, 0.35, 1.0)
"""Edges of the shares of a box that other objects cover."""
AREAS = (0, 64, 256, 1024, 2 ** 31)
"""Edges of the visible pixels of an object."""

Counts = Dict[str, List[int]]


def measure(config: Path, saved: Path) -> Dict[str, Counts]:
    """Objects of the validation images, found and in all, by ``covered`` and by ``area``.

    ``saved`` is what ``adaptis evaluate --save`` has written.  Found means what panoptic quality
    counts: an object of the same class with an intersection over union above 0.5.  Crowds do not
    count.  Raises AdaptisError if something cannot be read.
    """
    dataset, _ = open_config(config)
    predictions = PanopticFolder(saved / 'panoptic.json')
    covered, areas, hits = (np.array(column) for column in zip(*(
        row for index in range(len(dataset))
        for row in _objects(*sample_truth(dataset[index], dataset.taxonomy),
                            predictions.read(dataset.image_id(index)).result))))
    return {'covered': _binned(covered, hits, COVERED, '{:.0%}'),
            'area': _binned(areas, hits, AREAS, '{:.0f}')}


def _objects(truth: PanopticResult, crowd: Sequence[int], found: PanopticResult
             ) -> Iterator[Tuple[float, int, bool]]:
    """Covered share of the box, pixels, and whether it was found, of each object of an image."""
    missed, _ = errors(truth, found, crowd)
    positions = compact(truth.segment_map, [s.id for s in truth.segments], 'truth')
    things = np.array([False, *(s.isthing for s in truth.segments)])
    frames = boxes(positions, len(truth.segments))
    for number, (segment, (x, y, width, height)) in enumerate(zip(truth.segments, frames), 1):
        if segment.isthing and segment.id not in crowd:
            inside = positions[y:y + height, x:x + width]
            others = things[inside] & (inside != number)
            yield others.mean(), int((inside == number).sum()), segment.id not in missed


def _binned(values: np.ndarray, hits: np.ndarray, edges: Sequence[float], text: str) -> Counts:
    """Found and all by bin; a value on an edge belongs below it, as most are covered by nothing."""
    counts: Counts = {}
    for low, high in zip(edges, edges[1:]):
        inside = (values > low) & (values <= high) | ((low == edges[0]) & (values == low))
        name = (f'over {text.format(low)}' if high == edges[-1] else
                f'{text.format(low)} to {text.format(high)}')
        counts[name] = [int(hits[inside].sum()), int(inside.sum())]
    return counts
