"""The heuristic that merges instances and semantic labels (Panoptic Segmentation, section 7.1).

Panoptic FPN, CondInst and dense detections share it.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.types import PanopticResult, Segment, Taxonomy
from panoptic_baselines.classes import thing_to_class_index


@dataclass
class Instances:
    """The detected objects of one image; they may overlap.

    Attributes
    ----------
    boxes : float32 (N, 4), (x0, y0, x1, y1) in pixels of the image
    scores : float32 (N,)
    classes : int (N,), 0 = the first thing class
    masks : bool (N, H, W)
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    masks: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


def merge(instances: Optional[Instances], semantic: Optional[np.ndarray], taxonomy: Taxonomy, *,
          instance_score: float = 0.5, overlap_threshold: float = 0.5,
          stuff_area_limit: int = 4096) -> PanopticResult:
    """Assign a segment to every pixel: things by descending score, then stuff on the free pixels.

    Parameters
    ----------
    instances : None if the network has no instance branch; things then come from ``semantic`` too
    semantic : int (H, W), class indices of the taxonomy, -1 = none; None = no stuff
    instance_score : instances with a lower score are dropped
    overlap_threshold : an instance is dropped if others cover more than this share of it
    stuff_area_limit : a stuff class with fewer free pixels is dropped

    Segment ids start at 1, and a stuff segment has score 1.  Raises AdaptisError if both parts
    are missing or if their sizes differ.
    """
    segments: list[Segment] = []
    segment_map = np.zeros(_size(instances, semantic), np.int32)
    if instances is not None:
        _add_things(instances, taxonomy, instance_score, overlap_threshold, segment_map, segments)
    if semantic is not None:
        stuff = semantic
        if instances is not None:
            stuff = np.where(semantic < taxonomy.num_stuff, semantic, -1)
        _add_stuff(stuff, taxonomy, stuff_area_limit, segment_map, segments)
    return PanopticResult(segment_map, segments, semantic=semantic)


def _size(instances: Optional[Instances], semantic: Optional[np.ndarray]) -> tuple[int, ...]:
    masks = None if instances is None else instances.masks
    sizes = {part.shape[-2:] for part in (masks, semantic) if part is not None}
    if len(sizes) != 1:
        raise AdaptisError('Instances and semantic labels must have the same size, not '
                           f'{sorted(sizes)}.')
    return sizes.pop()


def _add_things(instances: Instances, taxonomy: Taxonomy, instance_score: float,
                overlap_threshold: float, segment_map: np.ndarray,
                segments: list[Segment]) -> None:
    categories = [taxonomy.categories[i] for i in thing_to_class_index(instances.classes, taxonomy)]
    free = segment_map == 0
    for i in np.argsort(-instances.scores, kind='stable'):
        score = float(instances.scores[i])
        if score < instance_score:
            break
        mask = instances.masks[i]
        area = np.count_nonzero(mask)
        mask = mask & free
        left = np.count_nonzero(mask)
        if not left or (area - left) / area > overlap_threshold:
            continue
        segments.append(Segment(len(segments) + 1, categories[i].id, True, score, left,
                                categories[i].name))
        segment_map[mask] = len(segments)
        free ^= mask


def _add_stuff(stuff: np.ndarray, taxonomy: Taxonomy, area_limit: int, segment_map: np.ndarray,
               segments: list[Segment]) -> None:
    free = (segment_map == 0) & (stuff >= 0)
    classes = stuff[free]
    areas = np.bincount(classes, minlength=len(taxonomy))
    ids = np.zeros(len(taxonomy), np.int32)
    for index in np.flatnonzero(areas):
        if areas[index] >= area_limit:
            category = taxonomy.categories[index]
            ids[index] = len(segments) + 1
            segments.append(Segment(len(segments) + 1, category.id, category.isthing, 1.0,
                                    int(areas[index]), category.name))
    segment_map[free] = ids[classes]
