"""From overlapping soft masks and class probabilities to one segment per pixel (section 4)."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.inference.settings import Settings
from adaptis.types import PanopticResult, Segment, Taxonomy


class Merged(NamedTuple):
    """Masks after they shared out the image.

    ``background`` float32 (H, W), the score of "no object"; ``instances`` int32 (H, W),
    1 + index of the mask that has the pixel, 0 = none; ``classes`` int32 (H, W), the likeliest
    class of each pixel; ``semantic`` the same with -1 where no class is given; ``class_ids``
    int32 (M,), class index of each mask.  Class indices count the stuff first.
    """

    masks: Sequence[np.ndarray]
    background: np.ndarray
    instances: np.ndarray
    classes: np.ndarray
    semantic: np.ndarray
    class_ids: np.ndarray


def merge(masks: list[np.ndarray], stuff_prob: np.ndarray, things_prob: np.ndarray,
          settings: Settings, ignore: Optional[np.ndarray] = None) -> Merged:
    """Give every pixel to its likeliest mask or to none, and every mask a class.

    Parameters
    ----------
    masks : float32 (H, W) each, in order of acceptance; the earlier wins a tie
    stuff_prob, things_prob : float32 (S, H, W), (T, H, W)
    ignore : (H, W), > 0 where no semantic class is given
    """
    class_ids = [len(stuff_prob) + _thing_class(mask, things_prob, settings) for mask in masks]
    return share_out(masks, stuff_prob, things_prob, np.asarray(class_ids, np.int32), settings,
                     ignore)


def share_out(masks: Sequence[np.ndarray], stuff_prob: Sequence[np.ndarray],
              things_prob: Sequence[np.ndarray], class_ids: np.ndarray, settings: Settings,
              ignore: Optional[np.ndarray] = None) -> Merged:
    """:func:`merge` for masks whose classes are known.  Looks at one map at a time."""
    background = np.float32(settings.stuff_prob_mult) * (1 - sum(things_prob))
    instances = _owners(masks, background, settings.min_things_prob)
    classes, unsure = _likeliest(stuff_prob, things_prob, settings.min_stuff_prob)
    if ignore is not None:
        unsure |= ignore > 0
    semantic = np.where(unsure, np.int32(-1), classes)
    return Merged(masks, background, instances, classes, semantic, class_ids)


def to_panoptic(merged: Merged, stuff_prob: Sequence[np.ndarray], taxonomy: Taxonomy,
                keep_masks: bool = False) -> PanopticResult:
    """Number the things that kept a pixel from 1 on, then the stuff classes.

    A thing's score is the mean of its mask over its pixels, a stuff segment's that of its class.
    """
    _check_classes(merged, stuff_prob, taxonomy)
    segment_map = np.zeros(merged.instances.shape, np.int32)
    segments: list[Segment] = []
    soft: dict[int, np.ndarray] = {}

    def append(where: np.ndarray, prob: np.ndarray, class_index: int) -> None:
        category = taxonomy.categories[class_index]
        number = len(segments) + 1
        segment_map[where] = number
        score = float(np.clip(prob[where].mean(dtype=np.float64), 0, 1))
        segments.append(Segment(number, category.id, category.isthing, score,
                                int(np.count_nonzero(where))))

    for index, mask in enumerate(merged.masks):
        where = merged.instances == index + 1
        if where.any():
            append(where, mask, int(merged.class_ids[index]))
            if keep_masks:
                soft[len(segments)] = mask
    for class_index in range(taxonomy.num_stuff):
        where = (merged.instances == 0) & (merged.semantic == class_index)
        if where.any():
            append(where, stuff_prob[class_index], class_index)
    return PanopticResult(segment_map, segments, soft if keep_masks else None, merged.classes)


def _owners(masks: Sequence[np.ndarray], background: np.ndarray,
            min_things_prob: float) -> np.ndarray:
    """argmax over [background, masks...] without stacking them; the first wins a tie."""
    best = background.copy()
    strongest = np.zeros_like(background)
    owner = np.zeros(background.shape, np.int32)
    for index, mask in enumerate(masks):
        better = mask > best
        owner[better] = index + 1
        np.copyto(best, mask, where=better)
        np.maximum(strongest, mask, out=strongest)
    owner[strongest < min_things_prob] = 0
    return owner


def _thing_class(mask: np.ndarray, things_prob: np.ndarray, settings: Settings) -> int:
    """The thing class with the highest mean probability inside the mask."""
    inside = mask > settings.mask_threshold
    if inside.any():
        return int(things_prob[:, inside].mean(axis=1).argmax())
    if settings.official:
        return 0  # there it is the argmax of NaNs
    return int((things_prob * mask).sum(axis=(1, 2)).argmax())


def _likeliest(stuff_prob: Sequence[np.ndarray], things_prob: Sequence[np.ndarray],
               min_stuff_prob: float) -> tuple[np.ndarray, np.ndarray]:
    """argmax over all classes, the first wins a tie; and where no stuff class is likely enough."""
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


def _check_classes(merged: Merged, stuff_prob: Sequence[np.ndarray], taxonomy: Taxonomy) -> None:
    things = taxonomy.num_things
    if len(stuff_prob) != taxonomy.num_stuff or (merged.class_ids >= len(taxonomy)).any():
        raise AdaptisError(
            f'The network has {len(stuff_prob)} stuff classes, or more thing classes than its '
            f'taxonomy, which has {taxonomy.num_stuff} stuff and {things} thing categories.')
