"""Merge overlapping soft masks and class probabilities into one segment per pixel (section 4).

The class of an object is the one with the highest mean probability inside its mask (section 5).
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

import cv2
import numpy as np

from adaptis.errors import AdaptisError
from adaptis.inference.memory import append_mask
from adaptis.inference.rescale import Resized, resize
from adaptis.inference.settings import AdaptISSettings
from adaptis.types import PanopticResult, Segment, Taxonomy


class Merged(NamedTuple):
    """The result of merging masks.  Stuff classes have the first indices.

    Attributes
    ----------
    masks : float32 (H, W) each, or None if they were not kept
    background : float32 (H, W), the score of "no object"
    instances : int32 (H, W), 1 + index of the mask that owns the pixel, 0 = none
    prob : float32 (H, W), the probability of that mask at the pixel
    classes : int32 (H, W), the most probable class of each pixel
    semantic : like ``classes``, with -1 where no class is assigned
    class_ids : int32 (M,), class index of each mask
    """

    masks: Optional[list[np.ndarray]]
    background: np.ndarray
    instances: np.ndarray
    prob: np.ndarray
    classes: np.ndarray
    semantic: np.ndarray
    class_ids: np.ndarray


class Merger:
    """Assigns every pixel to its most probable mask or to none, and a class to every mask.

    Masks are added one by one in order of acceptance; the earlier one wins a tie.  They need not be
    kept, so memory does not grow with the number of objects.

    Parameters
    ----------
    stuff_prob, things_prob : float32 (S, h, w), (T, h, w)
    size : (H, W) to which maps and masks are resized one at a time, after a mask has its class; by
        default that of the maps
    keep_masks : whether the result contains the masks
    """

    def __init__(self, stuff_prob: np.ndarray, things_prob: np.ndarray, settings: AdaptISSettings,
                 size: Optional[tuple[int, int]] = None, keep_masks: bool = True):
        self._things_prob, self._settings = things_prob, settings
        self._size = size or things_prob.shape[1:]
        self._stuff, self._things = (Resized(p, self._size) for p in (stuff_prob, things_prob))
        if settings.algorithm == 'paper':  # no background competes, but see greedy_paper
            self._background = np.full(self._size, settings.mask_threshold, np.float32)
        else:
            self._background = np.float32(settings.stuff_prob_mult) * (1 - sum(self._things))
        self._best = self._background.copy()
        self._owner = np.zeros(self._size, np.int32)
        self._class_ids: list[int] = []
        self._masks: Optional[list[np.ndarray]] = [] if keep_masks else None

    def add(self, mask: np.ndarray) -> None:
        """Add a mask, float32 (h, w), which claims pixels.

        Raises AdaptisError if masks are kept and no longer fit into memory.
        """
        self._class_ids.append(len(self._stuff)
                               + thing_class(mask, self._things_prob, self._settings))
        mask = resize(mask, self._size)
        better = mask > self._best
        np.copyto(self._owner, len(self._class_ids), where=better)
        np.maximum(self._best, mask, out=self._best)
        if self._masks is not None:
            append_mask(self._masks, mask)

    def result(self, ignore: Optional[np.ndarray] = None) -> Merged:
        """Return the merged masks; no semantic class is assigned where ``ignore`` (H, W) > 0."""
        # A mask that exceeds the background is the largest of all at that pixel.
        self._owner[self._best < self._settings.min_things_prob] = 0
        classes, unsure = _likeliest(self._stuff, self._things, self._settings.min_stuff_prob)
        if ignore is not None:
            unsure |= ignore > 0
        semantic = np.where(unsure, np.int32(-1), classes)
        return Merged(self._masks, self._background, self._owner, self._best, classes, semantic,
                      np.asarray(self._class_ids, np.int32))


def merge(masks: Iterable[np.ndarray], stuff_prob: np.ndarray, things_prob: np.ndarray,
          settings: AdaptISSettings, ignore: Optional[np.ndarray] = None) -> Merged:
    """Merge all masks at once; see :class:`Merger`."""
    merger = Merger(stuff_prob, things_prob, settings)
    for mask in masks:
        merger.add(mask)
    return merger.result(ignore)


def to_panoptic(merged: Merged, stuff_prob: np.ndarray, taxonomy: Taxonomy,
                keep_masks: bool = False) -> PanopticResult:
    """Number the things that have a pixel, starting at 1, and then the stuff classes.

    The score of a thing is the mean of its mask over its pixels; that of a stuff segment is the
    mean of its class probability.  ``keep_masks`` needs masks that were kept.
    """
    _check_classes(merged, stuff_prob, taxonomy)
    stuff = np.where(merged.instances == 0, merged.semantic, -1)
    segments: list[Segment] = []

    def append(class_index: int, area: int, total: float) -> int:
        category = taxonomy.categories[class_index]
        score = float(np.clip(total / area, 0, 1))
        segments.append(Segment(len(segments) + 1, category.id, category.isthing, score, area,
                                category.name))
        return len(segments)

    numbers = np.zeros(len(merged.class_ids) + 1, np.int32)
    areas = np.bincount(merged.instances.ravel(), minlength=len(numbers))
    totals = np.bincount(merged.instances.ravel(), merged.prob.ravel(), len(numbers))
    for index, class_index in enumerate(merged.class_ids, start=1):
        if areas[index]:
            numbers[index] = append(class_index, int(areas[index]), totals[index])
    segment_map = numbers[merged.instances]
    soft = ({int(numbers[i]): mask for i, mask in enumerate(merged.masks, 1) if numbers[i]}
            if keep_masks else None)
    for class_index, prob in enumerate(Resized(stuff_prob, stuff.shape)):
        where = stuff == class_index
        area = int(np.count_nonzero(where))
        if area:
            segment_map[where] = append(class_index, area, prob[where].sum(dtype=np.float64))
    return PanopticResult(segment_map, segments, soft, merged.classes)


def thing_class(mask: np.ndarray, things_prob: np.ndarray, settings: AdaptISSettings) -> int:
    """Return the thing class with the highest mean probability inside the mask."""
    inside = (mask > settings.mask_threshold).view(np.uint8)
    if inside.any():
        left, top, width, height = cv2.boundingRect(inside)
        box = np.s_[top:top + height, left:left + width]
        return int(np.argmax([cv2.mean(prob[box], inside[box])[0] for prob in things_prob]))
    if settings.official:
        return 0  # where it is the argmax of NaNs
    return int(np.argmax([np.vdot(prob, mask) for prob in things_prob]))


def _likeliest(stuff_prob: Sequence[np.ndarray], things_prob: Sequence[np.ndarray],
               min_stuff_prob: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the argmax over all classes (the first wins a tie), and where stuff is uncertain."""
    best = np.zeros_like(things_prob[0])
    classes = np.zeros(best.shape, np.int32)
    for index, prob in enumerate(stuff_prob):
        classes[prob > best] = index
        np.maximum(best, prob, out=best)
    unsure = best < min_stuff_prob
    for index, prob in enumerate(things_prob, start=len(stuff_prob)):
        classes[prob > best] = index
        np.maximum(best, prob, out=best)
    return classes, unsure


def _check_classes(merged: Merged, stuff_prob: np.ndarray, taxonomy: Taxonomy) -> None:
    things = taxonomy.num_things
    if len(stuff_prob) != taxonomy.num_stuff or (merged.class_ids >= len(taxonomy)).any():
        raise AdaptisError(
            f'The network ({len(stuff_prob)} stuff classes) does not match its taxonomy '
            f'({taxonomy.num_stuff} stuff and {things} thing categories).')
