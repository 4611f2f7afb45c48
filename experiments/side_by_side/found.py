"""Evaluate saved results: the mean IoU of their classes, and which objects are found.

Here, the mean IoU is measured on the segments of every system.  ``adaptis evaluate`` measures the
output of the semantic branch, which has only one class for all things in some systems.
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
"""Limits of the bins for the share of a box that other objects cover."""
AREAS = (0, 64, 256, 1024, 2 ** 31)
"""Limits of the bins for the number of visible pixels of an object."""

Counts = dict[str, list[int]]


def measure(config: Path, saved: Path) -> dict[str, Any]:
    """Return ``miou`` in [0, 1], and the numbers of found and of all objects by ``covered`` share
    of their boxes and by ``area``.

    ``saved`` is the output of ``adaptis evaluate --save``.  As in panoptic quality, an object
    is found if an object of the same class has an intersection over union above 0.5 with it.
    Crowds do not count.  Raises AdaptisError if a file cannot be read.
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
    """Return, for each object of an image, the covered share of its box, pixels, and found."""
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
    """Return found and all objects by bin; a value on a limit belongs to the lower bin."""
    counts: Counts = {}
    for low, high in zip(edges, edges[1:]):
        inside = (values > low) & (values <= high) | ((low == edges[0]) & (values == low))
        name = (f'over {text.format(low)}' if high == edges[-1] else
                f'{text.format(low)} to {text.format(high)}')
        counts[name] = [int(hits[inside].sum()), int(inside.sum())]
    return counts
