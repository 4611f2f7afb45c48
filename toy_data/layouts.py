"""The layouts of generated data sets: names and content of their files."""
from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import cv2
import numpy as np

from .files import encode_png, write_file
from .street import CATEGORIES, FIRST_OBJECT

CITY = 'toytown'


class Layout(NamedTuple):
    """The files of one data set on disk.

    Attributes
    ----------
    paths : split, index -> the files of an image, relative to the data set
    encode : image uint8 (H, W, 3), ids uint16 (H, W) -> their contents, in the order of ``paths``
    finish : writes the remaining files once all images of a split exist, if there are any:
        folder, split, count, and whether some images are new
    """

    paths: Callable[[str, int], list[str]]
    encode: Callable[[np.ndarray, np.ndarray], list[bytes]]
    finish: Optional[Callable[..., None]] = None


def _toy_paths(split: str, index: int) -> list[str]:
    return [f'{split}/{index:05d}_rgb.png', f'{split}/{index:05d}_im.png']


def _encode_toy(image: np.ndarray, ids: np.ndarray) -> list[bytes]:
    return [encode_png(image), encode_png(ids)]


def _cityscapes_paths(split: str, index: int) -> list[str]:
    name = f'{split}/{CITY}/{CITY}_{index // 1000:06d}_{index % 1000:06d}'
    return [f'leftImg8bit/{name}_leftImg8bit.png', f'gtFine/{name}_gtFine_instanceIds.png',
            f'gtFine/{name}_gtFine_labelIds.png']


def _encode_cityscapes(image: np.ndarray, ids: np.ndarray) -> list[bytes]:
    labels = np.where(ids < FIRST_OBJECT, ids, ids // FIRST_OBJECT).astype(np.uint8)
    return [encode_png(image), encode_png(ids), encode_png(labels)]


def _coco_paths(split: str, index: int) -> list[str]:
    return [f'{split}/images/{index:05d}.png', f'{split}/panoptic/{index:05d}.png']


def _encode_coco(image: np.ndarray, ids: np.ndarray) -> list[bytes]:
    known = np.isin(_labels(ids), [category.id for category in CATEGORIES])
    ids = np.where(known, ids, 0)
    return [encode_png(image),
            encode_png(np.stack([ids % 256, ids // 256, np.zeros_like(ids)], 2).astype(np.uint8))]


def _finish_coco(folder: Path, split: str, count: int, changed: bool) -> None:
    """Write ``panoptic.json``, which follows from the PNGs, unless it exists already."""
    if not changed and _listed(folder / split / 'panoptic.json') == count:
        return
    entries = [_coco_entry(folder, split, index) for index in range(count)]
    content = {
        'images': [entry['image'] for entry in entries],
        'annotations': [entry['annotation'] for entry in entries],
        'categories': [{**category._asdict(), 'isthing': int(category.isthing)}
                       for category in CATEGORIES]}
    write_file(folder / split / 'panoptic.json', json.dumps(content).encode())


def _listed(path: Path) -> int:
    """Return how many images a ``panoptic.json`` lists; -1 if it is missing or broken."""
    try:
        return len(json.loads(path.read_text(encoding='utf-8'))['annotations'])
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def _coco_entry(folder: Path, split: str, index: int) -> dict[str, Any]:
    image, panoptic = (Path(path) for path in _coco_paths(split, index))
    colors = cv2.imread(str(folder / panoptic))
    if colors is None:
        raise ValueError(f'{folder / panoptic} cannot be read: delete it and repeat the command.')
    ids = colors[:, :, 2].astype(np.int32) + 256 * colors[:, :, 1].astype(np.int32)
    return {'image': {'id': index, 'file_name': image.name, 'height': ids.shape[0],
                      'width': ids.shape[1]},
            'annotation': {'image_id': index, 'file_name': panoptic.name,
                           'segments_info': [_segment(ids, int(i)) for i in np.unique(ids) if i]}}


def _segment(ids: np.ndarray, number: int) -> dict[str, Any]:
    rows, cols = (np.flatnonzero((ids == number).any(axis=axis)) for axis in (1, 0))
    label = int(_labels(np.array(number)))
    crowd = number < FIRST_OBJECT and any(c.id == label and c.isthing for c in CATEGORIES)
    return {'id': number, 'category_id': label, 'iscrowd': int(crowd),
            'area': int((ids == number).sum()),
            'bbox': [int(cols[0]), int(rows[0]), int(cols[-1] - cols[0] + 1),
                     int(rows[-1] - rows[0] + 1)]}


def _labels(ids: np.ndarray) -> np.ndarray:
    return np.where(ids < FIRST_OBJECT, ids, ids // FIRST_OBJECT)


LAYOUTS: Mapping[str, Layout] = {
    'toy': Layout(_toy_paths, _encode_toy),
    'coco': Layout(_coco_paths, _encode_coco, _finish_coco),
    'cityscapes': Layout(_cityscapes_paths, _encode_cityscapes),
}
"""'toy' is the layout of the AdaptIS authors; 'coco' and 'cityscapes' are those data sets'."""
