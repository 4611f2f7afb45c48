"""One way to open every data set."""
from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Optional

from adaptis.data.reader import Reader
from adaptis.errors import AdaptisError
from adaptis.files import PathLike

_READERS: dict[str, tuple[str, str]] = {  # imported when asked for: workers start faster
    'toy': ('toy', 'ToyDataset'),
    'cityscapes': ('cityscapes', 'CityscapesDataset'),
    'vistas': ('vistas', 'open_vistas'),
    'coco': ('coco', 'open_coco'),
}
_CONTENTS: dict[str, tuple[str, str]] = {  # what a person calls it, and what must lie there
    'toy': ('The toy data', 'train and test, which "adaptis toy --out FOLDER" draws'),
    'cityscapes': ('Cityscapes', 'leftImg8bit and gtFine, from cityscapes-dataset.com'),
    'vistas': ('Mapillary Vistas', 'config.json, training and validation of version 1.2, or its '
               'archive of version 2.0, from mapillary.com/dataset/vistas'),
    'coco': ('COCO', 'train2017, val2017 and annotations with the panoptic ones of 2017, '
             'unzipped, from cocodataset.org'),
}
DATASETS = tuple(_READERS)
SPLITS = ('train', 'val', 'test')
ANNOTATIONS = ('panoptic', 'instances', 'both')
"""Of coco; ``both``: segments of the panoptic one, and ``Sample.objects`` of the instances."""


def open_dataset(name: str, root: PathLike, split: str, annotations: bool = True,
                 **options: Any) -> Reader:
    """The data set ``name`` below its original folder ``root``.

    Cheap (lists files, reads no image), and the result is small when pickled.

    Parameters
    ----------
    name : one of ``DATASETS``
    root : the folder into which the data set was unpacked
    split : one of ``SPLITS``, whatever the data set calls its folders
    annotations : False lists the images alone; then samples cannot be read, but images can
    options : further ones of the reader, e.g. ``strict``; of coco ``annotation``

    Raises
    ------
    AdaptisError
        For another name or split, a missing or empty folder, or files without a counterpart.
    """
    complaint = missing(name, root)
    if complaint:
        raise AdaptisError(complaint)
    if split not in SPLITS:
        raise AdaptisError(f'There is no split "{split}": choose from {", ".join(SPLITS)}.')
    annotation = options.pop('annotation', 'panoptic')
    if annotation not in ANNOTATIONS:
        raise AdaptisError(f'There is no annotation "{annotation}": choose from '
                           f'{", ".join(ANNOTATIONS)}.')
    if annotation != 'panoptic':
        if name != 'coco':
            raise AdaptisError(f'Only coco has the annotation "{annotation}", not {name}.')
        options['annotation'] = annotation
    module, reader = _READERS[name]
    return getattr(importlib.import_module(f'adaptis.data.{module}'), reader)(
        root, split, annotations=annotations, **options)


def missing(name: str, root: PathLike) -> Optional[str]:
    """A sentence if there is no folder ``root``, with what belongs into it; None if there is.

    AdaptisError if there is no such data set.
    """
    if name not in _READERS:
        raise AdaptisError(f'There is no data set "{name}": choose from {", ".join(DATASETS)}.')
    if Path(root).is_dir():
        return None
    title, content = _CONTENTS[name]
    return (f'{title} is not at {root}: that folder is expected to hold {content}; '
            'or give another folder.')
