"""Entries of COCO's JSON files for one image; ``adaptis.evaluation.coco`` writes whole files."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import encode_segments
from adaptis.evaluation.segments import segment_boxes
from adaptis.ids import ids_to_rgb, relabel_ids, rgb_to_ids
from adaptis.interop.compose import Region, compose, from_map
from adaptis.polygons import polygons_to_mask
from adaptis.types import PanopticResult, Taxonomy


def to_coco_panoptic(result: PanopticResult, image_id: Any, file_name: str
                     ) -> tuple[dict[str, Any], np.ndarray]:
    """Return the annotation of a panoptic JSON, and the RGB pixels of its PNG, uint8 (H, W, 3).

    ``file_name`` is the name of the PNG.  Segments without a pixel are omitted.
    """
    ids = [s.id for s in result.segments]
    positions = relabel_ids(result.segment_map, ids, 'The result')
    areas = np.bincount(positions.ravel(), minlength=len(ids) + 1)[1:].tolist()
    boxes = segment_boxes(positions, len(ids)).tolist()
    infos = [{'id': int(s.id), 'category_id': int(s.category_id), 'iscrowd': 0, 'area': area,
              'bbox': box, 'score': float(s.score)}
             for s, area, box in zip(result.segments, areas, boxes) if area]
    return ({'image_id': image_id, 'file_name': file_name, 'segments_info': infos},
            ids_to_rgb(result.segment_map))


def from_coco_panoptic(annotation: Mapping[str, Any], pixels: np.ndarray,
                       taxonomy: Taxonomy) -> PanopticResult:
    """Return an annotation of a panoptic JSON and its PNG, RGB uint8 (H, W, 3), as a result.

    Raises AdaptisError for an unknown category.
    """
    return from_map(rgb_to_ids(np.ascontiguousarray(pixels)), {
        int(info['id']): (taxonomy.by_id(info['category_id']), info.get('score', 1.0))
        for info in annotation['segments_info']})


def to_coco_instances(result: PanopticResult, image_id: Any,
                      first_id: int = 1) -> list[dict[str, Any]]:
    """Return the objects of an image as entries of an instances JSON; masks are compressed RLE.

    These are the ``objects`` of the result, which may overlap, if it has any, else its things.  The
    entries also have a score, so they are valid detection results.
    """
    if result.objects is not None:
        found = [(mask, int(category), float(score)) for mask, category, score in zip(
            result.objects.masks, result.objects.category_ids, result.objects.scores)]
    else:
        found = [(result.segment_map == s.id, s.category_id, s.score) for s in result.things]
    entries: list[dict[str, Any]] = []
    for mask, category, score in found:
        if not mask.any():
            continue
        code, = encode_segments(mask.astype(np.int32), [1])
        box, = segment_boxes(mask.astype(np.int32), 1).tolist()
        entries.append({'id': first_id + len(entries), 'image_id': image_id,
                        'category_id': int(category), 'iscrowd': 0, 'score': float(score),
                        'area': int(mask.sum()), 'bbox': box, 'segmentation': {
                            'size': list(code['size']), 'counts': code['counts'].decode('ascii')}})
    return entries


def from_coco_instances(entries: Sequence[Mapping[str, Any]], taxonomy: Taxonomy,
                        size: tuple[int, int]) -> PanopticResult:
    """Return the entries of one image, of an instances JSON or of detection results, as a result.

    Masks may be polygons, or compressed or uncompressed RLE.  Where objects overlap, the higher
    score wins, then the smaller object; ``objects`` of the result has the whole masks. Raises
    AdaptisError for an unknown category, or a mask that cannot be decoded.
    """
    return compose([Region(taxonomy.by_id(entry['category_id']), _mask(entry, size),
                           float(entry.get('score', 1.0))) for entry in entries], size)


def _mask(entry: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    from pycocotools import mask as rle  # not needed for exports
    shape = entry.get('segmentation')
    try:
        if isinstance(shape, list):
            return polygons_to_mask([np.reshape(polygon, (-1, 2)) for polygon in shape], size)
        counts = shape['counts']
        if list(shape['size']) != list(size):
            raise ValueError('another size')
        if isinstance(counts, list):
            if sum(counts) != size[0] * size[1] or min(counts, default=0) < 0:
                raise ValueError('runs of another number of pixels')
            shape = rle.frPyObjects(dict(shape), *size)
        else:
            text = counts.encode('ascii') if isinstance(counts, str) else counts
            shape = {'size': list(size), 'counts': text}
        return rle.decode(shape).astype(bool)
    except (KeyError, TypeError, ValueError) as error:
        raise AdaptisError(f'The object {entry.get("id", "")} has a mask that is neither a list of '
                           f'polygons nor an RLE of {size[0]}x{size[1]} pixels.') from error
