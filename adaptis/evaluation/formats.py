"""Results in the formats of the data sets' own servers and scripts, written image by image.

``coco``
    ``panoptic.json`` with ``panoptic/<image>.png`` (COCO panoptic format; the PNG has the folders
    of the image) and ``instances.json`` (COCO detection results).
``cityscapes``
    for the three tasks of the benchmark (``cityscapesscripts``); names start with
    ``<city>_<sequence>_<frame>``, by which the scripts find the files, and labels are label ids:

    * ``panoptic.json`` with ``panoptic/<id>_panoptic.png``; the image id is ``<id>``;
    * ``semantic/<id>_labelIds.png``, label 0 where nothing was found;
    * ``instances/<id>.txt``, a line ``masks/<id>_<k>.png label confidence`` for each object.

    Each task needs its own folder: ``panoptic``, ``semantic`` or ``instances``.
``vistas``
    ``panoptic.json`` with ``panoptic/<stem>.png``: the COCO panoptic format with the category ids
    of Mapillary's own panoptic files; the image id is the stem of the image.

JSON files appear when everything is written, and every other file when it is complete.  A format
encodes results in any process; a single :class:`ResultsWriter` writes them.
"""
from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, TypeVar

import numpy as np

from adaptis.coco_json import ImageId
from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import (
    EncodedPanoptic,
    InstancesWriter,
    PanopticWriter,
    encode_instances,
    encode_panoptic,
)
from adaptis.evaluation.miou import semantic_map
from adaptis.evaluation.segments import segment_areas
from adaptis.files import PathLike, encode_image, write_bytes
from adaptis.names import result_names
from adaptis.types import PanopticResult, Taxonomy

# Label ids that the Cityscapes benchmark evaluates.
CITYSCAPES_STUFF = frozenset([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23])
CITYSCAPES_THINGS = frozenset([24, 25, 26, 27, 28, 31, 32, 33])
CITYSCAPES_NAME = re.compile(r'[^_]+_\d{6}_\d{6}')

COMPLETE = 'panoptic.json'
"""The file that every format writes last."""
FOLDERS = ('panoptic', 'semantic', 'instances')
"""The folders of the PNGs."""

Self = TypeVar('Self', bound='ResultsWriter')


class EncodedResult(NamedTuple):
    """The result of one image, encoded as in its files.

    Attributes
    ----------
    panoptic, png : its entry in ``panoptic.json``, and the name of its PNG; None = derived from the
        names of all images
    instances : its entries in ``instances.json``
    files : content of each other file, by its path in the folder
    """

    panoptic: EncodedPanoptic
    png: Optional[str] = None
    instances: Sequence[dict[str, Any]] = ()
    files: Mapping[str, bytes] = {}


class ResultsFormat:
    """How a format encodes the result of one image.

    Parameters
    ----------
    taxonomy : the categories of all results
    """

    def __init__(self, taxonomy: Taxonomy):
        self.taxonomy = taxonomy

    def encode(self, image_id: ImageId, file_name: str, result: PanopticResult) -> EncodedResult:
        """Encode one result.

        Parameters
        ----------
        image_id : COCO's id of the image; the other formats take it from ``file_name``
        file_name : name of the image, with or without its folder

        Raises AdaptisError if the name does not match, or an id or category is unknown.
        """
        raise NotImplementedError

    def image_id(self, image_id: ImageId, file_name: str) -> str:
        """Return the text of the image's id in this format."""
        return str(image_id)

    def check_folder(self, folder: Path) -> None:
        """Raise AdaptisError if a folder contains results, which must not be mixed.

        It is also raised if the format cannot represent the categories.
        """
        for name in (COMPLETE, *FOLDERS):
            if (folder / name).exists():
                raise AdaptisError(f'{folder} already contains results ({name}): choose another '
                                   'folder, or delete them.')


class CocoFormat(ResultsFormat):
    """The format ``coco``, see the module.

    Results of an earlier run in this format are replaced.
    """

    def encode(self, image_id: ImageId, file_name: str, result: PanopticResult) -> EncodedResult:
        """See :meth:`ResultsFormat.encode`."""
        return EncodedResult(encode_panoptic(image_id, file_name, result, self.taxonomy),
                             instances=encode_instances(image_id, result))

    def check_folder(self, folder: Path) -> None:
        """See :meth:`ResultsFormat.check_folder`."""
        ours = [(folder / name).exists() for name in (COMPLETE, 'instances.json')]
        if ours == [True, False] or (folder / 'semantic').exists():
            raise AdaptisError(f'{folder} contains results in another format: choose another '
                               'folder, or delete them.')


class CityscapesFormat(ResultsFormat):
    """The format ``cityscapes``, see the module.

    The semantic labels are those of the result's ``semantic`` map if it has one, else of its
    segments.
    """

    def encode(self, image_id: ImageId, file_name: str, result: PanopticResult) -> EncodedResult:
        """See :meth:`ResultsFormat.encode`."""
        name = self.image_id(image_id, file_name)
        panoptic = encode_panoptic(name, Path(file_name).name, result, self.taxonomy)
        semantic = f'semantic/{name}_labelIds.png'
        return EncodedResult(panoptic, f'{name}_panoptic.png', files={
            semantic: encode_image(semantic, self._labels(result, name)),
            **self._instances(name, result)})

    def image_id(self, image_id: ImageId, file_name: str) -> str:
        """See :meth:`ResultsFormat.image_id`."""
        found = CITYSCAPES_NAME.match(Path(file_name).name)
        if found is None:
            raise AdaptisError(f'{file_name} is not named like an image of Cityscapes, which is '
                               '<city>_<sequence>_<frame>... with six digits each: rename it, or '
                               'write the results as coco.')
        return found.group()

    def check_folder(self, folder: Path) -> None:
        """See :meth:`ResultsFormat.check_folder`."""
        super().check_folder(folder)
        for category in self.taxonomy.categories:
            if category.id not in (CITYSCAPES_THINGS if category.isthing else CITYSCAPES_STUFF):
                kind = 'thing' if category.isthing else 'stuff'
                raise AdaptisError(f'Category {category.id} ({category.name}, {kind}) is not a '
                                   'label that Cityscapes evaluates: write these results as coco.')

    def _labels(self, result: PanopticResult, name: str) -> np.ndarray:
        """Return label ids, uint8 (H, W); 0 is Cityscapes' "unlabeled"."""
        classes = result.semantic
        if classes is None:
            classes = semantic_map(result, self.taxonomy)
        if classes.shape != result.segment_map.shape:
            raise AdaptisError(f'{name}: the semantic map and the segments have different sizes.')
        labels = np.array([0] + [c.id for c in self.taxonomy.categories], dtype=np.uint8)
        return labels[classes + 1]

    def _instances(self, name: str, result: PanopticResult) -> dict[str, bytes]:
        """Return the masks of the things, followed by the file that lists them."""
        areas = segment_areas(result.segment_map, [s.id for s in result.segments], name)
        files, lines = {}, []
        for number, thing in enumerate(s for s in result.things if areas[s.id]):
            mask = f'masks/{name}_{number}.png'
            files[f'instances/{mask}'] = encode_image(
                mask, np.where(result.segment_map == thing.id, 255, 0).astype(np.uint8))
            lines.append(f'{mask} {thing.category_id} {float(thing.score)!r}\n')
        files[f'instances/{name}.txt'] = ''.join(lines).encode('ascii')
        return files


class VistasFormat(ResultsFormat):
    """The format ``vistas``, see the module."""

    def encode(self, image_id: ImageId, file_name: str, result: PanopticResult) -> EncodedResult:
        """See :meth:`ResultsFormat.encode`."""
        name = Path(file_name)
        return EncodedResult(encode_panoptic(name.stem, name.name, result, self.taxonomy),
                             f'{name.stem}.png')

    def image_id(self, image_id: ImageId, file_name: str) -> str:
        """See :meth:`ResultsFormat.image_id`."""
        return Path(file_name).stem


class ResultsWriter:
    """Writes the results of one run into one folder; a context manager.

    Parameters
    ----------
    folder : created if needed
    format : one of the ``FORMATS``
    taxonomy : the categories of all results

    Raises
    ------
    AdaptisError
        If the folder contains other results, or the format cannot represent these categories.
    """

    def __init__(self, folder: PathLike, format: str, taxonomy: Taxonomy):
        self.folder, self.taxonomy = Path(folder), taxonomy
        self.format = get_format(format, taxonomy)
        self.format.check_folder(self.folder)
        self._pngs: dict[ImageId, str] = {}
        with contextlib.ExitStack() as stack:
            self._panoptic = stack.enter_context(PanopticWriter(
                self.folder / COMPLETE, self.folder / 'panoptic', taxonomy))
            self._instances = None
            if isinstance(self.format, CocoFormat):
                self._instances = stack.enter_context(
                    InstancesWriter(self.folder / 'instances.json'))
            self._stack = stack.pop_all()

    def add(self, image_id: ImageId, file_name: str, result: PanopticResult) -> None:
        """Write one result; the arguments are those of :meth:`ResultsFormat.encode`.

        Raises AdaptisError as that method does, if an image is added twice, or if the disk is full.
        """
        self.write(self.format.encode(image_id, file_name, result))

    def write(self, encoded: EncodedResult) -> None:
        """Write one result that the format has encoded; see :meth:`add`."""
        self._panoptic.write(encoded.panoptic,
                             encoded.png or self._pngs.get(encoded.panoptic.image_id))
        for path, content in encoded.files.items():
            write_bytes(self.folder / path, content)
        if self._instances is not None:
            self._instances.write(encoded.instances)

    def plan(self, images: Sequence[tuple[ImageId, str]]) -> None:
        """Register the ids and file names of all images before the first one is computed.

        The names of the PNGs then do not depend on the order of the images.
        Raises AdaptisError if the format cannot distinguish two of them.
        """
        seen: dict[str, str] = {}
        for image_id, file_name in images:
            key = self.format.image_id(image_id, file_name)
            if key in seen:
                raise AdaptisError(f'{seen[key]} and {file_name} would have the same id "{key}" in '
                                   'the results: rename one, or save them as coco.')
            seen[key] = file_name
        names = result_names([name for _, name in images])
        self._pngs = {i: f'{name}.png' for (i, _), name in zip(images, names)}

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)


_FORMATS = {'coco': CocoFormat, 'cityscapes': CityscapesFormat, 'vistas': VistasFormat}
FORMATS = tuple(_FORMATS)


def get_format(name: str, taxonomy: Taxonomy) -> ResultsFormat:
    """Return one of the ``FORMATS``; AdaptisError for another name."""
    if name not in _FORMATS:
        raise AdaptisError(f'There is no format "{name}": choose from {", ".join(FORMATS)}.')
    return _FORMATS[name](taxonomy)


def open_writer(format: str, folder: PathLike, taxonomy: Taxonomy) -> ResultsWriter:
    """Return a writer of one of the ``FORMATS``; AdaptisError as for :class:`ResultsWriter`."""
    return ResultsWriter(folder, format, taxonomy)
