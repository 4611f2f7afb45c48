"""What saved results tell: how right their classes are, and which objects are found.

The mean IoU is that of the segments for every system; ``adaptis evaluate`` takes what a semantic
branch says by itself, which in some knows only one class for all things.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adaptis.evaluation.coco import PanopticFolder
from adaptis.evaluation.miou import MeanIoU
from adaptis.evaluation.overlap import Overlap, compute_overlap
from adaptis.evaluation.segments import sample_truth, segment_boxes
from adaptis.ids import relabel_ids
from adaptis.types import PanopticResult
from experiments.side_by_side.pictures import errors, open_config

COVERED = (0.0, 0.02, 0.15, 0.35, 1.0)
"""Edges of the shares of a box that other objects cover."""
AREAS = (0, 64, 256, 1024, 2 ** 31)
"""Edges of the visible pixels of an object."""

Counts = dict[str, list[int]]


def measure(config: Path, saved: Path) -> dict[str, Any]:
    """``miou`` in [0, 1]; objects of the validation images, found and in all, by how much of their
    boxes others have ``covered`` and by their ``area``.

    ``saved`` is what ``adaptis evaluate --save`` has written.  Found means what panoptic quality
    counts: an object of the same class with an intersection over union above 0.5.  Crowds do not
    count.  Raises AdaptisError if something cannot be read.
    """
    dataset, _ = open_config(config)
    predictions = PanopticFolder(saved / 'panoptic.json')
    semantic, rows = MeanIoU(len(dataset.taxonomy)), []
    for index in range(len(dataset)):
        truth, crowd = sample_truth(dataset[index], dataset.taxonomy)
        found = predictions.read(dataset.image_id(index)).result
        overlap = compute_overlap(truth, found, crowd)
        semantic.add_overlap(overlap, dataset.taxonomy)
        rows += _objects(truth, overlap)
    covered, areas, hits = (np.array(column) for column in zip(*rows))
    return {'miou': semantic.result()['miou'],
            'covered': _binned(covered, hits, COVERED, '{:.0%}'),
            'area': _binned(areas, hits, AREAS, '{:.0f}')}


def _objects(truth: PanopticResult, overlap: Overlap) -> Iterator[tuple[float, int, bool]]:
    """Covered share of the box, pixels, and whether it was found, of each object of an image."""
    missed, _ = errors(overlap)
    positions = relabel_ids(truth.segment_map, [s.id for s in truth.segments], 'truth')
    things = np.array([False, *(s.isthing for s in truth.segments)])
    frames = segment_boxes(positions, len(truth.segments))
    for number, (segment, (x, y, width, height)) in enumerate(zip(truth.segments, frames), 1):
        if segment.isthing and segment.id not in overlap.crowd:
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
