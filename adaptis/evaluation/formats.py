"""Results in the formats of the data sets' own servers and scripts, written image by image.

``coco``
    ``panoptic.json`` with ``panoptic/<image>.png`` (COCO panoptic format; the PNG has the folders
    of the image) and ``instances.json`` (COCO detection results).
``cityscapes``
    for the three tasks of the benchmark (``cityscapesscripts``); a name starts with
    ``<city>_<sequence>_<frame>``, by which the scripts find it, and labels are label ids:

    * ``panoptic.json`` with ``panoptic/<id>_panoptic.png``; the image id is ``<id>``;
    * ``semantic/<id>_labelIds.png``, label 0 where nothing was found;
    * ``instances/<id>.txt``, a line ``masks/<id>_<k>.png label confidence`` for each object.

    Each task needs a folder of its own: ``panoptic``, ``semantic`` or ``instances``.
``vistas``
    ``panoptic.json`` with ``panoptic/<stem>.png``: the COCO panoptic format with the category ids
    of Mapillary's own panoptic files; the image id is the stem of the image.

JSON files appear when everything is written, and every other file when it is complete.
"""
from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from adaptis.coco_json import ImageId
from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import InstancesWriter, PanopticWriter
from adaptis.evaluation.miou import semantic_map
from adaptis.evaluation.segments import segment_areas
from adaptis.files import PathLike, atomic_write, write_image
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


class ResultsWriter:
    """Writes the results of one run into one folder; a context manager.

    Parameters
    ----------
    folder : created if needed
    taxonomy : the categories of all results

    Raises
    ------
    AdaptisError
        If the folder holds other results, or the format cannot hold these categories.
    """

    def __init__(self, folder: PathLike, taxonomy: Taxonomy):
        self.folder, self.taxonomy = Path(folder), taxonomy
        self._check()
        with contextlib.ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()

    def add(self, image_id: ImageId, file_name: str, result: PanopticResult) -> None:
        """Write one result.

        Parameters
        ----------
        image_id : COCO's id of the image; the other formats take it from ``file_name``
        file_name : name of the image, with or without its folder

        Raises
        ------
        AdaptisError
            If an image comes twice, its name does not match, an id or category is unknown, or the
            disk is full.
        """
        raise NotImplementedError

    def plan(self, images: Sequence[tuple[ImageId, str]]) -> None:
        """Take the id and the file name of all images before the first one is computed.

        Raises AdaptisError if the format could not tell two of them apart.
        """
        seen: dict[str, str] = {}
        for image_id, file_name in images:
            key = self._id(image_id, file_name)
            if key in seen:
                raise AdaptisError(f'{seen[key]} and {file_name} would have the same id "{key}" in '
                                   'the results: rename one, or save them as coco.')
            seen[key] = file_name

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _id(self, image_id: ImageId, file_name: str) -> str:
        """Return the text of the image's id in this format."""
        return str(image_id)

    def _open(self, stack: contextlib.ExitStack) -> None:
        """Open the files that are written as a stream."""
        self.panoptic = stack.enter_context(PanopticWriter(
            self.folder / COMPLETE, self.folder / 'panoptic', self.taxonomy))

    def _check(self) -> None:
        """Raise AdaptisError if the folder has results: a submission must not mix two runs."""
        for name in (COMPLETE, *FOLDERS):
            if (self.folder / name).exists():
                raise AdaptisError(f'{self.folder} already holds results ({name}): choose another '
                                   'folder, or delete them.')


class CocoWriter(ResultsWriter):
    """Writes the format ``coco``, see the module.

    Results of an earlier run in this format are replaced.
    """

    def add(self, image_id: ImageId, file_name: str, result: PanopticResult) -> None:
        """See :meth:`ResultsWriter.add`."""
        self.panoptic.add(image_id, file_name, result, png=self._pngs.get(image_id))
        self.instances.add(image_id, result)

    def plan(self, images: Sequence[tuple[ImageId, str]]) -> None:
        """See :meth:`ResultsWriter.plan`.  The names of PNGs no longer depend on the order."""
        super().plan(images)
        ids, names = zip(*images) if images else ((), ())
        self._pngs = {i: f'{name}.png' for i, name in zip(ids, result_names(names))}

    def _open(self, stack: contextlib.ExitStack) -> None:
        super()._open(stack)
        self._pngs: dict[ImageId, str] = {}
        self.instances = stack.enter_context(InstancesWriter(self.folder / 'instances.json'))

    def _check(self) -> None:
        ours = [(self.folder / name).exists() for name in (COMPLETE, 'instances.json')]
        if ours == [True, False] or (self.folder / 'semantic').exists():
            raise AdaptisError(f'{self.folder} holds results in another format: choose another '
                               'folder, or delete them.')


class CityscapesWriter(ResultsWriter):
    """Writes the format ``cityscapes``, see the module.

    The semantic labels are those of the result's ``semantic`` map if it has one, else of its
    segments.
    """

    def add(self, image_id: ImageId, file_name: str, result: PanopticResult) -> None:
        """See :meth:`ResultsWriter.add`."""
        name = self._id(image_id, file_name)
        self.panoptic.add(name, Path(file_name).name, result, png=f'{name}_panoptic.png')
        write_image(self.folder / 'semantic' / f'{name}_labelIds.png', self._labels(result, name))
        self._add_instances(name, result)

    def _id(self, image_id: ImageId, file_name: str) -> str:
        found = CITYSCAPES_NAME.match(Path(file_name).name)
        if found is None:
            raise AdaptisError(f'{file_name} is not named like an image of Cityscapes: '
                               '<city>_<sequence>_<frame>..., with six digits each.')
        return found.group()

    def _labels(self, result: PanopticResult, name: str) -> np.ndarray:
        """Return label ids, uint8 (H, W); 0 is Cityscapes' "unlabeled"."""
        classes = result.semantic
        if classes is None:
            classes = semantic_map(result, self.taxonomy)
        if classes.shape != result.segment_map.shape:
            raise AdaptisError(f'{name}: the semantic map and the segments have different sizes.')
        labels = np.array([0] + [c.id for c in self.taxonomy.categories], dtype=np.uint8)
        return labels[classes + 1]

    def _add_instances(self, name: str, result: PanopticResult) -> None:
        areas = segment_areas(result.segment_map, [s.id for s in result.segments], name)
        lines = []
        for number, thing in enumerate(s for s in result.things if areas[s.id]):
            mask = f'masks/{name}_{number}.png'
            write_image(self.folder / 'instances' / mask,
                        np.where(result.segment_map == thing.id, 255, 0).astype(np.uint8))
            lines.append(f'{mask} {thing.category_id} {float(thing.score)!r}\n')
        with atomic_write(self.folder / 'instances' / f'{name}.txt') as temporary:
            temporary.write_text(''.join(lines), encoding='ascii')

    def _check(self) -> None:
        super()._check()
        for category in self.taxonomy.categories:
            if category.id not in (CITYSCAPES_THINGS if category.isthing else CITYSCAPES_STUFF):
                kind = 'thing' if category.isthing else 'stuff'
                raise AdaptisError(f'Category {category.id} ({category.name}, {kind}) is not a '
                                   'label that Cityscapes evaluates: write these results as coco.')


class VistasWriter(ResultsWriter):
    """Writes the format ``vistas``, see the module."""

    def add(self, image_id: ImageId, file_name: str, result: PanopticResult) -> None:
        """See :meth:`ResultsWriter.add`."""
        name = Path(file_name)
        self.panoptic.add(self._id(image_id, file_name), name.name, result, png=f'{name.stem}.png')

    def _id(self, image_id: ImageId, file_name: str) -> str:
        return Path(file_name).stem


_WRITERS = {'coco': CocoWriter, 'cityscapes': CityscapesWriter, 'vistas': VistasWriter}
FORMATS = tuple(_WRITERS)


def open_writer(format: str, folder: PathLike, taxonomy: Taxonomy) -> ResultsWriter:
    """Return a writer of one of the ``FORMATS``; AdaptisError as for :class:`ResultsWriter`."""
    if format not in _WRITERS:
        raise AdaptisError(f'There is no format "{format}": choose from {", ".join(FORMATS)}.')
    return _WRITERS[format](folder, taxonomy)
