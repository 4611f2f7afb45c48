"""XML files of the older LabelMe (MIT), which CVAT still exports as "LabelMe 3.0".

Each image has a file that lists objects with a name and a polygon or the PNG of a mask.
"""
from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import numpy as np

from adaptis.data.sources.base import LabelledImage, LabelledObject, Source, find_image
from adaptis.errors import AdaptisError
from adaptis.files import read_header, read_pixels
from adaptis.polygons import polygons_to_mask


class LabelmeXmlSource(Source):
    """A folder with XML files of LabelMe, searched with its subfolders, or a single file.

    Parameters
    ----------
    path : the folder or the file
    images : the folder of the images, if they are neither beside the XML files nor in ``Images`` or
        ``images`` beside their folder

    Raises AdaptisError if there is no XML file of LabelMe, or one is broken.
    """

    def __init__(self, path: Path, images: Optional[Path] = None):
        self._root, self._images = (path if path.is_dir() else path.parent), images
        candidates = sorted(path.rglob('*.xml')) if path.is_dir() else [path]
        self._files = [candidate for candidate in candidates if is_labelme_xml(candidate)]
        if not self._files:
            raise AdaptisError(f'{path} contains no XML file of LabelMe with polygons or masks.')
        self.labels = sorted({name for file in self._files for name, _ in _objects(file)})

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> LabelledImage:
        """See :class:`Source`."""
        path = self._files[index]
        folder = path.parent
        name = Path(_text(_parse(path), 'filename') or path.stem).name
        places = [self._images] if self._images else [
            folder, self._root / 'Images', self._root / 'images',
            folder.parent / 'Images' / folder.name, folder.parent / 'images']
        image = find_image(places, Path(name).stem)
        if image is None:
            raise AdaptisError(f'{path} belongs to the image {name}, which is not in {places[0]}: '
                               'give the folder of the images with --images.')
        size = read_header(image).size
        objects = [LabelledObject(label, self._mask(entry, size, path))
                   for label, entry in _objects(path)]
        return LabelledImage(image, (folder.relative_to(self._root) / image.name).as_posix(), size,
                             objects)

    def _mask(self, entry: ElementTree.Element, size: tuple[int, int], path: Path) -> np.ndarray:
        file = _text(entry, 'segm/mask')
        if file:
            return self._stored_mask(Path(file).name, size, path)
        try:
            points = np.array([(float(_text(pt, 'x')), float(_text(pt, 'y')))
                               for pt in entry.iterfind('polygon/pt')])
        except ValueError as error:
            raise AdaptisError(f'{path} has a point of "{_text(entry, "name")}" that is not two '
                               'numbers.') from error
        if len(points) < 3 or not np.isfinite(points).all():
            raise AdaptisError(f'{path} has a polygon of "{_text(entry, "name")}" with '
                               f'{len(points)} points: it needs three or more, and all of them '
                               'must be finite.')
        return polygons_to_mask([points], size)

    def _stored_mask(self, name: str, size: tuple[int, int], path: Path) -> np.ndarray:
        folder = path.parent
        places = (folder / 'Masks', folder / 'masks', self._root / 'Masks', self._root / 'masks',
                  folder.parent / 'Masks' / folder.name, folder)
        file = next((place / name for place in places if (place / name).is_file()), None)
        if file is None:
            raise AdaptisError(f'{path} names the mask {name}, which is not in {places[0]}.')
        pixels = read_pixels(file)
        mask = pixels > 0 if pixels.ndim == 2 else pixels[..., :3].any(axis=2)
        if mask.shape != size:
            raise AdaptisError(f'{file} is {mask.shape[0]}x{mask.shape[1]} but its image is '
                               f'{size[0]}x{size[1]}.')
        return mask


def is_labelme_xml(path: Path) -> bool:
    """Return whether an XML file is from LabelMe and has polygons or masks.

    Raises AdaptisError if it is broken.
    """
    root = _parse(path)
    return root.tag == 'annotation' and next(_objects(path), None) is not None


def _objects(path: Path) -> Iterator[tuple[str, ElementTree.Element]]:
    """Yield the name and the element of the objects of a file that are not marked as deleted."""
    for entry in _parse(path).iterfind('object'):
        drawn = entry.find('polygon') is not None or entry.find('segm') is not None
        if drawn and _text(entry, 'deleted') not in ('1', 'true'):
            yield _text(entry, 'name') or 'object', entry


def _parse(path: Path) -> ElementTree.Element:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise AdaptisError(f'{path} cannot be read: {error.strerror}.') from error
    letters = text.replace(b'\0', b'')   # works for UTF-16, too
    if b'<!DOCTYPE' in letters or b'<!ENTITY' in letters:   # LabelMe has none; they can harm
        raise AdaptisError(f'{path} declares a document type, which files of LabelMe do not: '
                           'remove the declaration if you trust the file.')
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise AdaptisError(f'{path} is not valid XML: {error}.') from error


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or '').strip()
