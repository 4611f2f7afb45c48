"""Ground truth in the COCO panoptic format: one JSON and a folder of PNGs.

The JSON of COCO's training images lists 1.3 million segments, which would take about 0.7 GB as
Python objects in every process.  So each object of the file is reduced to the needed values as soon
as it is parsed.  Only a few arrays remain (23 MB for a file with that many entries, read in 6
seconds with a peak of 0.4 GB).
"""
from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from adaptis import coco_json
from adaptis.categories import parse_categories
from adaptis.data.reader import FileList, ImageId, Reader, check_folder, size_problem
from adaptis.errors import AdaptisError, DataWarning
from adaptis.files import PathLike, read_json
from adaptis.ids import MAX_ID, find_ids, id_runs, read_panoptic_png, spread_runs
from adaptis.types import Sample, Taxonomy

_MOST = 2 ** 31 - 1


class _Image(NamedTuple):
    id: ImageId
    file_name: str
    size: tuple[int, int]  # height and width, 0 = not given


class _Annotation(NamedTuple):
    image_id: ImageId
    file_name: str
    segments: np.ndarray  # int32 (n, 3): id, category id, crowd


class PanopticIndex:
    """The content of a panoptic JSON, in arrays.

    Attributes
    ----------
    categories : the listed categories
    image_ids, file_names, png_names : one entry for each image that has a usable annotation
    sizes : int64 (N, 2), height and width, 0 = not given
    problems : sentences about unusable entries, which are skipped

    Raises
    ------
    AdaptisError
        If the file is missing, not JSON, or not a COCO panoptic file.
    """

    def __init__(self, json_path: PathLike):
        self.json_path = Path(json_path)
        data = read_json(json_path, functools.partial(_reduce, path=self.json_path))
        self.categories = parse_categories(self._list(data, 'categories'), self.json_path)
        images = self._list(data, 'images', _Image)
        annotations = self._list(data, 'annotations', _Annotation)
        self.problems: list[str] = []
        usable = self._usable(images, annotations)
        rows = [(image, usable[str(image.id)]) for image in images if str(image.id) in usable]
        self.image_ids = [image.id for image, _ in rows]
        self.file_names = [image.file_name for image, _ in rows]
        self.png_names = [annotation.file_name for _, annotation in rows]
        self.sizes = np.array([i.size for i, _ in rows], np.int64).reshape(-1, 2)
        segments = [annotation.segments for _, annotation in rows]
        self._segments = np.concatenate([*segments, np.zeros((0, 3), np.int32)])
        self._first = np.cumsum([0] + [len(s) for s in segments])

    def __len__(self) -> int:
        return len(self.image_ids)

    def segments(self, row: int) -> np.ndarray:
        """Return the segments of one image, int32 (n, 3): id, category id, crowd (0 or 1)."""
        return self._segments[self._first[row]:self._first[row + 1]]

    def _list(self, data: Any, key: str, kind: type = dict) -> list:
        entries = data.get(key) if isinstance(data, dict) else None
        if not isinstance(entries, list):
            raise AdaptisError(f'{self.json_path} has no list "{key}", so it is not a COCO '
                               'panoptic file: give another file.')
        other = next((e for e in entries if not isinstance(e, kind)), None)
        if other is not None:
            raise AdaptisError(f'{self.json_path} has an entry in "{key}" that does not belong in '
                               f'that list of a COCO panoptic file: {str(other)[:100]}.')
        return entries

    def _usable(self, images: Sequence[_Image],
                annotations: Sequence[_Annotation]) -> dict[str, _Annotation]:
        """Return id (as text) -> annotation of each image; record entries without a counterpart."""
        known = {c.id for c in self.categories}
        unclaimed = set(coco_json.same_ids(image.id for image in images))
        if len(unclaimed) < len(images):
            raise AdaptisError(f'{self.json_path} lists an image id twice.')
        if not images:
            self._tell('lists no image')
        usable = {}
        for annotation in annotations:
            problem = _find_problem(annotation.segments, known)
            image_id = str(annotation.image_id)
            if image_id in usable:
                self._tell(f'annotates image {annotation.image_id} twice')
            elif image_id not in unclaimed:
                self._tell(f'annotates image {annotation.image_id} ({annotation.file_name}), '
                           'which is not among its images')
            elif problem:
                self._tell(f'{problem} in {annotation.file_name}')
            else:
                usable[image_id] = annotation
            unclaimed.discard(image_id)
        for image in images:
            if str(image.id) in unclaimed:
                self._tell(f'has no annotation for image {image.id} ({image.file_name})')
        return usable

    def _tell(self, what: str) -> None:
        self.problems.append(f'{self.json_path} {what}.')


class PanopticReader(Reader):
    """Samples of a panoptic JSON, its PNGs and the images.

    Objects are numbered by their position in the JSON's list, starting at 1.  (COCO's own ids can
    reach 2^24, which would make every table over ids large.)  Crowds of things are ignored objects;
    a crowd of stuff is void.  A listed segment without a pixel, for example because others were
    painted over it, is ignored with a DataWarning.

    Parameters
    ----------
    index : the content of the JSON
    images, pngs : the two folders
    taxonomy : the categories in the order of the networks' classes
    class_of : category id of the JSON -> class index; other categories are void
    problems : problems that are already known
    """

    annotation_channels = 3

    def __init__(self, index: PanopticIndex, images: Path, pngs: Path, taxonomy: Taxonomy,
                 class_of: dict[int, int], problems: Iterable[str] = (), strict: bool = True):
        check_folder(images)
        check_folder(pngs)
        missing = missing_files(images, index.file_names)
        missing_pngs = missing_files(pngs, index.png_names)
        problems = [*problems, *index.problems,
                    *(f'{index.json_path} annotates {images / name}, which does not exist.'
                      for name in sorted(missing)),
                    *(f'{pngs / name}, which {index.json_path} lists, does not exist.'
                      for name in sorted(missing_pngs))]
        self.taxonomy = taxonomy
        self._index, self._class_of = index, class_of
        rows = [row for row, name in enumerate(index.file_names)
                if name not in missing and index.png_names[row] not in missing_pngs]
        self._rows = sorted(rows, key=index.file_names.__getitem__)
        super().__init__(FileList(images, [index.file_names[row] for row in self._rows]),
                         FileList(pngs, [index.png_names[row] for row in self._rows]),
                         problems, strict)

    def image_id(self, index: int) -> ImageId:
        """Return the id in the JSON."""
        return self._index.image_ids[self._rows[index]]

    def expected_size(self, index: int) -> Optional[tuple[int, int]]:
        """Return the height and width in the JSON, or None if it has none."""
        height, width = self._index.sizes[self._rows[index]].tolist()
        return (height, width) if height and width else None

    def _annotate(self, index: int, image: np.ndarray) -> Sample:
        path = self.annotations.path(index)
        segments = self._index.segments(self._rows[index])
        segment_map = read_panoptic_png(path)
        (found,), lengths = id_runs(segment_map)
        positions = find_ids(found, segments[:, 0], str(path))
        self._check(index, image, segment_map.shape)
        seen = self._seen(index, positions, segments[:, 0])
        crowd = segments[:, 2] > 0
        classes = np.array([self._class_of.get(c, -1) for c in segments[:, 1].tolist()], np.int32)
        things = classes >= self.taxonomy.num_stuff
        classes[crowd & ~things] = -1
        numbers = np.arange(1, len(segments) + 1, dtype=np.int32) * things
        instances, semantic = (
            spread_runs(np.append(np.int32(none), values)[positions], lengths, segment_map.shape)
            for none, values in ((0, numbers), (-1, classes)))
        return Sample(image=image, instances=instances, semantic=semantic,
                      classes={int(n): int(c) for n, c in zip(numbers[seen], classes[seen]) if n},
                      ignored=frozenset(numbers[things & crowd & seen].tolist()),
                      name=str(self.images.path(index)))

    def _check(self, index: int, image: np.ndarray, png_size: tuple[int, ...]) -> None:
        """Raise AdaptisError if the PNG and the JSON disagree."""
        path, size = self.annotations.path(index), self.expected_size(index)
        if size not in (None, image.shape[:2]):
            raise AdaptisError(size_problem(self.images.path(index), image.shape[:2],
                                            self._index.json_path, size, 'says'))
        if png_size != image.shape[:2]:
            raise AdaptisError(size_problem(self.images.path(index), image.shape[:2], path,
                                            png_size))

    def _seen(self, index: int, positions: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Return which segments have a pixel, bool (n,); warn if some have none."""
        seen = np.bincount(positions, minlength=len(ids) + 1)[1:] > 0
        if not seen.all():
            lost = ', '.join(map(str, ids[~seen].tolist()))
            warnings.warn(f'{self.annotations.path(index)} has no pixel of segment {lost}, which '
                          f'{self._index.json_path} lists; the segment is ignored.', DataWarning,
                          stacklevel=2)
        return seen


def _reduce(entry: dict, path: Path) -> Any:
    """Reduce an object of the file to the needed values as soon as it is parsed."""
    try:
        if 'segments_info' in entry or 'image_id' in entry:
            rows = coco_json.objects(entry, 'segments_info')
            return _Annotation(coco_json.image_id(entry, 'image_id'),
                               coco_json.text(entry, 'file_name'), _rows(rows))
        if 'category_id' in entry:
            return (coco_json.whole_number(entry, 'id'),
                    coco_json.whole_number(entry, 'category_id'),
                    coco_json.flag(entry, 'iscrowd'))
        if 'file_name' in entry:
            return _Image(coco_json.image_id(entry, 'id'), coco_json.text(entry, 'file_name'),
                          (coco_json.optional_whole_number(entry, 'height'),
                           coco_json.optional_whole_number(entry, 'width')))
    except coco_json.ValueProblem as problem:
        raise coco_json.misfit(path, entry, problem) from problem
    return entry


def _rows(segments: list) -> np.ndarray:
    """Return the reduced segments as int32 (n, 3)."""
    for segment in segments:
        if not isinstance(segment, tuple):  # it was not reduced because it is not a segment
            raise coco_json.ValueProblem(f'a segment has no "category_id": {str(segment)[:60]}')
        if max(map(abs, segment)) > _MOST:  # NumPy 1 would wrap it silently
            raise coco_json.ValueProblem('an id has more than 32 bits')
    return np.array(segments, np.int32).reshape(-1, 3)


def _find_problem(segments: np.ndarray, known: set[int]) -> Optional[str]:
    """Return the problem with the list of an image's segments; None if it is correct."""
    for segment_id, category_id, _ in segments.tolist():
        if category_id not in known:
            return (f'gives segment {segment_id} the category {category_id}, which it does not '
                    'list,')
        if not 1 <= segment_id <= MAX_ID:
            return f'lists the segment id {segment_id}, which is not one of 1 to {MAX_ID},'
    if len(np.unique(segments[:, 0])) < len(segments):
        return 'lists a segment id twice'
    return None


def missing_files(folder: Path, names: Sequence[str]) -> set[str]:
    """Return the names that are not files of the folder; each folder is listed only once."""
    parents = {Path(name).parent for name in names}
    found = {(parent / p.name).as_posix() for parent in parents if os.path.isdir(folder / parent)
             for p in (folder / parent).iterdir()}
    return {name for name in names if Path(name).as_posix() not in found}
