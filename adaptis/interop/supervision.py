"""``supervision.Detections`` (Roboflow)."""
from __future__ import annotations

import importlib
from typing import Any, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.interop.compose import (
    Region,
    category_at,
    compose,
    find_category,
    name_of,
    segment_masks,
)
from adaptis.types import Category, PanopticResult, Taxonomy


def to_supervision(result: PanopticResult, taxonomy: Taxonomy, things_only: bool = False) -> Any:
    """Return a result as ``supervision.Detections``.

    ``class_id`` is the index of the class in the taxonomy, ``confidence`` the score, and ``xyxy``
    the box around the mask, whose right and lower edges are exclusive.  ``data`` contains
    ``class_name``, ``category_id``, ``segment_id`` and ``isthing``.

    Raises AdaptisError if supervision is not installed.
    """
    try:
        supervision = importlib.import_module('supervision')
    except ImportError as error:
        raise AdaptisError('supervision is not installed: pip install supervision.') from error
    found = segment_masks(result, things_only)
    segments, masks = [s for s, _ in found], [m for _, m in found]
    if not segments:
        return supervision.Detections.empty()
    return supervision.Detections(
        xyxy=np.array([_box(mask) for mask in masks], np.float32), mask=np.stack(masks),
        confidence=np.array([s.score for s in segments], np.float32),
        class_id=np.array([taxonomy.index(s.category_id) for s in segments]),
        data={'class_name': np.array([name_of(s, taxonomy) for s in segments]),
              'category_id': np.array([s.category_id for s in segments]),
              'segment_id': np.array([s.id for s in segments]),
              'isthing': np.array([s.isthing for s in segments])})


def from_supervision(detections: Any, taxonomy: Taxonomy,
                     size: Optional[tuple[int, int]] = None) -> PanopticResult:
    """Return ``supervision.Detections`` with masks as a result.

    The class is that of ``data['category_id']``, else of ``data['class_name']``, else
    ``class_id`` as an index into the taxonomy.  Where masks overlap, the higher confidence wins;
    ``objects`` of the result has the whole masks.  ``size`` (height, width) is needed if there are
    no detections.

    Raises AdaptisError if there are no masks, or a class is unknown.
    """
    if len(detections) == 0:
        if size is None:
            raise AdaptisError('The detections are empty, so the size of the image is unknown: '
                               'give size.')
        return compose([], size)
    if detections.mask is None:
        raise AdaptisError('The detections have only boxes, but a result needs masks.')
    masks = np.asarray(detections.mask, bool)
    scores = detections.confidence if detections.confidence is not None else np.ones(len(masks))
    regions = [Region(_category(detections, k, taxonomy), mask, float(score))
               for k, (mask, score) in enumerate(zip(masks, scores))]
    return compose(regions, masks.shape[1:])


def _category(detections: Any, index: int, taxonomy: Taxonomy) -> Category:
    data = detections.data or {}
    if 'category_id' in data:
        return taxonomy.by_id(int(data['category_id'][index]))
    if 'class_name' in data:
        return find_category(taxonomy, str(data['class_name'][index]))
    if detections.class_id is None:
        raise AdaptisError('The detections have no class_id.')
    return category_at(taxonomy, int(detections.class_id[index]))


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return cols[0], rows[0], cols[-1] + 1, rows[-1] + 1
