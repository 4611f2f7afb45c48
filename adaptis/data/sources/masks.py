"""Images with a mask for each object, or with one map of all objects.

These layouts are supported:

``images/NAME.jpg`` and ``masks/NAME/*.png``
    a binary mask for each object (0 = outside);
``NAME/images/NAME.png`` and ``NAME/masks/*.png``
    the same, with one folder per image;
``images/NAME.jpg`` and ``masks/NAME.png``
    a map of object ids with 8 or 16 bits (0 = none).

The class of a mask is the name of its folder (``masks/NAME/car/1.png``), or the part of its name
before a number (``masks/NAME/car_1.png``), else "object".
"""
from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from adaptis.data.reader import mask_values
from adaptis.data.sources.base import LabelledImage, LabelledObject, Source, find_image
from adaptis.errors import AdaptisError
from adaptis.files import list_images, read_header, read_ids, read_pixels

OBJECT = 'object'
_NUMBERED = re.compile(r'(.*[^\W\d_].*?)[ _-]+\d+')
_NO_CLASS = ('mask', 'masks', 'instance', 'inst', 'obj', 'image', 'img')


class _Entry(NamedTuple):
    image: Path
    name: str
    masks: list[tuple[str, Path]]   # label and file
    is_map: bool = False


class MasksSource(Source):
    """Images with masks in folders; see the module.

    Parameters
    ----------
    path : the folder that contains ``images`` and ``masks``, or a folder for each image
    images : the folder of the images, if it has another name

    Raises AdaptisError if there is no image with masks.
    """

    def __init__(self, path: Path, images: Optional[Path] = None):
        pairs = _one_folder(path, images) if (path / 'masks').is_dir() else _many_folders(path)
        self._entries = [entry for entry in pairs if entry.masks]
        if not self._entries:
            raise AdaptisError(f'{path} contains no images with masks: expected are '
                               'images/NAME.jpg with masks/NAME/*.png or masks/NAME.png, or '
                               'NAME/images with NAME/masks.')
        self.problems = [f'{entry.image} has no mask, so it is skipped.'
                         for entry in pairs if not entry.masks]
        self.labels = sorted({label for entry in self._entries for label, _ in entry.masks})

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, index: int) -> LabelledImage:
        """See :class:`Source`."""
        entry = self._entries[index]
        size = read_header(entry.image).size
        if entry.is_map:
            (label, path), = entry.masks
            ids = read_ids(path)
            _check_size(path, ids.shape, entry.image, size)
            objects = [LabelledObject(label, ids == k) for k in mask_values(ids, path) if k]
        else:
            objects = [LabelledObject(label, _binary(path, entry.image, size))
                       for label, path in entry.masks]
        return LabelledImage(entry.image, entry.name, size, objects)


def has_masks(path: Path) -> bool:
    """Return whether a folder looks like one of this module."""
    return (path / 'masks').is_dir() or next(path.glob('*/masks'), None) is not None


def _one_folder(path: Path, images: Optional[Path]) -> list[_Entry]:
    folder = images or path / 'images'
    if not folder.is_dir():
        raise AdaptisError(f'{path / "masks"} exists, but the folder of the images, {folder}, does '
                           'not: give it with --images.')
    return [_entry(image, image.name, path / 'masks' / image.stem)
            for image in list_images(folder)]


def _many_folders(path: Path) -> list[_Entry]:
    entries = []
    for folder in sorted(p for p in path.iterdir() if (p / 'masks').is_dir()):
        image = find_image([folder / 'images', folder], folder.name)
        if image is None:
            pictures = list_images(folder / 'images') if (folder / 'images').is_dir() else []
            if len(pictures) != 1:
                raise AdaptisError(f'{folder} contains masks but no image: '
                                   f'{folder}/images/{folder.name}.png is expected.')
            image = pictures[0]
        entries.append(_entry(image, folder.name + image.suffix, folder / 'masks'))
    return entries


def _entry(image: Path, name: str, folder: Path) -> _Entry:
    if not folder.is_dir():
        one = find_image([folder.parent], folder.name)
        return _Entry(image, name, [(OBJECT, one)] if one else [], is_map=True)
    masks = []
    for path in sorted(folder.rglob('*')):
        if path.suffix.lower() in ('.png', '.bmp', '.tif', '.tiff') and path.name[0] != '.':
            inside = path.relative_to(folder).parts
            masks.append((inside[0] if len(inside) > 1 else _class_of(path.stem, image.stem),
                          path))
    return _Entry(image, name, masks)


def _class_of(name: str, image: str) -> str:
    found = _NUMBERED.fullmatch(name)
    label = found[1] if found else OBJECT
    return OBJECT if label.lower() in (*_NO_CLASS, image.lower()) else label


def _binary(path: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
    pixels = read_pixels(path)
    mask = pixels > 0
    if mask.ndim == 3:   # some tools save masks as RGB, or with an opaque alpha
        mask = mask[..., :3].any(axis=2)
    _check_size(path, mask.shape, image, size)
    return mask


def _check_size(path: Path, size: tuple[int, ...], image: Path, expected: tuple[int, int]) -> None:
    if size != expected:
        raise AdaptisError(f'{path} is {size[0]}x{size[1]} but {image} is '
                           f'{expected[0]}x{expected[1]}.')
