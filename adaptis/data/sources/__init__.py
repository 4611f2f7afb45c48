"""Labelled images in the formats of annotation tools, for ``adaptis import``."""
from __future__ import annotations

from pathlib import Path
from typing import Optional

from adaptis.data.layouts import SPLITS, try_layout
from adaptis.data.sources.base import LabelledImage, LabelledObject, Source
from adaptis.data.sources.coco import CocoSource, is_coco_instances
from adaptis.data.sources.labelme import LabelmeSource, is_labelme
from adaptis.data.sources.labelme_xml import LabelmeXmlSource, is_labelme_xml
from adaptis.data.sources.masks import MasksSource, has_masks
from adaptis.errors import AdaptisError
from adaptis.files import read_json

__all__ = ['FORMATS', 'LabelledImage', 'LabelledObject', 'Source', 'open_sources']

FORMATS = ('coco', 'labelme', 'labelme-xml', 'masks')


def open_sources(path: Path, format: Optional[str] = None,
                 images: Optional[Path] = None) -> list[Source]:
    """Open labelled images; several sources are the splits of one data set.

    Parameters
    ----------
    path : a JSON file or a folder
    format : one of ``FORMATS``; None = detect it from the files
    images : the folder of the images, if it is not found otherwise

    Raises AdaptisError if there is nothing in a known format.
    """
    if not path.exists():
        raise AdaptisError(f'{path} does not exist.')
    if images is not None and not images.is_dir():
        raise AdaptisError(f'The folder {images} does not exist.')
    format = format or _recognize(path)
    if format == 'labelme':
        return [LabelmeSource(path, images)]
    if format == 'labelme-xml':
        return [LabelmeXmlSource(path, images)]
    if format == 'masks':
        return [MasksSource(path, images)]
    if format != 'coco':
        raise AdaptisError(f'There is no format "{format}": choose from {", ".join(FORMATS)}.')
    if path.is_file():
        return [CocoSource(path, images)]
    layouts = [(split, try_layout(path, split, 'instances')) for split in SPLITS]
    found = [CocoSource(layout.instances, images or layout.images, split)
             for split, layout in layouts if layout is not None and layout.instances.is_file()]
    if found:
        return found
    files = [p for p in sorted(path.glob('*.json')) + sorted(path.glob('annotations/*.json'))
             if is_coco_instances(read_json(p))]
    if len(files) != 1:
        raise AdaptisError(f'{path} contains {len(files) or "no"} JSON files of COCO instances, '
                           'but not in a supported layout: give the path of one of the files.')
    return [CocoSource(files[0], images)]


def _recognize(path: Path) -> str:
    if path.is_file():
        found = _recognize_file(path)
        if found is None:
            raise AdaptisError(f'{path} is neither a labelme file nor a COCO instances file.')
        return found
    layouts = [layout for layout in (try_layout(path, split, 'instances') for split in SPLITS)
               if layout is not None]
    if any(layout.instances.is_file() for layout in layouts):
        return 'coco'
    if any(layout.json.is_file() for layout in layouts):
        raise AdaptisError(f'{path} already contains panoptic data and needs no import: use it '
                           'with --dataset coco.')
    if has_masks(path):
        return 'masks'
    for candidate in sorted([*path.rglob('*.json'), *path.rglob('*.xml')]):
        found = _recognize_file(candidate)
        if found is not None:
            return found
    raise AdaptisError(
        f'{path} contains no labelled images in a supported format: a COCO instances JSON, JSON '
        'files of labelme, or images/NAME.jpg with masks/NAME/*.png (see docs/own_data.md).')


def _recognize_file(path: Path) -> Optional[str]:
    if path.suffix.lower() == '.xml':
        return 'labelme-xml' if is_labelme_xml(path) else None
    content = read_json(path)
    if is_labelme(content):
        return 'labelme'
    return 'coco' if is_coco_instances(content) else None
