"""The tensors of ``torchmetrics.detection.PanopticQuality``: (H, W, 2), category and instance id.

>>> metric = PanopticQuality(**torchmetrics_categories(taxonomy), allow_unknown_preds_category=True)
>>> metric(torch.from_numpy(to_torchmetrics(found, taxonomy))[None],
...        torch.from_numpy(to_torchmetrics(truth, taxonomy))[None])

The result equals the PQ of ``adaptis.evaluation.pq``, and so of panopticapi, if every pixel of the
prediction belongs to a segment.  torchmetrics 1.9 excludes other pixels from the union.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.interop.compose import from_map, to_array
from adaptis.types import Category, PanopticResult, Taxonomy


def to_torchmetrics(result: PanopticResult, taxonomy: Taxonomy) -> np.ndarray:
    """Return int64 (H, W, 2): the category id and the object id of each pixel.

    The object id is the id of the segment; stuff has 0.  A pixel without a segment gets a category
    that does not exist, which torchmetrics treats as void.
    """
    void = max(c.id for c in taxonomy.categories) + 1
    found = np.zeros((*result.segment_map.shape, 2), np.int64)
    found[..., 0] = void
    for segment in result.segments:
        found[result.segment_map == segment.id] = (segment.category_id,
                                                   segment.id if segment.isthing else 0)
    return found


def from_torchmetrics(tensor: Any, taxonomy: Taxonomy) -> PanopticResult:
    """Return (H, W, 2) as a result; its segments have the score 1.

    Pixels of a category that the taxonomy does not have belong to no segment.
    Raises AdaptisError for another shape.
    """
    pairs = to_array(tensor).astype(np.int64)
    if pairs.ndim != 3 or pairs.shape[2] != 2:
        raise AdaptisError(f'The tensor has the shape {pairs.shape}, but it must be (H, W, 2) for '
                           'one image: category and instance id.')
    known: dict[int, Category] = {c.id: c for c in taxonomy.categories}
    stuff = [c.id for c in taxonomy.categories if not c.isthing]
    pairs = pairs.copy()
    pairs[..., 1][np.isin(pairs[..., 0], stuff)] = 0
    present, index = np.unique(pairs.reshape(-1, 2), axis=0, return_inverse=True)
    segment_map = index.reshape(pairs.shape[:2]) + 1
    return from_map(segment_map, {k: (known[category], 1.0) for k, category in
                                  enumerate(present[:, 0].tolist(), start=1) if category in known})


def torchmetrics_categories(taxonomy: Taxonomy) -> dict[str, set[int]]:
    """Return the arguments ``things`` and ``stuffs`` of ``PanopticQuality``: category ids."""
    return {'things': {c.id for c in taxonomy.categories if c.isthing},
            'stuffs': {c.id for c in taxonomy.categories if not c.isthing}}
