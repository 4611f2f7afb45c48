"""Ground truth in the COCO instances format: one JSON with objects that may overlap.

An object is a list of polygons, or a mask as RLE (all crowds are).  The file of COCO's training
images has 860,000 objects with about 45 million coordinates, which would need 2 GB as Python
numbers.  So each entry is packed as soon as it is parsed, and only a few arrays remain: 28 MB for
100,000 objects of 26 points, read in 5 seconds.  Coordinates, which have two decimals in COCO, are
stored as integer hundredths if that is exact.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
from pycocotools import mask as rle

from adaptis import coco_json
from adaptis.categories import parse_categories
from adaptis.data.reader import ImageId
from adaptis.errors import AdaptisError
from adaptis.files import PathLike, read_json
from adaptis.types import AnnotatedObjects, Category, Taxonomy

Size = tuple[int, int]
FEWEST = 6
"""Minimum number of values in a polygon: three points."""


class InstanceImage(NamedTuple):
    """An image of the file; ``size`` is its height and width."""

    id: ImageId
    file_name: str
    size: Size


class _Rle(NamedTuple):
    size: Size
    counts: bytes


class _Object(NamedTuple):
    id: Any
    image_id: ImageId
    category_id: int
    crowd: bool
    box: tuple[float, float, float, float]   # x, y, width, height
    area: float
    mask: bytes
    size: Optional[Size]   # of the RLE
    shortest: int          # number of values in the shortest polygon, 0 without any
    reach: float           # the largest coordinate of the polygons, 0 without any


class _Misfit(NamedTuple):
    """An entry that does not match the format, and the reason."""

    what: str
    reason: str


_NUMBERS = {int, float, bool}   # JSON's numbers in Python; bool counts as one


class _NotOfTheFormat(Exception):
    """The reason why an entry does not match the format."""


class InstanceIndex:
    """The content of an instances JSON.

    Attributes
    ----------
    categories : the listed categories; all are things
    images : by id, in the order of the file, including images without objects
    problems : sentences about entries that were skipped because they cannot be used

    Raises
    ------
    AdaptisError
        If the file is missing, or is not JSON or not a COCO instances file.
    """

    def __init__(self, json_path: PathLike, colors: Iterable[Category] = ()):
        self.json_path = Path(json_path)
        data = read_json(json_path, _reduce)
        self.categories = parse_categories(
            self._list(data, 'categories', dict), self.json_path, things_only=True,
            known={(c.id, c.name): c.color for c in colors})
        if not self.categories:
            raise AdaptisError(f'{self.json_path} lists no categories: add a list "categories" '
                               'with those of its objects.')
        listed = self._list(data, 'images', (InstanceImage, _Misfit))
        self.problems = [] if listed else [f'{self.json_path} lists no images.']
        images = self._fitting(listed)
        self.images = {image.id: image for image in images}
        self._id_of = coco_json.same_ids(self.images)
        if len(self._id_of) < len(images):
            raise AdaptisError(f'{self.json_path} lists an image id twice.')
        objects = self._fitting(self._list(data, 'annotations', (_Object, _Misfit)))
        self._pack(self._usable(objects))

    def find_id(self, image_id: ImageId) -> ImageId:
        """Return an id as in the list of images, where 7 and "7" are the same; else itself."""
        return self._id_of.get(str(image_id), image_id)

    def objects(self, image_id: ImageId, taxonomy: Taxonomy) -> AnnotatedObjects:
        """Return the objects of an image in the order of the file; none if it has no entry."""
        size = self.images[image_id].size
        rows = slice(*self._rows.get(image_id, (0, 0)))
        codes = [self._code(row, size) for row in range(rows.start, rows.stop)]
        windows = [_window(box) for box in rle.toBbox(codes).tolist()] if codes else []
        masks = (rle.decode(code)[window].view(bool) for code, window in zip(codes, windows))
        return AnnotatedObjects(
            pack_layers(masks, size, [(y.start, x.start) for y, x in windows]),
            np.array([taxonomy.index(c) for c in self._category[rows].tolist()], np.int64),
            self._crowd[rows], self._boxes[rows], self._areas[rows])

    def _fitting(self, entries: Iterable[Any]) -> list:
        """Return the entries that match the format, and record the problems of the others."""
        fitting = []
        for entry in entries:
            if isinstance(entry, _Misfit):
                self.problems.append(f'{self.json_path}: {entry.what} does not match the COCO '
                                     f'instances format: {entry.reason}.')
            else:
                fitting.append(entry)
        return fitting

    def _list(self, data: Any, key: str, kind: Any) -> list:
        entries = data.get(key) if isinstance(data, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, kind) for e in entries):
            raise AdaptisError(f'{self.json_path} has no list "{key}", so it is not a COCO '
                               'instances file: give another file.')
        return entries

    def _usable(self, objects: Sequence[_Object]) -> list[_Object]:
        """Return the usable objects, image by image, and record the problems of the others."""
        known = {c.id for c in self.categories}
        place = {image_id: k for k, image_id in enumerate(self.images)}
        usable = []
        for entry in objects:
            entry = entry._replace(image_id=self.find_id(entry.image_id))
            problem = _find_problem(entry, self.images.get(entry.image_id), known)
            if problem:
                self.problems.append(f'{self.json_path}: object {entry.id} of image '
                                     f'{entry.image_id} {problem}.')
            else:
                usable.append(entry)
        return sorted(usable, key=lambda o: place[o.image_id])

    def _pack(self, objects: Sequence[_Object]) -> None:
        self._rows: dict[ImageId, tuple[int, int]] = {}
        for row, entry in enumerate(objects):
            self._rows[entry.image_id] = self._rows.get(entry.image_id, (row,))[0], row + 1
        self._category = np.array([o.category_id for o in objects], np.int64)
        self._crowd = np.array([o.crowd for o in objects], bool)
        self._areas = np.array([o.area for o in objects], np.float64)
        self._boxes = np.array([o.box for o in objects], np.float64).reshape(-1, 4)
        self._boxes[:, 2:] += self._boxes[:, :2]
        self._masks = np.frombuffer(b''.join(o.mask for o in objects), np.uint8)
        self._ends = np.cumsum([0, *(len(o.mask) for o in objects)])

    def _code(self, row: int, size: Size) -> dict:
        """Return the mask of a row as an RLE for pycocotools."""
        return _encode(self._masks[self._ends[row]:self._ends[row + 1]].tobytes(), size)


def pack_layers(masks: Iterable[np.ndarray], size: Size,
                corners: Optional[Sequence[tuple[int, int]]] = None) -> np.ndarray:
    """Return int32 (L, H, W): mask k becomes k + 1 in the first layer with room for it; L >= 1.

    Masks are bool (h, w), with their top left at ``corners`` (row, column), by default (0, 0).
    """
    layers = [np.zeros(size, np.int32)]
    taken = [np.zeros(size, bool)]
    for number, mask in enumerate(masks, start=1):
        top, left = corners[number - 1] if corners is not None else (0, 0)
        window = slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1])
        free = next((k for k, each in enumerate(taken) if not (each[window] & mask).any()), None)
        if free is None:
            free = len(layers)
            layers.append(np.zeros(size, np.int32))
            taken.append(np.zeros(size, bool))
        layers[free][window][mask] = number
        taken[free][window] |= mask
    return np.stack(layers)


def front(layers: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Return (H, W): object k as k + 1; where objects overlap, the one with the smallest area."""
    order = np.argsort(-areas, kind='stable')
    rank = np.zeros(len(order) + 1, np.int32)
    rank[order + 1] = np.arange(1, len(order) + 1)
    found = layers[0].copy()
    for layer in layers[1:]:
        places = np.nonzero(layer != 0)
        ids, before = layer[places], found[places]
        found[places] = np.where(rank[ids] > rank[before], ids, before)
    return found


def _reduce(entry: dict) -> Any:
    """Reduce an object of the file to the needed values as soon as it is parsed."""
    try:
        if 'counts' in entry and 'size' in entry:
            return _rle(entry)
        if 'segmentation' in entry or 'bbox' in entry:
            return _object(entry)
        if 'file_name' in entry:
            return InstanceImage(
                coco_json.image_id(entry, 'id'), coco_json.text(entry, 'file_name'),
                (coco_json.whole_number(entry, 'height'), coco_json.whole_number(entry, 'width')))
    except (_NotOfTheFormat, coco_json.ValueProblem) as error:
        return _Misfit(_describe(entry), str(error))
    return entry


def _describe(entry: dict) -> str:
    if 'file_name' in entry:
        return f'image {entry.get("id")!r:.40} ({entry["file_name"]!r:.80})'
    return f'object {entry.get("id")!r:.40} of image {entry.get("image_id")!r:.40}'


def _rle(entry: dict) -> _Rle:
    """Return a checked RLE: pycocotools leaves pixels uninitialised that its runs do not cover."""
    size, counts = entry['size'], entry['counts']
    if not isinstance(size, list) or len(size) != 2 or not all(map(_is_whole, size)):
        raise _NotOfTheFormat(f'its RLE has the size {size!r:.60}, not [height, width]')
    height, width = size
    try:
        lengths = counts if isinstance(counts, list) else _run_lengths(counts.encode('ascii'))
        covered = sum(lengths) if min(lengths, default=0) >= 0 else -1
    except (AttributeError, TypeError, ValueError) as error:
        raise _NotOfTheFormat(f'its RLE has the counts {counts!r:.40}, which are neither run '
                              "lengths nor COCO's text") from error
    if covered != height * width:
        raise _NotOfTheFormat(f'the runs of its RLE do not cover its {height}x{width} pixels')
    packed = rle.frPyObjects({'size': [height, width], 'counts': list(lengths)}, height, width)
    return _Rle((height, width), packed['counts'])


def _run_lengths(text: bytes) -> list[int]:
    """Return the run lengths of COCO's RLE text.

    A character has five bits of a number, the lowest first, and a flag that more follow.  From the
    fourth one on, each number is stored as the difference from the one two places before.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        bits = character - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths


def _object(entry: dict) -> _Object:
    mask = entry.get('segmentation')
    if isinstance(mask, _Misfit):
        raise _NotOfTheFormat(mask.reason)
    size, shortest, reach = None, 0, 0.0
    if isinstance(mask, _Rle):
        size, packed = mask.size, b'r' + mask.counts
    else:
        values, lengths = _polygons(mask)
        shortest, reach = min(lengths, default=0), float(np.abs(values).max(initial=0))
        packed = _packed(values, lengths)
    box = _numbers(entry.get('bbox'))
    if box is None or len(box) != 4:
        raise _NotOfTheFormat(f'its bbox is {entry.get("bbox")!r:.60}, not [x, y, width, height]')
    area = _numbers([entry.get('area')])
    if area is None:
        raise _NotOfTheFormat(f'its area is {entry.get("area")!r:.60}, not a number')
    return _Object(entry.get('id'), coco_json.image_id(entry, 'image_id'),
                   coco_json.whole_number(entry, 'category_id'), coco_json.flag(entry, 'iscrowd'),
                   tuple(box), area[0], packed, size, shortest, reach)


def _polygons(mask: Any) -> tuple[np.ndarray, list[int]]:
    """Return all coordinates, float64, and the number of values of each polygon."""
    if not isinstance(mask, list) or not all(isinstance(polygon, list) for polygon in mask):
        raise _NotOfTheFormat(f'its segmentation is {mask!r:.60}, which is neither polygons nor '
                              'RLE')
    values = _numbers(list(itertools.chain.from_iterable(mask)))
    if values is None:
        raise _NotOfTheFormat('a polygon of its segmentation contains something other than finite '
                              'numbers')
    return np.array(values, np.float64), [len(polygon) for polygon in mask]


def _numbers(values: Any) -> Optional[list[float]]:
    """Return a list of finite numbers as floats; None if it is anything else."""
    if not isinstance(values, list) or not _NUMBERS.issuperset(map(type, values)):
        return None
    try:
        floats = list(map(float, values))
    except OverflowError:
        return None
    return floats if all(map(math.isfinite, floats)) else None


def _packed(values: np.ndarray, lengths: Sequence[int]) -> bytes:
    """Return bytes: the type of the numbers, the count and lengths of polygons, and the values."""
    hundredths = np.rint(values * 100)
    kind = b'f'
    if np.abs(hundredths).max(initial=0) < 2 ** 31 and (hundredths / 100 == values).all():
        kind, values = b'i', hundredths.astype('<i4')
    return kind + np.array([len(lengths), *lengths], '<i4').tobytes() + values.tobytes()


def _encode(packed: bytes, size: Size) -> dict:
    """Return packed polygons or RLE as an RLE for pycocotools."""
    if packed[:1] == b'r':
        return {'size': list(size), 'counts': packed[1:]}
    count = int(np.frombuffer(packed, '<i4', 1, 1)[0])
    lengths = np.frombuffer(packed, '<i4', count, 5)
    kind = '<i4' if packed[:1] == b'i' else '<f8'
    values = np.frombuffer(packed, kind, offset=5 + 4 * count)
    values = values / 100 if kind == '<i4' else values
    polygons = [p.tolist() for p in np.split(values, np.cumsum(lengths)[:-1])]
    codes = rle.frPyObjects(polygons, *size)
    return codes[0] if count == 1 else rle.merge(codes)


def _window(box: Sequence[float]) -> tuple[slice, slice]:
    """Return the rows and columns of a box (x, y, width, height) of integers."""
    x, y, width, height = map(int, box)
    return slice(y, y + height), slice(x, x + width)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _find_problem(entry: _Object, image: Optional[InstanceImage], known: set[int]) -> Optional[str]:
    """Return the problem of an object, or None."""
    if image is None:
        return 'belongs to an image that is not listed'
    if entry.category_id not in known:
        return f'has the category {entry.category_id}, which is not listed'
    (height, width), (x, y, w, h) = image.size, entry.box
    if w < 0 or h < 0 or x >= width or y >= height or x + w < 0 or y + h < 0:
        return f'has the box {[x, y, w, h]}, which is outside of the image ({height}x{width})'
    if entry.size is not None:
        return None if entry.size == image.size else (
            f'has a mask of {entry.size[0]}x{entry.size[1]}, but the image is {height}x{width}')
    if entry.shortest < FEWEST:
        return (f'has a polygon of {entry.shortest} numbers, but at least {FEWEST} (three points) '
                'are needed'
                if entry.shortest else 'has no polygon')
    if entry.reach > 2 * max(image.size):
        return f'has a polygon far outside of the image ({height}x{width})'
    return None
