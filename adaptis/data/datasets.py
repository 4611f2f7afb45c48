"""One function that opens every data set."""
from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Optional

from adaptis.data.joined import JoinedReader
from adaptis.data.reader import Reader
from adaptis.errors import AdaptisError
from adaptis.files import PathLike

_READERS: dict[str, tuple[str, str]] = {  # imported on demand, so that workers start faster
    'toy': ('toy', 'ToyDataset'),
    'cityscapes': ('cityscapes', 'CityscapesDataset'),
    'vistas': ('vistas', 'open_vistas'),
    'coco': ('coco', 'open_coco'),
}
_CONTENTS: dict[str, tuple[str, str]] = {  # the title of each data set, and its content
    'toy': ('The toy data', 'train and test, written by "adaptis toy --out FOLDER"'),
    'cityscapes': ('Cityscapes', 'leftImg8bit and gtFine, from cityscapes-dataset.com'),
    'vistas': ('Mapillary Vistas', 'config.json, training and validation of version 1.2, or its '
               'archive of version 2.0, from mapillary.com/dataset/vistas'),
    'coco': ('COCO', 'train2017, val2017 and annotations with the panoptic ones of 2017, '
             'unzipped, from cocodataset.org'),
}
DATASETS = tuple(_READERS)
SPLITS = ('train', 'val', 'test')
ANNOTATIONS = ('panoptic', 'instances', 'both')
"""Annotations of COCO; ``both`` means the panoptic segments, with the instances as
``Sample.objects``."""


def open_dataset(name: str, root: PathLike, split: str, annotations: bool = True,
                 **options: Any) -> Reader:
    """Open the data set ``name`` in its original folder ``root``.

    This lists files and reads no image, so it is fast; the result is small when pickled.

    Parameters
    ----------
    name : one of ``DATASETS``
    root : the folder into which the data set was unpacked
    split : one of ``SPLITS``, whatever the folders of the data set are called; or several joined by
        "+", for example 'train+val'
    annotations : if False, only the images are listed, and only images can be read
    options : further options of the reader, for example ``strict``; for coco also ``annotation``,
        one of ``ANNOTATIONS``

    Raises
    ------
    AdaptisError
        For an unknown name or split, a missing or empty folder, or files without a counterpart.
    """
    message = missing_root_message(name, root)
    if message:
        raise AdaptisError(message)
    names = split.split('+')
    if len(set(names)) < len(names) or not set(names) <= set(SPLITS):
        raise AdaptisError(f'There is no split "{split}": choose from {", ".join(SPLITS)}, or join '
                           'different ones as in train+val.')
    annotation = options.pop('annotation', 'panoptic')
    if annotation not in ANNOTATIONS:
        raise AdaptisError(f'There is no annotation "{annotation}": choose from '
                           f'{", ".join(ANNOTATIONS)}.')
    if annotation != 'panoptic':
        if name != 'coco':
            raise AdaptisError(f'Only coco has the annotation "{annotation}", not {name}.')
        options['annotation'] = annotation
    module, reader = _READERS[name]
    read = getattr(importlib.import_module(f'adaptis.data.{module}'), reader)
    if len(names) == 1:
        return read(root, split, annotations=annotations, **options)
    try:
        parts = [read(root, part, annotations=annotations, **options) for part in names]
    except AdaptisError as error:
        raise AdaptisError(f'A part of the split "{split}" cannot be opened: {error}') from error
    return JoinedReader(root, parts)


def missing_root_message(name: str, root: PathLike) -> Optional[str]:
    """Return a sentence about the expected content if the folder ``root`` is missing, else None.

    Raises AdaptisError if the name is unknown.
    """
    if name not in _READERS:
        raise AdaptisError(f'There is no data set "{name}": choose from {", ".join(DATASETS)}.')
    if Path(root).is_dir():
        return None
    title, content = _CONTENTS[name]
    return (f'{title} was not found: {root} should contain {content}. Download or move the data '
            'there, or give another folder.')
