"""The base of all formats of labelled images that ``adaptis import`` reads."""
from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.files import IMAGE_SUFFIXES, read_header


class LabelledObject(NamedTuple):
    """An object of an image.

    ``mask`` bool (H, W) is its pixels; ``crowd`` says whether it is a crowd, and ``group`` is its
    number in the file, if any.
    """

    label: str
    mask: np.ndarray
    crowd: bool = False
    group: Optional[int] = None


class LabelledImage(NamedTuple):
    """An image with its objects, which may overlap.

    Attributes
    ----------
    path : the image file
    name : its file name in the imported data, which may include folders
    size : height and width
    objects : in the order of the file
    void : bool (H, W), pixels to be ignored, or None
    """

    path: Path
    name: str
    size: tuple[int, int]
    objects: list[LabelledObject]
    void: Optional[np.ndarray] = None


class Source(abc.ABC):
    """Labelled images in some format; they are read one by one.

    Attributes
    ----------
    labels : the classes, in the order in which they get their ids
    problems : sentences about unusable entries, which are skipped
    split : the split according to the files, if any
    """

    labels: Sequence[str]
    problems: Sequence[str] = ()
    split: Optional[str] = None

    @abc.abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abc.abstractmethod
    def read(self, index: int) -> LabelledImage:
        """Return an image with its objects; AdaptisError if its files cannot be read."""


def find_image(folders: Iterable[Path], stem: str) -> Optional[Path]:
    """Return the image with this stem in the first folder that has one."""
    for folder in folders:
        for suffix in IMAGE_SUFFIXES:
            for path in (folder / f'{stem}{suffix}', folder / f'{stem}{suffix.upper()}'):
                if path.is_file():
                    return path
    return None


def size_of(path: Path, expected: tuple[Optional[int], Optional[int]], where: Path
            ) -> tuple[int, int]:
    """Return height and width of an image; AdaptisError if its annotation gives another size."""
    size = read_header(path).size
    if None not in expected and tuple(expected) != size:
        raise AdaptisError(f'{path} is {size[0]}x{size[1]} but {where} says '
                           f'{expected[0]}x{expected[1]}.')
    return size
