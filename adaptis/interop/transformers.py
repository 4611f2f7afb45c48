"""The dictionary that Hugging Face transformers' ``post_process_panoptic_segmentation`` returns.

It contains ``segmentation``, (H, W) ids, and ``segments_info``, a list of ``id``, ``label_id``,
``was_fused`` and ``score``.  Pixels without a segment are 0, or -1 in some processors.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.interop.compose import category_at, from_map, to_array
from adaptis.types import Category, PanopticResult, Taxonomy


def to_transformers(result: PanopticResult, taxonomy: Taxonomy,
                    label_ids: Optional[Mapping[int, int]] = None) -> dict[str, Any]:
    """Return a result in transformers' format; the map is a NumPy array, int32 (H, W).

    ``label_ids`` maps the model's label ids to category ids; by default a label id is the index of
    the class in the taxonomy, see :func:`id2label`.  ``was_fused`` is true for stuff. Raises
    AdaptisError if a category has no label.
    """
    label_of = {category: label for label, category in (label_ids or {}).items()}
    infos = []
    for segment in result.segments:
        if label_ids is not None and segment.category_id not in label_of:
            raise AdaptisError(f'label_ids has no label id for the category {segment.category_id}.')
        label = label_of.get(segment.category_id, taxonomy.index(segment.category_id))
        infos.append({'id': int(segment.id), 'label_id': int(label),
                      'was_fused': not segment.isthing, 'score': float(segment.score)})
    return {'segmentation': result.segment_map.astype(np.int32), 'segments_info': infos}


def from_transformers(output: Mapping[str, Any], taxonomy: Taxonomy,
                      label_ids: Optional[Mapping[int, int]] = None) -> PanopticResult:
    """Return one dictionary of ``post_process_panoptic_segmentation`` as a result.

    ``output['segmentation']`` may be a tensor or an array.  ``label_ids``: see
    :func:`to_transformers`.

    Raises AdaptisError for a label without a category, or a dictionary of another form.
    """
    try:
        segment_map = to_array(output['segmentation']).astype(np.int64)
        infos = [(int(i['id']), int(i['label_id']), float(i.get('score', 1.0)))
                 for i in output['segments_info']]
    except (KeyError, TypeError, ValueError) as error:
        raise AdaptisError('This is not what post_process_panoptic_segmentation returns: a '
                           'dictionary with segmentation and segments_info.') from error
    shift = int(any(number == 0 for number, *_ in infos))   # some processors count from 0
    return from_map(segment_map + shift, {
        number + shift: (_category(label, taxonomy, label_ids), score)
        for number, label, score in infos})


def id2label(taxonomy: Taxonomy) -> dict[int, str]:
    """Return label id -> name, for a model's ``config.id2label``."""
    return {index: category.name for index, category in enumerate(taxonomy.categories)}


def _category(label: int, taxonomy: Taxonomy,
              label_ids: Optional[Mapping[int, int]]) -> Category:
    if label_ids is None:
        return category_at(taxonomy, label)
    if label not in label_ids:
        raise AdaptisError(f'The label id {label} does not belong to a category.')
    return taxonomy.by_id(label_ids[label])
