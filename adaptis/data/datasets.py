"""One way to open every data set."""
from __future__ import annotations

import importlib
from typing import Any, Dict, Tuple

from adaptis.data.reader import Reader
from adaptis.errors import AdaptisError
from adaptis.files import PathLike

_READERS: Dict[str, Tuple[str, str]] = {  # imported when asked for: workers start faster
    'toy': ('toy', 'ToyDataset'),
    'cityscapes': ('cityscapes', 'CityscapesDataset'),
    'vistas': ('vistas', 'VistasDataset'),
    'coco': ('coco', 'CocoDataset'),
}
DATASETS = tuple(_READERS)
SPLITS = ('train', 'val', 'test')


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
    options : further ones of the reader, e.g. ``strict``

    Raises
    ------
    AdaptisError
        For another name or split, a missing or empty folder, or files without a counterpart.
    """
    if name not in _READERS:
        raise AdaptisError(f'There is no data set "{name}": choose from {", ".join(DATASETS)}.')
    if split not in SPLITS:
        raise AdaptisError(f'There is no split "{split}": choose from {", ".join(SPLITS)}.')
    module, reader = _READERS[name]
    return getattr(importlib.import_module(f'adaptis.data.{module}'), reader)(
        root, split, annotations=annotations, **options)
