"""JSON files of labelme: write results to correct them by hand, and read the corrections."""
from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Optional

import cv2
import numpy as np

from adaptis.data.sources.labelme import is_labelme, labelme_objects
from adaptis.errors import AdaptisError
from adaptis.interop.compose import Region, compose, find_category, name_of, segment_masks
from adaptis.polygons import mask_to_polygons
from adaptis.types import PanopticResult, Taxonomy

SHAPES = ('polygon', 'mask')
VERSION = '5.5.0'   # of the format: it can be read by the first versions that support masks


def to_labelme(result: PanopticResult, image_path: str, taxonomy: Optional[Taxonomy] = None, *,
               shape: str = 'polygon', tolerance: float = 1.0,
               things_only: bool = False) -> dict[str, Any]:
    """Return a result as the content of a JSON file of labelme.

    Parameters
    ----------
    result : its segments become shapes; those of one segment share a ``group_id``
    image_path : path of the image relative to the JSON file
    taxonomy : the names of the categories; by default those of the segments
    shape : 'polygon', or 'mask', which is exact and needs labelme 5.3
    tolerance : maximum deviation of a polygon from the outline, in pixels; 0 = exact, with many
        points
    things_only : omit stuff

    Raises AdaptisError for another ``shape``.
    """
    if shape not in SHAPES:
        raise AdaptisError(f'There is no shape "{shape}": choose from {", ".join(SHAPES)}.')
    shapes = []
    for segment, mask in segment_masks(result, things_only):
        common = {'label': name_of(segment, taxonomy), 'group_id': int(segment.id), 'flags': {},
                  'description': '', 'score': round(float(segment.score), 4)}
        if shape == 'mask':
            shapes.append({**common, 'shape_type': 'mask', **_stored_mask(mask)})
        else:
            shapes += [{**common, 'shape_type': 'polygon', 'points': polygon.tolist(),
                        'mask': None} for polygon in mask_to_polygons(mask, tolerance)]
    height, width = result.segment_map.shape
    return {'version': VERSION, 'flags': {}, 'shapes': shapes, 'imagePath': image_path,
            'imageData': None, 'imageHeight': int(height), 'imageWidth': int(width)}


def from_labelme(content: Mapping[str, Any], taxonomy: Taxonomy) -> PanopticResult:
    """Return the content of a JSON file of labelme as a result.

    Shapes with the same label and ``group_id`` form one segment.  Of overlapping objects, the one
    with the higher score is on top, or the smaller one if the shapes have no scores.

    Raises AdaptisError for a label without a category, a shape that cannot be understood, or a
    file without the size of the image.
    """
    size = content.get('imageHeight'), content.get('imageWidth')
    if not is_labelme(content) or not all(isinstance(side, int) for side in size):
        raise AdaptisError('This is not the content of a labelme file, which has shapes, '
                           'imageHeight and imageWidth.')
    objects, _ = labelme_objects(content, size, 'The labelme file')
    scores = {(s.get('label'), s.get('group_id')): s.get('score') for s in content['shapes']}
    regions = []
    for item in objects:
        score = scores.get((item.label, item.group))
        regions.append(Region(find_category(taxonomy, item.label), item.mask,
                              float(score) if isinstance(score, (int, float)) else 1.0))
    return compose(regions, size)


def _stored_mask(mask: np.ndarray) -> dict[str, Any]:
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    done, data = cv2.imencode('.png', mask[y:y + h, x:x + w].astype(np.uint8) * 255)
    assert done
    return {'points': [[float(x), float(y)], [float(x + w - 1), float(y + h - 1)]],
            'mask': base64.b64encode(data.tobytes()).decode('ascii')}
