"""JSON files of labelme: one for each image, with polygons, rectangles, circles and masks.

Shapes of one label that share a ``group_id`` are one object.  The label ``__ignore__`` marks pixels
that are ignored, and ``_background_`` is not an object, as in labelme's own converters.  Points and
lines are skipped, because they have no area.
"""
from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, Optional

import cv2
import numpy as np

from adaptis.data.sources.base import LabelledImage, LabelledObject, Source, find_image, size_of
from adaptis.errors import AdaptisError
from adaptis.files import read_json
from adaptis.polygons import polygons_to_mask

IGNORE, BACKGROUND = '__ignore__', '_background_'
_WITHOUT_AREA = ('point', 'points', 'line', 'linestrip')
_CIRCLE_POINTS = 64


class LabelmeSource(Source):
    """A folder with labelme's JSON files, or a single file.

    Parameters
    ----------
    path : the folder, searched with its subfolders, or a JSON file
    images : the folder of the images if they are not where the files say

    Raises AdaptisError if there is no JSON file of labelme.
    """

    def __init__(self, path: Path, images: Optional[Path] = None):
        self._root, self._images = (path if path.is_dir() else path.parent), images
        candidates = sorted(path.rglob('*.json')) if path.is_dir() else [path]
        self._files: list[Path] = []
        labels: set[str] = set()
        self.problems = []
        for candidate in candidates:
            content = read_json(candidate)
            if not is_labelme(content):
                continue
            self._files.append(candidate)
            for number, shape in enumerate(content['shapes'], start=1):
                labels.add(_label_of(shape, number, candidate))
            lines = sum(_type_of(shape) in _WITHOUT_AREA for shape in content['shapes'])
            if lines:
                self.problems.append(f'{candidate} has {lines} points or lines, which are skipped '
                                     'because they have no area.')
        if not self._files:
            raise AdaptisError(f'{path} contains no JSON file of labelme.')
        self.labels = sorted(labels - {IGNORE, BACKGROUND})

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> LabelledImage:
        """See :class:`Source`."""
        path = self._files[index]
        content = read_json(path)
        image = self._find_image(path, content)
        size = size_of(image, (content.get('imageHeight'), content.get('imageWidth')), path)
        objects, void = labelme_objects(content, size, path)
        folder = path.parent.relative_to(self._root)
        return LabelledImage(image, (folder / image.name).as_posix(), size, objects, void)

    def _find_image(self, path: Path, content: Mapping[str, Any]) -> Path:
        named = PureWindowsPath(str(content.get('imagePath') or path.stem))   # both types of slash
        beside = path.parent / named.as_posix()
        if self._images is None and beside.is_file():
            return beside
        folders = [self._images] if self._images else [path.parent, self._root,
                                                       self._root / 'images']
        found = find_image(folders, named.stem) or find_image(folders, path.stem)
        if found is None:
            raise AdaptisError(f'{path} belongs to the image {named.name}, which is not in '
                               f'{folders[0]}: give the folder of the images with --images.')
        return found


def is_labelme(content: Any) -> bool:
    """Return whether the content of a JSON file is from labelme."""
    return isinstance(content, dict) and isinstance(content.get('shapes'), list)


def labelme_objects(content: Mapping[str, Any], size: tuple[int, int], where: Any
                    ) -> tuple[list[LabelledObject], Optional[np.ndarray]]:
    """Return the objects of labelme's JSON and the pixels to ignore, bool (H, W), or None.

    Raises AdaptisError, naming ``where``, for a shape that cannot be understood.
    """
    masks: dict[Any, np.ndarray] = {}
    labels: dict[Any, str] = {}
    for number, shape in enumerate(content['shapes'], start=1):
        label = _label_of(shape, number, where)
        if _type_of(shape) in _WITHOUT_AREA or label == BACKGROUND:
            continue
        group = shape.get('group_id')
        key = ('', number) if group is None else (label, group)
        mask = _mask_of(shape, size, f'{where}: shape {number} ({label})')
        masks[key] = masks[key] | mask if key in masks else mask
        labels[key] = label
    ignored = [masks[key] for key, label in labels.items() if label == IGNORE]
    found = [LabelledObject(label, masks[key], group=key[1] if key[0] else None)
             for key, label in labels.items() if label != IGNORE]
    return found, np.any(ignored, axis=0) if ignored else None


def _label_of(shape: Any, number: int, where: Any) -> str:
    if not isinstance(shape, dict) or not isinstance(shape.get('label'), str):
        raise AdaptisError(f'{where}: shape {number} has no label.')
    return shape['label']


def _type_of(shape: Mapping[str, Any]) -> str:
    return shape.get('shape_type') or 'polygon'


def _mask_of(shape: Mapping[str, Any], size: tuple[int, int], what: str) -> np.ndarray:
    kind = _type_of(shape)
    try:
        points = np.array(shape.get('points'), np.float64).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise AdaptisError(f'{what} has points that are not pairs of numbers.') from error
    if not np.isfinite(points).all():
        raise AdaptisError(f'{what} has a point that is not finite.')
    needed = {'rectangle': 2, 'circle': 2, 'mask': 2}.get(kind, 3)
    if len(points) < needed or (needed == 2 and len(points) != 2):
        raise AdaptisError(f'{what} has {len(points)} points, but a {kind} has {needed}'
                           f'{" or more" * (needed == 3)}.')
    if kind == 'mask':
        return _stored_mask(shape.get('mask'), points, size, what)
    if kind not in ('polygon', 'rectangle', 'circle', 'oriented_rectangle'):
        raise AdaptisError(f'{what} has the unknown shape type {kind}.')
    return polygons_to_mask([_outline(kind, points)], size)


def _outline(kind: str, points: np.ndarray) -> np.ndarray:
    if kind == 'rectangle':
        (x0, y0), (x1, y1) = points
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    if kind == 'circle':   # given by its centre and a point on it
        angles = np.arange(_CIRCLE_POINTS) * (2 * math.pi / _CIRCLE_POINTS)
        return points[0] + np.linalg.norm(points[1] - points[0]) * np.stack(
            [np.cos(angles), np.sin(angles)], axis=1)
    return points


def _stored_mask(text: Any, points: np.ndarray, size: tuple[int, int], what: str) -> np.ndarray:
    """Return a mask that is stored as a PNG of its box; the corners of the box are inside."""
    try:
        data = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
        part = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    except (TypeError, ValueError, binascii.Error, cv2.error):
        part = None
    if part is None:
        raise AdaptisError(f'{what} has no mask that can be decoded.')
    (left, top), (right, bottom) = np.rint(points).astype(int).tolist()
    if part.shape != (bottom - top + 1, right - left + 1) or min(left, top) < 0 or (
            bottom >= size[0] or right >= size[1]):
        raise AdaptisError(f'{what} has a mask of {part.shape[0]}x{part.shape[1]} that does not '
                           'fit its box in the image.')
    mask = np.zeros(size, bool)
    mask[top:bottom + 1, left:right + 1] = part > 0
    return mask
