"""Label Studio: write predictions to be corrected there, and read tasks that it exports."""
from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.interop.compose import Region, compose, find_category, name_of, segment_masks
from adaptis.interop.label_studio_rle import decode_brush, encode_brush
from adaptis.polygons import mask_to_polygons, polygons_to_mask
from adaptis.types import PanopticResult, Taxonomy

KINDS = ('polygon', 'brush')


def to_label_studio(result: PanopticResult, image: str, taxonomy: Optional[Taxonomy] = None, *,
                    kind: str = 'polygon', tolerance: float = 1.0, from_name: str = 'label',
                    to_name: str = 'image', model_version: str = 'adaptis',
                    things_only: bool = False) -> dict[str, Any]:
    """Return a task with a result as its prediction, for import into Label Studio.

    Parameters
    ----------
    result : its segments become regions with their scores
    image : URL of the image, as Label Studio sees it
    taxonomy : the names of the categories; by default those of the segments
    kind : 'polygon', or 'brush', which is exact (but version 2.0 of Label Studio's SDK rejects most
        brushes, including its own); use the same for :func:`label_config`
    tolerance : maximum deviation of a polygon from the outline, in pixels
    from_name, to_name : names of the tags in the labelling interface
    model_version : name of the prediction in Label Studio
    things_only : omit stuff

    Raises AdaptisError for another ``kind``.
    """
    if kind not in KINDS:
        raise AdaptisError(f'The kind "{kind}" is unknown: choose from {", ".join(KINDS)}.')
    height, width = result.segment_map.shape
    regions = []
    for segment, mask in segment_masks(result, things_only):
        values = ([{'format': 'rle', 'rle': encode_brush(mask)}] if kind == 'brush' else
                  [{'points': (polygon / (width, height) * 100).tolist(), 'closed': True}
                   for polygon in mask_to_polygons(mask, tolerance)])
        regions += [{
            'id': f's{segment.id}_{part}', 'type': f'{kind}labels', 'from_name': from_name,
            'to_name': to_name, 'original_width': int(width), 'original_height': int(height),
            'image_rotation': 0, 'score': float(segment.score),
            'meta': {'segment': int(segment.id)},
            'value': {**value, f'{kind}labels': [name_of(segment, taxonomy)]}}
            for part, value in enumerate(values)]
    scores = [segment.score for segment in result.things]
    return {'data': {to_name: image}, 'predictions': [{
        'model_version': model_version, 'result': regions,
        'score': float(np.mean(scores)) if scores else 0.0}]}


def from_label_studio(task: Mapping[str, Any], taxonomy: Taxonomy) -> PanopticResult:
    """Return a task that Label Studio exported as JSON, or a prediction, as a result.

    The regions come from the first annotation, or from the first prediction if there is no
    annotation.  Brushes, polygons and rectangles are read; other regions are skipped.

    Raises AdaptisError if there is none, or a label has no category.
    """
    regions = [region for region in _regions(task) if _label(region) is not None]
    if not regions:
        raise AdaptisError('The task has no region with a label: brush, polygon or rectangle.')
    masks: dict[Any, np.ndarray] = {}
    kinds: dict[Any, tuple[str, float]] = {}
    size = _size(regions[0])
    for number, region in enumerate(regions):
        label, meta = _label(region), region.get('meta')
        segment = meta.get('segment') if isinstance(meta, dict) else None
        key = ('region', number) if segment is None else (label, segment)
        mask = _mask(region, size)
        masks[key] = masks[key] | mask if key in masks else mask
        kinds[key] = label, float(region.get('score') or 1.0)
    return compose([Region(find_category(taxonomy, kinds[key][0]), mask, kinds[key][1])
                    for key, mask in masks.items()], size)


def label_config(taxonomy: Taxonomy, from_name: str = 'label', to_name: str = 'image',
                 kind: str = 'polygon') -> str:
    """Return the labelling interface (XML) of a project for these categories."""
    tag = f'{kind.capitalize()}Labels'
    labels = ''.join(
        f'    <Label value="{html.escape(c.name)}" background="#{bytes(c.color).hex()}"/>\n'
        for c in taxonomy.categories)
    return (f'<View>\n  <Image name="{to_name}" value="${to_name}"/>\n'
            f'  <{tag} name="{from_name}" toName="{to_name}">\n{labels}  </{tag}>\n</View>\n')


def _regions(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    for key in ('annotations', 'completions', 'predictions'):
        for entry in task.get(key) or []:
            if isinstance(entry, dict) and isinstance(entry.get('result'), list):
                return [r for r in entry['result'] if isinstance(r, dict)]
    raise AdaptisError('The task has neither annotations nor predictions.')


def _label(region: Mapping[str, Any]) -> Optional[str]:
    value = region.get('value')
    for kind in ('brushlabels', 'polygonlabels', 'rectanglelabels'):
        names = value.get(kind) if isinstance(value, dict) else None
        if isinstance(names, list) and names and isinstance(names[0], str):
            return names[0]
    return None


def _size(region: Mapping[str, Any]) -> tuple[int, int]:
    size = region.get('original_height'), region.get('original_width')
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise AdaptisError('A region lacks original_height and original_width.')
    return size[0], size[1]


def _mask(region: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    value, (height, width) = region['value'], size
    try:
        if 'rle' in value:
            return decode_brush(value['rle'], size)
        if 'points' in value:
            points = np.array(value['points'], np.float64).reshape(-1, 2)
            if not np.isfinite(points).all():
                raise ValueError('not finite')
            return polygons_to_mask([points / 100 * (width, height)], size)
        x, y, w, h = (float(value[key]) / 100 for key in ('x', 'y', 'width', 'height'))
    except (KeyError, TypeError, ValueError) as error:
        raise AdaptisError(f'The region {region.get("id", "")} is neither brush, polygon nor '
                           'rectangle.') from error
    box = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)]) * (width, height)
    return polygons_to_mask([box], size)
