"""Draw the same images as segmented by each system, with marks on errors."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from adaptis import viz
from adaptis.config import load_config
from adaptis.data.datasets import open_dataset
from adaptis.evaluation.overlap import Overlap, compute_overlap
from adaptis.evaluation.segments import sample_truth
from adaptis.files import write_image
from adaptis.loading import inference_settings, load_predictor
from adaptis.types import PanopticResult, Sample, Taxonomy

COUNT = 8
SCALE = 2
MISSED, FALSE = (255, 255, 255), (255, 225, 0)
"""Colours of the outlines of missed objects and of false detections."""


def draw(config: Path, checkpoint: Path, path: Path, ctx: str = 'cpu') -> None:
    """Write the first validation images as segmented by a system, in one column."""
    dataset, settings = open_config(config)
    predictor = load_predictor(checkpoint, settings, ctx, dataset.taxonomy)
    write_image(path, np.vstack([
        mark(sample, predictor.set_image(sample.image).panoptic(), dataset.taxonomy)
        for sample in first(dataset)]))


def truth(config: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and their ground truth, as two columns like those of ``draw``."""
    dataset, _ = open_config(config)
    rows = [(_enlarge(sample.image), _enlarge(viz.overlay_panoptic(
        sample.image, sample_truth(sample, dataset.taxonomy)[0], dataset.taxonomy)))
            for sample in first(dataset)]
    images, truths = zip(*rows)
    return np.vstack(images), np.vstack(truths)


def mark(sample: Sample, found: PanopticResult, taxonomy: Taxonomy,
         scale: int = SCALE) -> np.ndarray:
    """Draw a result over its image, with bright outlines for missed objects and false detections.

    As in panoptic quality, an object is found if an object of its class has an intersection over
    union above 0.5 with it.
    """
    expected, crowd = sample_truth(sample, taxonomy)
    missed, false = errors(compute_overlap(expected, found, crowd))
    picture = _enlarge(viz.overlay_panoptic(sample.image, found, taxonomy, like=expected), scale)
    for ids, segment_map, color in ((missed, expected.segment_map, MISSED),
                                    (false, found.segment_map, FALSE)):
        for number in ids:
            mask = _enlarge((segment_map == number).astype(np.uint8), scale)
            outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, outlines, -1, color, scale)
    return picture


def errors(overlap: Overlap) -> tuple[list[int], list[int]]:
    """Return the ids of missed things in the ground truth, and of false things in the result.

    As in panoptic quality, crowds do not count, nor does a predicted thing that lies mostly on void
    or on a crowd.
    """
    shared = overlap.shared
    union = (overlap.truth_area[:, None] + overlap.found_area[None] - shared[1:, 1:]
             - shared[:1, 1:])
    same = np.array([[t.category_id == f.category_id for f in overlap.found]
                     for t in overlap.truth]).reshape(shared[1:, 1:].shape)
    matched = same & ~overlap.is_crowd[:, None] & (2 * shared[1:, 1:] > union)
    idle = shared[0, 1:] + shared[1:, 1:][overlap.is_crowd].sum(axis=0)
    missed = [t.id for t, hit in zip(overlap.truth, matched.any(axis=1))
              if t.isthing and t.id not in overlap.crowd and not hit]
    false = [f.id for f, hit, lost, area in zip(overlap.found, matched.any(axis=0), idle,
                                                overlap.found_area)
             if f.isthing and not hit and 2 * lost <= area]
    return missed, false


def open_config(config: Path) -> tuple[Any, Any]:
    """Return the validation images and inference settings of a config."""
    wanted = load_config(config)
    dataset = open_dataset(wanted.data.dataset, wanted.data.root, wanted.data.val_split)
    return dataset, inference_settings(wanted)


def first(dataset: Any) -> list[Sample]:
    """Return the samples that are shown."""
    return [dataset[index] for index in range(min(COUNT, len(dataset)))]


def _enlarge(image: np.ndarray, scale: int = SCALE) -> np.ndarray:
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
