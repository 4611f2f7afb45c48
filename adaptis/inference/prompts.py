"""Prompts for one object as in SAM: points with labels, and a box.

In the paper, a prompt is a single point.  Several points, negative points and boxes are extensions
of this library, which combine the masks that the network predicts for single points:

* All positive points belong to one object.  The probability of a pixel is the maximum over the
  points.
* A negative point removes the object at that point: probabilities are multiplied by 1 - p, where p
  is the maximum probability over the negative points.
* Nothing outside a box belongs to the object.  Without a positive point, nine points well inside
  the box are tried, and the mask that fits the box best is the answer.  The fit is the share of the
  mask that lies inside the box, times the share of the box that the bounding rectangle of this part
  covers.
"""
from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional

import cv2
import numpy as np

from adaptis.errors import AdaptisError
from adaptis.inference.greedy import mean_confidence

MasksAt = Callable[[np.ndarray], np.ndarray]

MAX_ALTERNATIVES = 3
"""Maximum number of masks for ``multimask_output``, as in SAM."""

_INSIDE = (0.3, 0.5, 0.7)   # relative positions of the points to try in a box
_SAME_IOU = 0.8             # masks that overlap more count as one object
_EPSILON = np.finfo(np.float32).eps


class PromptResult(NamedTuple):
    """Masks for a prompt, best first.  It unpacks like what SAM's predictor returns.

    Attributes
    ----------
    masks : bool (C, H, W), at the size of the image: where the probability is above
        ``settings.mask_threshold``
    scores : float32 (C,): the mean probability over the pixels of the mask, 0 if there are none;
        for a box without points, multiplied by the mask's fit to the box
    logits : float32 (C, H, W): log(p / (1 - p)) of the probabilities, between -16 and 16.  Unlike
        SAM's low-resolution logits, they have the size of the image and cannot be used as a prompt.
    """

    masks: np.ndarray
    scores: np.ndarray
    logits: np.ndarray


class Prompt(NamedTuple):
    """A prompt that was checked.

    Attributes
    ----------
    positive, negative : float32 (P, 2), (x, y) in pixels of the image
    box : columns and rows x0, y0, x1, y1 of its pixels, x1 and y1 excluded; or None
    """

    positive: np.ndarray
    negative: np.ndarray
    box: Optional[tuple[int, int, int, int]]


def check_prompt(point_coords: Any, point_labels: Any, box: Any, size: tuple[int, int]) -> Prompt:
    """Return the prompt for an image of (H, W); AdaptisError if it is invalid.

    This does not check that points are inside the image.
    """
    points = _numbers([] if point_coords is None else point_coords, 'point_coords')
    if points.size == 0:
        points = points.reshape(0, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise AdaptisError('point_coords must have the shape (N, 2), with a row (x, y) for each '
                           f'point, not {points.shape}; pass the image itself to set_image.')
    labels = (np.ones(len(points)) if point_labels is None
              else _numbers(point_labels, 'point_labels'))
    if labels.shape != (len(points),) or not np.isin(labels, (0, 1)).all():
        raise AdaptisError(f'point_labels must have one label for each of the {len(points)} '
                           'points: 1 = on the object, 0 = not on the object.')
    positive, negative = points[labels == 1], points[labels == 0]
    if box is None and not len(positive):
        raise AdaptisError('The prompt is empty: give a point with the label 1, or a box.')
    return Prompt(positive, negative, None if box is None else _pixels_of(box, size))


def answer(prompt: Prompt, masks_at: MasksAt, threshold: float,
           multimask_output: bool) -> PromptResult:
    """Return the mask of a prompt, or alternatives for it.

    Parameters
    ----------
    masks_at : returns probabilities (N, H, W) for points (N, 2), (x, y)
    threshold : a pixel is in a mask above this probability
    multimask_output : see ``Predictor.predict``
    """
    by_box = not len(prompt.positive)
    asked = _points_inside(prompt.box) if by_box else prompt.positive
    probs = masks_at(np.concatenate([asked, prompt.negative]))
    probs, away = probs[:len(asked)], probs[len(asked):]
    if not by_box and len(asked) > 1:
        union = probs.max(axis=0, keepdims=True)
        probs = np.concatenate([union, probs]) if multimask_output else union
    if len(away):
        probs = probs * (1 - away.max(axis=0))
    fits = np.ones(len(probs))
    if by_box:
        fits = np.array([_fit(prob > threshold, prompt.box) for prob in probs])
    if prompt.box is not None:
        probs = _inside(probs, prompt.box)
    scores = fits * [mean_confidence(prob, threshold) for prob in probs]
    order = np.argsort(-scores, kind='stable') if by_box else np.arange(len(probs))
    masks = probs > threshold
    chosen = _different(masks, order)[:MAX_ALTERNATIVES if multimask_output else 1]
    probs = np.clip(probs[chosen], _EPSILON, 1 - _EPSILON)
    return PromptResult(masks[chosen], scores[chosen].astype(np.float32),
                        np.log(probs / (1 - probs)))


def _numbers(values: Any, name: str) -> np.ndarray:
    try:
        numbers = np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise AdaptisError(f'{name} must be numbers.') from error
    if not np.isfinite(numbers).all():
        raise AdaptisError(f'{name} contains a value that is not a finite number.')
    return numbers


def _pixels_of(box: Any, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the pixels of a box that are in the image; its numbers are edges, as in COCO."""
    edges = _numbers(box, 'box')
    if edges.shape not in ((4,), (1, 4)):   # SAM accepts both
        raise AdaptisError('box must be four numbers x0, y0, x1, y1, but has the shape '
                           f'{edges.shape}.')
    x0, y0, x1, y1 = (float(edge) for edge in edges.ravel())
    height, width = size
    first = max(int(np.floor(x0)), 0), max(int(np.floor(y0)), 0)
    last = min(int(np.ceil(x1)), width), min(int(np.ceil(y1)), height)
    if x0 >= x1 or y0 >= y1 or first[0] >= last[0] or first[1] >= last[1]:
        raise AdaptisError(f'The box {x0:g}, {y0:g}, {x1:g}, {y1:g} contains no pixel of the image '
                           f'(width {width}, height {height}): give x0, y0, x1, y1 with x0 < x1 '
                           'and y0 < y1.')
    return (*first, *last)


def _points_inside(box: Optional[tuple[int, int, int, int]]) -> np.ndarray:
    """Return points (N, 2) well inside a box, its centre first; fewer than nine in a tiny one."""
    assert box is not None
    x0, y0, x1, y1 = box
    grid = [(np.floor(x0 + u * (x1 - x0)), np.floor(y0 + v * (y1 - y0)))
            for u in _INSIDE for v in _INSIDE]
    centre = grid[len(grid) // 2]
    return np.array(list(dict.fromkeys([centre, *grid])), np.float32)


def _fit(mask: np.ndarray, box: Optional[tuple[int, int, int, int]]) -> float:
    assert box is not None
    x0, y0, x1, y1 = box
    part = np.ascontiguousarray(mask[y0:y1, x0:x1]).view(np.uint8)
    _, _, width, height = cv2.boundingRect(part)
    inside, area = np.count_nonzero(part), np.count_nonzero(mask)
    return inside / area * (width * height) / part.size if area else 0.0


def _inside(probs: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    x0, y0, x1, y1 = box
    cut = np.zeros_like(probs)
    cut[:, y0:y1, x0:x1] = probs[:, y0:y1, x0:x1]
    return cut


def _different(masks: np.ndarray, order: np.ndarray) -> list[int]:
    """Return the indices of masks in the given order, without those that repeat an earlier one."""
    kept: list[int] = []
    for index in order:
        if not any(_iou(masks[index], masks[other]) > _SAME_IOU for other in kept):
            kept.append(int(index))
    return kept


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0
