"""The common part of the readers of all data sets: images, annotations, and missing files."""
from __future__ import annotations

import abc
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np

from adaptis.coco_json import ImageId
from adaptis.data.labels import LabelMap
from adaptis.errors import AdaptisError
from adaptis.files import PathLike, read_header, read_image
from adaptis.types import Sample, Taxonomy

MAX_MASK_ID = 0xFFFF


class FileList(NamedTuple):
    """Files below one folder, in the order of the data set."""

    folder: Path
    names: list[str]

    def path(self, index: int) -> Path:
        """Return the path of file ``index``."""
        return self.folder / self.names[index]


class Reader(abc.ABC):
    """A data set on disk: a sequence of samples that are read on access; small when pickled.

    Attributes
    ----------
    taxonomy : its categories
    images, annotations : file lists with one file per sample; ``annotations`` is None without
        ground truth
    problems : sentences about files that are missing or do not belong together, which are excluded
        from the samples
    annotation_channels : channels of an annotation PNG; 0 if the annotation is not an image

    Parameters
    ----------
    strict : raise AdaptisError for the first problem
    """

    taxonomy: Taxonomy
    annotation_channels = 1

    def __init__(self, images: FileList, annotations: Optional[FileList], problems: Sequence[str],
                 strict: bool):
        self.images, self.annotations = images, annotations
        self.problems: tuple[str, ...] = tuple(problems)
        if strict and problems:
            more = f' (1 of {len(problems)} problems: "adaptis check-data" lists all)'
            raise AdaptisError(problems[0][:-1] + more * (len(problems) > 1) + '.')

    def __len__(self) -> int:
        return len(self.images.names)

    def __getitem__(self, index: int) -> Sample:
        """Return sample ``index``; AdaptisError if files are broken, missing, or do not match."""
        if self.annotations is None:
            raise AdaptisError(f'{self.images.path(index)} has no annotation, because the data set '
                               'was opened without annotations or the split has none.')
        return self._annotate(index, self.image(index))

    def image(self, index: int) -> np.ndarray:
        """Return image ``index``, uint8 (H, W, 3) RGB, with or without ground truth."""
        return read_image(self.images.path(index))

    def file_name(self, index: int) -> str:
        """Return the image's file, relative to the folder of the split's images."""
        return self.images.names[index]

    @functools.cached_property
    def labels(self) -> LabelMap:
        """The conversion between class indices and the labels in the data set's files."""
        ids = [c.id for c in self.taxonomy.categories]
        return LabelMap(ids, max(ids) + 2, void=max(ids) + 1 if 0 in ids else 0)

    def expected_size(self, index: int) -> Optional[tuple[int, int]]:
        """Return the height and width from the annotation; None if it has none."""
        return None

    @abc.abstractmethod
    def image_id(self, index: int) -> ImageId:
        """Return the id of the image in the data set's own results format."""

    def _annotate(self, index: int, image: np.ndarray) -> Sample:
        """Return the image with its ground truth, if there is any."""
        raise NotImplementedError


class FilePairs(NamedTuple):
    """Pairs of images and annotations, and the files without a counterpart."""

    images: FileList
    annotations: Optional[FileList]
    problems: list[str]


def pair_files(images: Path, image_suffix: Union[str, tuple[str, ...]],
               annotations: Optional[Path], annotation_suffix: str,
               nested: bool = False) -> FilePairs:
    """Pair images ``<key><image_suffix>`` with ``<key><annotation_suffix>``, sorted by key.

    A key is the part of a name before its suffix.  With ``nested`` it includes the subfolder of the
    file.  Images may have any of several suffixes.  Without an annotation folder all images are
    returned.

    Raises AdaptisError if a folder is missing or contains no image.
    """
    suffixes = (image_suffix,) if isinstance(image_suffix, str) else image_suffix
    keys: dict[str, str] = {}
    problems = []
    for suffix in suffixes:
        for key in sorted(find_keys(images, suffix, nested)):
            if keys.setdefault(key, suffix) != suffix:
                problems.append(f'{images / key}{suffix} is ignored, because '
                                f'{images / key}{keys[key]} has the same name.')
    if not keys:
        raise AdaptisError(f'{images} contains no image named ...{" or ...".join(suffixes)}.')
    if annotations is None:
        return FilePairs(_files(images, keys, keys), None, problems)
    annotated = find_keys(annotations, annotation_suffix, nested)
    problems += [f'{images / key}{keys[key]} has no annotation {annotations / key}'
                 f'{annotation_suffix}.' for key in sorted(set(keys) - annotated)]
    problems += [f'{annotations / key}{annotation_suffix} has no image '
                 f'{images / key}{suffixes[0]}.' for key in sorted(annotated - set(keys))]
    both = annotated & set(keys)
    return FilePairs(_files(images, both, keys),
                     _files(annotations, both, dict.fromkeys(both, annotation_suffix)), problems)


def find_keys(folder: Path, suffix: str, nested: bool = False) -> set[str]:
    """Return the file names in a folder without ``suffix``; AdaptisError if it is missing."""
    check_folder(folder)
    return {p.relative_to(folder).as_posix()[:-len(suffix)]
            for p in folder.glob(('*/*' if nested else '*') + suffix) if p.name[0] != '.'}


def mask_values(ids: np.ndarray, path: Path) -> np.ndarray:
    """Return the sorted ids that occur in a mask; AdaptisError if they do not fit into 16 bits."""
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high > MAX_MASK_ID:
        raise AdaptisError(f'{path} contains the id {low if low < 0 else high}, outside '
                           f'0..{MAX_MASK_ID}: renumber its objects so that the ids fit into 16 '
                           'bits.')
    return np.flatnonzero(np.bincount(ids.ravel()))


def size_problem(image: PathLike, size: tuple[int, int], other: PathLike,
                 expected: tuple[int, int], has: str = 'is') -> str:
    """Return a sentence about an image of ``size`` (H, W) and something of another size."""
    sentence = f'{image} is {size[0]}x{size[1]} but {other} {has} {expected[0]}x{expected[1]}.'
    if size == expected[::-1] and read_header(image).orientation >= 5:
        sentence += (' An Exif tag rotates this image, so perhaps it was annotated without the '
                     'rotation.')
    return sentence


def check_folder(folder: Path) -> None:
    """Raise AdaptisError unless the folder exists."""
    if not folder.is_dir():
        raise AdaptisError(f'The folder {folder} does not exist: check that the root of the data '
                           'set is right and that the data set is unpacked.')


def split_folder(split: str, folders: dict, what: str) -> str:
    """Return the folder of a split; AdaptisError if the data set has no such split."""
    if split not in folders:
        raise AdaptisError(f'{what} has no split "{split}": choose from {", ".join(folders)}.')
    return folders[split]


def _files(folder: Path, keys: Iterable[str], suffix_of: Mapping[str, str]) -> FileList:
    return FileList(folder, [key + suffix_of[key] for key in sorted(keys)])
