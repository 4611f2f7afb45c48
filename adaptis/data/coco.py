"""COCO 2017 in its original folders, and your own data in the same formats.

COCO: the images are in ``train2017``, ``val2017`` and ``test2017``.  The panoptic annotation is
``annotations/panoptic_<train|val>2017.json``, with the PNGs in a folder of the same name, there or
in the root.  The instance annotation, whose objects may overlap, is
``annotations/instances_<train|val>2017.json``.  The test split is the list in
``annotations/image_info_test-dev2017.json``, or all of ``test2017`` without that file.

Your own data: ``<split>/images``, ``<split>/panoptic.json``, the PNGs in ``<split>/panoptic``, and
``<split>/instances.json``, or one of the other layouts in ``adaptis.data.layouts``.  The categories
come from the JSON.

The JSON defines the images of a split; other files in the folders are allowed.
"""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Optional

import numpy as np

from adaptis.data.coco_categories import COCO_TAXONOMY
from adaptis.data.instances import InstanceIndex, front
from adaptis.data.layouts import Layout, find_layout, try_layout
from adaptis.data.panoptic import PanopticIndex, PanopticReader, missing_files
from adaptis.data.reader import FileList, ImageId, Reader, check_folder, size_problem
from adaptis.errors import AdaptisError
from adaptis.files import PathLike, list_images, read_json
from adaptis.types import Sample, Taxonomy

TEST_IMAGES = 'image_info_test-dev2017.json'


def open_coco(root: PathLike, split: str, annotations: bool = True, strict: bool = True,
              annotation: str = 'panoptic') -> Reader:
    """Open COCO 2017, or data in the same format.

    Parameters
    ----------
    root : folder that contains ``train2017`` and ``annotations``, or ``train/images`` (see above)
    split : 'train', 'val', or 'test', for which COCO publishes no ground truth
    annotations : if False, only the images are listed
    strict : raise AdaptisError if files are missing
    annotation : one of ``datasets.ANNOTATIONS``

    Raises
    ------
    AdaptisError
        If a folder or a file is missing, or a JSON is broken or has another format.
    """
    layout = find_layout(Path(root), split, annotation)
    truth = layout.annotation(annotation)
    if not annotations or (split == 'test' and not truth.is_file()):
        taxonomy = _taxonomy(Path(root))
        if annotation == 'instances':
            taxonomy = Taxonomy([c for c in taxonomy.categories if c.isthing])
        return CocoImages(layout, split, taxonomy, strict)
    _refuse_other_annotation(layout, annotation, root)
    if annotation == 'instances':
        return CocoInstances(layout, strict)
    index = PanopticIndex(layout.json)
    taxonomy = Taxonomy(index.categories)
    class_of = {c.id: taxonomy.index(c.id) for c in index.categories}
    arguments = index, layout.images, layout.pngs, taxonomy, class_of
    if annotation == 'panoptic':
        return PanopticReader(*arguments, strict=strict)
    return CocoBoth(InstanceIndex(layout.instances), *arguments, strict=strict)


class CocoInstances(Reader):
    """The instance annotation: only things, which may overlap.

    ``Sample.objects`` contains all of them; ``instances`` and ``semantic`` show the smallest one at
    each pixel, and void where there is none.  Images without objects are included.
    """

    annotation_channels = 0

    def __init__(self, layout: Layout, strict: bool):
        check_folder(layout.images)
        self._index = InstanceIndex(layout.instances, COCO_TAXONOMY.categories)
        self.taxonomy = Taxonomy(self._index.categories)
        entries = sorted(self._index.images.values(), key=lambda image: image.file_name)
        missing = missing_files(layout.images, [image.file_name for image in entries])
        problems = [*self._index.problems,
                    *(f'{layout.instances} lists {layout.images / name}, which does not exist.'
                      for name in sorted(missing))]
        self._entries = [image for image in entries if image.file_name not in missing]
        names = [image.file_name for image in self._entries]
        super().__init__(FileList(layout.images, names),
                         FileList(layout.instances.parent, [layout.instances.name] * len(names)),
                         problems, strict)

    def image_id(self, index: int) -> ImageId:
        """Return the id in the JSON."""
        return self._entries[index].id

    def expected_size(self, index: int) -> Optional[tuple[int, int]]:
        """Return the height and width in the JSON."""
        return self._entries[index].size

    def _annotate(self, index: int, image: np.ndarray) -> Sample:
        entry, path = self._entries[index], self.images.path(index)
        if entry.size != image.shape[:2]:
            raise AdaptisError(size_problem(path, image.shape[:2], self._index.json_path,
                                            entry.size, 'says'))
        objects = self._index.objects(entry.id, self.taxonomy)
        instances = front(objects.layers, objects.areas)
        return Sample(image=image, instances=instances,
                      semantic=np.r_[-1, objects.classes].astype(np.int32)[instances],
                      classes=dict(enumerate(objects.classes.tolist(), start=1)),
                      ignored=frozenset((np.flatnonzero(objects.crowd) + 1).tolist()),
                      name=str(path), objects=objects)


class CocoBoth(PanopticReader):
    """The panoptic annotation together with the objects of the instance annotation."""

    def __init__(self, objects: InstanceIndex, index: PanopticIndex, *arguments: Any,
                 strict: bool):
        unlisted = [i for i in index.image_ids if objects.find_id(i) not in objects.images]
        super().__init__(index, *arguments, strict=strict, problems=[
            *objects.problems, *(f'{objects.json_path} does not list image {i}, which is in '
                                 f'{index.json_path}.' for i in unlisted)])
        things = {c.id for c in self.taxonomy.categories if c.isthing}
        unknown = [c for c in objects.categories if c.id not in things]
        if unknown:
            raise AdaptisError(f'{objects.json_path} has the category {unknown[0].name} '
                               f'({unknown[0].id}), which is not a thing in {index.json_path}.')
        self._objects = objects

    def _annotate(self, index: int, image: np.ndarray) -> Sample:
        image_id = self._objects.find_id(self.image_id(index))
        objects = self._objects.objects(image_id, self.taxonomy)
        return dataclasses.replace(super()._annotate(index, image), objects=objects)


class CocoImages(Reader):
    """The images of a split without ground truth."""

    def __init__(self, layout: Layout, split: str, taxonomy: Taxonomy, strict: bool):
        self.taxonomy = taxonomy
        check_folder(layout.images)
        self._ids = _listed_ids(layout, split)
        names = sorted(self._ids) or [p.name for p in list_images(layout.images)]
        missing = missing_files(layout.images, names)
        problems = [f'{layout.images / name}, which is listed as an image of the split, does not '
                    'exist.' for name in names if name in missing]
        super().__init__(FileList(layout.images, [n for n in names if n not in missing]), None,
                         problems, strict)

    def image_id(self, index: int) -> ImageId:
        """Return the id in the JSON; without one, the number in the file name, or its stem."""
        name = self.images.names[index]
        stem = Path(name).stem
        return self._ids.get(name, int(stem) if stem.isdecimal() else stem)


def _refuse_other_annotation(layout: Layout, annotation: str, root: PathLike) -> None:
    """Raise AdaptisError if only the other annotation exists."""
    if annotation == 'instances' and layout.json.is_file() and not layout.instances.is_file():
        raise AdaptisError(f'{layout.instances} does not exist, but {layout.json} does: choose the '
                           'annotation panoptic (with data.annotation in a config, or '
                           '--annotation).')
    if annotation != 'instances' and layout.instances.is_file() and not layout.json.is_file():
        raise AdaptisError(
            f'{layout.json} does not exist, but {layout.instances} does: choose the annotation '
            'instances (with data.annotation in a config, or --annotation), or convert it to '
            f'panoptic data with "adaptis import {root} --out DIR".')


def _listed_ids(layout: Layout, split: str) -> dict[str, ImageId]:
    """Return file name -> id of the images that a JSON lists for the split, if there is one."""
    if layout.json.is_file():
        index = PanopticIndex(layout.json)
        return dict(zip(index.file_names, index.image_ids))
    path = layout.json.with_name(TEST_IMAGES)
    if layout.custom or split != 'test' or not path.is_file():
        return {}
    content = read_json(path)
    try:
        return {str(image['file_name']): int(image['id']) for image in content['images']}
    except (KeyError, TypeError, ValueError) as error:
        raise AdaptisError(f'{path} has no list "images" of entries with file_name and '
                           'id.') from error


def _taxonomy(root: Path) -> Taxonomy:
    """Return the categories of a split that has a JSON; COCO's if no split has one."""
    for split in ('val', 'train'):  # val is the smaller file
        layout = try_layout(root, split)
        if layout is not None and layout.json.is_file():
            return Taxonomy(PanopticIndex(layout.json).categories)
    return COCO_TAXONOMY
