"""Read and write COCO formats: panoptic PNG + JSON, instance annotations, detection results.

All files are written as a stream, so memory does not grow with the data set, and a file gets its
name only when it is complete.  Encoding a result takes longer than writing it, so other processes
can do it: ``writer.write(encode_panoptic(...))`` equals ``writer.add(...)``.
"""
from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, TypeVar

import numpy as np

from adaptis import coco_json
from adaptis.categories import parse_categories
from adaptis.coco_json import ImageId
from adaptis.errors import AdaptisError, DataWarning
from adaptis.evaluation.segments import (
    areas_of_runs,
    segment_areas,
    segment_boxes,
    segment_runs,
)
from adaptis.files import PathLike, atomic_write, encode_image, read_json, write_bytes
from adaptis.ids import Runs, ids_to_rgb, read_panoptic_png, relabel_ids
from adaptis.names import Claims
from adaptis.types import Category, Objects, PanopticResult, Segment, Taxonomy

Stream = TypeVar('Stream', bound='_JsonStream')


@dataclass(frozen=True)
class PanopticRecord:
    """One annotated or predicted image of a COCO panoptic data set.

    Attributes
    ----------
    crowd : ids of the segments that are crowds
    runs : those of the segment map as it was read; a segment has its place in the list, from 1
    """

    image_id: ImageId
    file_name: str
    result: PanopticResult
    crowd: Collection[int]
    runs: Runs


class EncodedPanoptic(NamedTuple):
    """A panoptic result, encoded as in its files.

    Attributes
    ----------
    shape : height and width
    png : the content of the PNG
    segments_info : the segments as listed in the JSON
    """

    image_id: ImageId
    file_name: str
    shape: tuple[int, int]
    png: bytes
    segments_info: list[dict[str, Any]]


def encode_panoptic(image_id: ImageId, file_name: str, result: PanopticResult,
                    taxonomy: Taxonomy, crowd: Collection[int] = ()) -> EncodedPanoptic:
    """Return what :meth:`PanopticWriter.write` writes.

    Raises AdaptisError if an id or category is unknown.
    """
    infos = _segment_infos(result, crowd, taxonomy, file_name)
    png = encode_image(f'{file_name}.png', ids_to_rgb(result.segment_map))
    height, width = result.segment_map.shape
    return EncodedPanoptic(image_id, file_name, (int(height), int(width)), png, infos)


def encode_instances(image_id: ImageId, result: PanopticResult) -> list[dict[str, Any]]:
    """Return the things of a result as COCO detection results.

    If it has ``objects``, which may overlap, these are returned.  Things without pixels are
    omitted.
    """
    if result.objects is not None:
        return _encode_objects(image_id, result.objects)
    areas = segment_areas(result.segment_map, [s.id for s in result.segments],
                          f'The result of image {image_id}')
    things = [s for s in result.things if areas[s.id]]
    masks = encode_segments(result.segment_map, [s.id for s in things])
    return [_detection(image_id, segment.category_id, mask, segment.score)
            for segment, mask in zip(things, masks)]


def _encode_objects(image_id: ImageId, objects: Objects) -> list[dict[str, Any]]:
    entries = []
    for mask, score, category in zip(objects.masks, objects.scores, objects.category_ids):
        if mask.any():
            code, = encode_segments(mask.astype(np.uint8), [1])
            entries.append(_detection(image_id, category, code, score))
    return entries


def _detection(image_id: ImageId, category: int, mask: dict[str, Any],
               score: float) -> dict[str, Any]:
    return {'image_id': image_id, 'category_id': int(category),
            'segmentation': _rle_json(mask), 'score': float(score)}


def write_panoptic(json_path: PathLike, folder: PathLike,
                   results: Iterable[tuple[ImageId, str, PanopticResult]],
                   taxonomy: Taxonomy) -> None:
    """Write (image_id, file_name, result) triples as one panoptic JSON and a folder of PNGs."""
    with PanopticWriter(json_path, folder, taxonomy) as writer:
        for image_id, file_name, result in results:
            writer.add(image_id, file_name, result)


class _JsonStream:
    """A JSON object whose lists are written entry by entry; the file appears when it is complete.

    The longest list is written directly to the file; the others are kept in memory as text.  If a
    ``with`` block raises, an existing file is not changed.
    """

    def __init__(self, json_path: PathLike):
        self._stack = contextlib.ExitStack()
        temporary = self._stack.enter_context(atomic_write(json_path))
        self._file = self._stack.enter_context(
            open(temporary, 'w', encoding='utf-8'))   # noqa: SIM115 (the stack closes it)
        self._entries = 0

    def __enter__(self: Stream) -> Stream:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.close()
        else:
            self._stack.__exit__(kind, error, trace)

    def _write(self, entry: Mapping[str, Any]) -> None:
        self._file.write(',\n' if self._entries else '')
        json.dump(entry, self._file)
        self._entries += 1

    def _finish(self) -> None:
        """Write everything after the streamed list."""

    def close(self) -> None:
        """Complete the file and give it its name; the second call does nothing."""
        if self._file.closed:
            return
        with self._stack:
            self._finish()


class _Annotations(_JsonStream):
    """A JSON with ``categories``, the streamed ``annotations``, and ``images``."""

    def __init__(self, json_path: PathLike, taxonomy: Taxonomy):
        super().__init__(json_path)
        self.taxonomy = taxonomy
        self._images: dict[ImageId, str] = {}
        categories = json.dumps([_category_json(c) for c in taxonomy.categories])
        self._file.write(f'{{"categories": {categories},\n"annotations": [\n')

    def _add_image(self, image_id: ImageId, file_name: str, shape: tuple[int, ...]) -> None:
        if image_id in self._images:
            raise AdaptisError(f'Image {image_id} ({file_name}) was added twice.')
        self._images[image_id] = json.dumps({
            'id': image_id, 'file_name': file_name,
            'height': int(shape[0]), 'width': int(shape[1])})

    def _finish(self) -> None:
        self._file.write('\n],\n"images": [\n' + ',\n'.join(self._images.values()) + '\n]}\n')


class PanopticWriter(_Annotations):
    """Writes panoptic results one by one; a context manager, or call :meth:`close` at the end.

    Parameters
    ----------
    json_path : the JSON file to write; it appears when the writer is closed
    folder : the folder for the PNGs, created if needed
    taxonomy : the categories of all results
    """

    def __init__(self, json_path: PathLike, folder: PathLike, taxonomy: Taxonomy):
        super().__init__(json_path, taxonomy)
        self.folder = Path(folder)
        self._names: set[str] = set()
        self._claims = Claims()

    def add(self, image_id: ImageId, file_name: str, result: PanopticResult,
            height: Optional[int] = None, width: Optional[int] = None,
            crowd: Collection[int] = (), png: Optional[str] = None) -> None:
        """Write one image.

        Segments without pixels are omitted, because the format cannot represent them.

        Parameters
        ----------
        file_name : of the image that was segmented
        height, width : size of that image; if given, the result must have the same size
        crowd : ids of ground-truth segments that are crowds
        png : name of the PNG; by default that of the image, with its folders and a new extension

        Raises
        ------
        AdaptisError
            If sizes differ, an id or category is unknown, a PNG or an image is added twice, or the
            disk is full.
        """
        shape = result.segment_map.shape
        if height is not None and (height, width) != shape:
            raise AdaptisError(f'The result for {file_name} is {shape[0]}x{shape[1]} '
                               f'but the image is {height}x{width}.')
        self.write(encode_panoptic(image_id, file_name, result, self.taxonomy, crowd), png)

    def write(self, encoded: EncodedPanoptic, png: Optional[str] = None) -> None:
        """Write one image that :func:`encode_panoptic` has encoded; see :meth:`add`."""
        self._add_image(encoded.image_id, encoded.file_name, encoded.shape)
        png = self._claims.claim(encoded.file_name) + '.png' if png is None else png
        if png in self._names:
            raise AdaptisError(f'Two images are named {encoded.file_name}: their PNGs would '
                               'collide.')
        self._names.add(png)
        write_bytes(self.folder / png, encoded.png)
        self._write({'image_id': encoded.image_id, 'file_name': png,
                     'segments_info': encoded.segments_info})


class InstanceAnnotationsWriter(_Annotations):
    """Writes ground-truth objects in the COCO instances format, masks as compressed RLE."""

    def __init__(self, json_path: PathLike, taxonomy: Taxonomy):
        super().__init__(json_path, Taxonomy([c for c in taxonomy.categories if c.isthing]))

    def add(self, image_id: ImageId, file_name: str, truth: PanopticResult,
            crowd: Collection[int] = ()) -> None:
        """Write the things of one image (see ``segments.sample_truth``)."""
        self._add_image(image_id, file_name, truth.segment_map.shape)
        infos = _segment_infos(truth, crowd, None, file_name)
        things = {s.id for s in truth.things}
        infos = [info for info in infos if info['id'] in things]
        masks = encode_segments(truth.segment_map, [info['id'] for info in infos])
        for info, mask in zip(infos, masks):
            info.pop('score')
            self.taxonomy.index(info['category_id'])
            # Ids start at 1, because pycocotools treats a match with id 0 as no match.
            self._write({**info, 'id': self._entries + 1, 'image_id': image_id,
                         'segmentation': _rle_json(mask)})


class InstancesWriter(_JsonStream):
    """Writes objects as COCO detection results: image_id, category_id, segmentation, score."""

    def __init__(self, json_path: PathLike):
        super().__init__(json_path)
        self._file.write('[\n')

    def add(self, image_id: ImageId, result: PanopticResult) -> None:
        """Write the things of one result; see :func:`encode_instances`."""
        self.write(encode_instances(image_id, result))

    def write(self, encoded: Iterable[dict[str, Any]]) -> None:
        """Write the things of one image that :func:`encode_instances` has encoded."""
        for entry in encoded:
            self._write(entry)

    def _finish(self) -> None:
        self._file.write('\n]\n')


class PanopticFolder:
    """Reads a COCO panoptic JSON and its folder of PNGs, image by image.

    The list of images is checked on opening, and each PNG on reading.  Every error names the file
    and the problem.

    Parameters
    ----------
    json_path : the panoptic JSON
    folder : the folder of the PNGs; by default the folder with the name of the JSON, as in COCO
    truth : the ground truth of these predictions.  Results in the official format list only
        annotations; missing images and categories are taken from the ground truth
    """

    def __init__(self, json_path: PathLike, folder: Optional[PathLike] = None,
                 truth: Optional[PanopticFolder] = None):
        self.json_path = Path(json_path)
        self.folder = Path(folder) if folder else self.json_path.with_suffix('')
        data = read_json(self.json_path)
        if truth is not None and _lacks(data, 'categories'):
            self.taxonomy = truth.taxonomy
        else:
            self.taxonomy = Taxonomy(parse_categories(
                _entries(data, 'categories', self.json_path), self.json_path))
        if truth is not None and _lacks(data, 'images'):
            self.images = truth.images
        else:
            images = self._parsed(_image, _entries(data, 'images', self.json_path))
            self.images = {image['id']: image for image in images}
        self._id_of = coco_json.same_ids(self.images)
        self.annotations: dict[ImageId, dict] = {}
        for annotation in self._parsed(_annotation,
                                       _entries(data, 'annotations', self.json_path)):
            self._list_annotation(annotation)
        if not self.folder.is_dir():
            raise AdaptisError(f'{self.folder}, the folder of the PNGs of {self.json_path}, '
                               'does not exist.')

    def __len__(self) -> int:
        return len(self.annotations)

    def __iter__(self) -> Iterator[PanopticRecord]:
        for image_id in self.annotations:
            yield self.read(image_id)

    def read(self, image_id: ImageId) -> PanopticRecord:
        """Read one image.

        Raises
        ------
        AdaptisError
            If the PNG is missing or broken, its size is not that of the image, or it and the
            JSON disagree about the segments.
        """
        if image_id not in self.annotations:
            raise AdaptisError(f'{self.json_path} has no annotation for image {image_id}.')
        annotation, image = self.annotations[image_id], self.images[image_id]
        path = self.folder / annotation['file_name']
        segment_map = read_panoptic_png(path)
        size = tuple(listed or actual for listed, actual in zip(
            (image['height'], image['width']), segment_map.shape))
        if segment_map.shape != size:
            raise AdaptisError(f'{path} is {segment_map.shape[0]}x{segment_map.shape[1]}, but '
                               f'{self.json_path} says {size[0]}x{size[1]}.')
        infos = self._parsed(_segment, annotation['segments_info'])
        segments, runs = self._segments(segment_map, infos, path)
        crowd = frozenset(info['id'] for info in infos if info['iscrowd'])
        return PanopticRecord(image_id, image['file_name'],
                              PanopticResult(segment_map, segments), crowd, runs)

    def _parsed(self, parse: Callable[[dict], dict], entries: Iterable[Any]) -> list[dict]:
        """Return the entries with the needed values, converted to the format's types."""
        parsed = []
        for entry in entries:
            try:
                if not isinstance(entry, dict):
                    raise coco_json.ValueProblem('it must be an object with keys')
                parsed.append(parse(entry))
            except coco_json.ValueProblem as problem:
                raise coco_json.misfit(self.json_path, entry, problem) from problem
        return parsed

    def _segments(self, segment_map: np.ndarray, infos: list[dict],
                  path: Path) -> tuple[list[Segment], Runs]:
        """Return the listed segments, and the runs of the map.

        Omits segments without a pixel with a DataWarning.
        """
        ids = [info['id'] for info in infos]
        runs = segment_runs(segment_map, ids, str(path))
        areas = areas_of_runs(runs, ids)
        places = np.cumsum([0] + [areas[i] > 0 for i in ids])   # in the list without empty ones
        segments = []
        for info in infos:
            category = _known(self.taxonomy, info, str(path))
            if areas[info['id']]:
                segments.append(Segment(info['id'], category.id, category.isthing, info['score'],
                                        areas[info['id']], category.name))
            else:
                warnings.warn(f'{path} has no pixel of segment {info["id"]}, which '
                              f'{self.json_path} lists; the segment is ignored.', DataWarning,
                              stacklevel=2)
        return segments, Runs(places[runs.values], runs.lengths)

    def _list_annotation(self, annotation: dict) -> None:
        image_id = self._id_of.get(str(annotation['image_id']))
        if image_id is None:
            raise AdaptisError(f'{self.json_path} annotates image {annotation["image_id"]}, '
                               'which is not among its images.')
        if image_id in self.annotations:
            raise AdaptisError(f'{self.json_path} annotates image {image_id} twice.')
        self.annotations[image_id] = annotation


def encode_segments(segment_map: np.ndarray, ids: Collection[int]) -> list[dict[str, Any]]:
    """Return the compressed RLE of each segment, as ``pycocotools.mask.encode`` does (bytes).

    The runs of all segments are found in one pass, without a mask for each of them.
    """
    height, width = segment_map.shape
    pixels = segment_map.ravel(order='F')  # RLE runs down the columns
    starts = np.flatnonzero(np.concatenate([[True], pixels[1:] != pixels[:-1]])[:pixels.size])
    ends = np.append(starts[1:], pixels.size)
    order = np.argsort(pixels[starts], kind='stable')
    owners = pixels[starts][order]
    runs = []
    for segment_id in ids:
        mine = order[slice(*np.searchsorted(owners, [segment_id, segment_id + 1]))]
        edges = np.stack([starts[mine], ends[mine]], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=pixels.size)  # off, on, off, ...
        runs.append({'size': [height, width], 'counts': _compressed(
            counts if counts[-1] or not mine.size else counts[:-1])})
    return runs


def _compressed(counts: np.ndarray) -> bytes:
    """Return the lengths of runs in COCO's text format.

    From the fourth one on, each length is stored as the difference from the one two places before.
    A character has five bits, the lowest first; all characters of a number except the last are
    marked.
    """
    rest = counts.astype(np.int64)
    rest[3:] -= counts[1:-2]
    characters, used = [], [np.ones(len(rest), bool)]
    while used[-1].any():
        bits = rest & 31
        rest >>= 5
        more = rest != np.where(bits & 16, -1, 0)  # otherwise the rest follows from the sign bit
        characters.append(bits + 32 * more + 48)
        used.append(used[-1] & more)
    text: np.ndarray = np.stack(characters, axis=1).astype(np.uint8)
    return text[np.stack(used[:-1], axis=1)].tobytes()


def _rle_json(mask: dict[str, Any]) -> dict[str, Any]:
    return {'size': [int(s) for s in mask['size']], 'counts': mask['counts'].decode('ascii')}


def _segment_infos(result: PanopticResult, crowd: Collection[int], taxonomy: Optional[Taxonomy],
                   what: str) -> list[dict[str, Any]]:
    ids = [s.id for s in result.segments]
    positions = relabel_ids(result.segment_map, ids, what)
    areas = np.bincount(positions.ravel(), minlength=len(ids) + 1)[1:]
    infos = []
    for segment, area, box in zip(result.segments, areas, segment_boxes(positions, len(ids))):
        if taxonomy is not None:
            taxonomy.index(segment.category_id)
        if area:
            infos.append({'id': int(segment.id), 'category_id': int(segment.category_id),
                          'iscrowd': int(segment.id in crowd), 'area': int(area),
                          'bbox': [int(v) for v in box], 'score': float(segment.score)})
    return infos


def _known(taxonomy: Taxonomy, info: dict, what: str) -> Category:
    try:
        return taxonomy.by_id(info['category_id'])
    except AdaptisError as error:
        raise AdaptisError(f'{what}: segment {info["id"]} has category {info["category_id"]}, '
                           'which its JSON does not list.') from error


def _category_json(category: Category) -> dict[str, Any]:
    return {'id': int(category.id), 'name': category.name, 'isthing': int(category.isthing),
            'color': [int(c) for c in category.color]}


def _lacks(data: Any, key: str) -> bool:
    return isinstance(data, dict) and key not in data


def _entries(data: Any, key: str, path: Path) -> list[dict]:
    if not isinstance(data, dict) or not isinstance(data.get(key), list):
        raise AdaptisError(f'{path} has no list "{key}": is it a COCO panoptic file?')
    return data[key]


def _image(entry: dict) -> dict[str, Any]:
    return {'id': coco_json.image_id(entry, 'id'),
            'file_name': coco_json.text(entry, 'file_name'),
            **{key: coco_json.optional_whole_number(entry, key) for key in ('height', 'width')}}


def _annotation(entry: dict) -> dict[str, Any]:
    return {'image_id': coco_json.image_id(entry, 'image_id'),
            'file_name': coco_json.text(entry, 'file_name'),
            'segments_info': coco_json.objects(entry, 'segments_info')}


def _segment(entry: dict) -> dict[str, Any]:
    return {'id': coco_json.whole_number(entry, 'id'),
            'category_id': coco_json.whole_number(entry, 'category_id'),
            'iscrowd': coco_json.flag(entry, 'iscrowd'),
            'score': coco_json.number(entry, 'score', 1.0)}
