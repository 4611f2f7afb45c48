"""COCO 2017 in its original folders, and data of one's own in the same formats.

COCO: images in ``train2017``, ``val2017``, ``test2017``; the panoptic annotation in
``annotations/panoptic_<train|val>2017.json`` with the folder of PNGs of the same name, there or in
the root; that of instances, which may overlap, in ``annotations/instances_<train|val>2017.json``.
The test split is what ``annotations/image_info_test-dev2017.json`` lists, or else all of
``test2017``.

One's own: ``<split>/images``, ``<split>/panoptic.json`` and the PNGs in ``<split>/panoptic``, and
``<split>/instances.json``.  Categories are those of the JSON.

The JSON decides which images belong to a split; further files in the folders do no harm.
"""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from adaptis.data.coco_categories import COCO_TAXONOMY
from adaptis.data.instances import InstanceIndex, front
from adaptis.data.panoptic import PanopticIndex, PanopticReader, missing_files
from adaptis.data.reader import Files, ImageId, Reader, need_folder
from adaptis.errors import AdaptisError
from adaptis.files import PathLike, list_images, read_json
from adaptis.types import Sample, Taxonomy

TEST_IMAGES = 'image_info_test-dev2017.json'


class Layout(NamedTuple):
    """Where the files of a split are."""

    images: Path
    json: Path
    pngs: Path
    custom: bool
    instances: Path


def open_coco(root: PathLike, split: str, annotations: bool = True, strict: bool = True,
              annotation: str = 'panoptic') -> Reader:
    """COCO 2017, or data in the same format.

    Parameters
    ----------
    root : folder that holds ``train2017`` and ``annotations``, or ``train/images`` (see above)
    split : 'train', 'val', or 'test', which has no ground truth at COCO
    annotations : False lists the images alone
    strict : raise AdaptisError if files lack
    annotation : one of ``datasets.ANNOTATIONS``

    Raises
    ------
    AdaptisError
        If a folder is missing, a JSON is missing, broken or none of the format, or files lack.
    """
    layout = find_layout(Path(root), split)
    truth = layout.instances if annotation == 'instances' else layout.json
    if not annotations or (split == 'test' and not truth.is_file()):
        taxonomy = _taxonomy(Path(root))
        if annotation == 'instances':
            taxonomy = Taxonomy([c for c in taxonomy.categories if c.isthing])
        return CocoImages(layout, split, taxonomy, strict)
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
    """The instance annotation: things alone, which may overlap.

    ``Sample.objects`` has them all; ``instances`` and ``semantic`` show the smallest one at each
    pixel, void where there is none.  Images without an object are among the samples.
    """

    annotation_channels = 0

    def __init__(self, layout: Layout, strict: bool):
        need_folder(layout.images)
        self._index = InstanceIndex(layout.instances, COCO_TAXONOMY.categories)
        self.taxonomy = Taxonomy(self._index.categories)
        entries = sorted(self._index.images.values(), key=lambda image: image.file_name)
        missing = missing_files(layout.images, [image.file_name for image in entries])
        problems = [*self._index.problems,
                    *(f'{layout.instances} lists {layout.images / name}, which does not exist.'
                      for name in sorted(missing))]
        self._entries = [image for image in entries if image.file_name not in missing]
        names = [image.file_name for image in self._entries]
        super().__init__(Files(layout.images, names),
                         Files(layout.instances.parent, [layout.instances.name] * len(names)),
                         problems, strict)

    def image_id(self, index: int) -> ImageId:
        """The id in the JSON."""
        return self._entries[index].id

    def expected_size(self, index: int) -> Optional[tuple[int, int]]:
        """Height and width in the JSON."""
        return self._entries[index].size

    def _annotate(self, index: int, image: np.ndarray) -> Sample:
        entry, path = self._entries[index], self.images.path(index)
        if entry.size != image.shape[:2]:
            raise AdaptisError(f'{path} is {image.shape[0]}x{image.shape[1]} but '
                               f'{self._index.json_path} says {entry.size[0]}x{entry.size[1]}.')
        objects = self._index.objects(entry.id, self.taxonomy)
        instances = front(objects.layers, objects.areas)
        return Sample(image=image, instances=instances,
                      semantic=np.r_[-1, objects.classes].astype(np.int32)[instances],
                      classes=dict(enumerate(objects.classes.tolist(), start=1)),
                      ignored=frozenset((np.flatnonzero(objects.crowd) + 1).tolist()),
                      name=str(path), objects=objects)


class CocoBoth(PanopticReader):
    """The panoptic annotation, and the objects of that of instances beside it."""

    def __init__(self, objects: InstanceIndex, index: PanopticIndex, *arguments: Any,
                 strict: bool):
        unlisted = [i for i in index.image_ids if i not in objects.images]
        super().__init__(index, *arguments, strict=strict, problems=[
            *objects.problems, *(f'{objects.json_path} does not list image {i}, which '
                                 f'{index.json_path} does.' for i in unlisted)])
        things = {c.id for c in self.taxonomy.categories if c.isthing}
        strangers = [c for c in objects.categories if c.id not in things]
        if strangers:
            raise AdaptisError(f'{objects.json_path} has the category {strangers[0].name} '
                               f'({strangers[0].id}), which is no thing in {index.json_path}.')
        self._objects = objects

    def _annotate(self, index: int, image: np.ndarray) -> Sample:
        objects = self._objects.objects(self.image_id(index), self.taxonomy)
        return dataclasses.replace(super()._annotate(index, image), objects=objects)


class CocoImages(Reader):
    """The images of a split without ground truth."""

    def __init__(self, layout: Layout, split: str, taxonomy: Taxonomy, strict: bool):
        self.taxonomy = taxonomy
        need_folder(layout.images)
        self._ids = _listed_ids(layout, split)
        names = sorted(self._ids) or [p.name for p in list_images(layout.images)]
        missing = missing_files(layout.images, names)
        problems = [f'{layout.images / name}, which is among the images of the split, does not '
                    'exist.' for name in names if name in missing]
        super().__init__(Files(layout.images, [n for n in names if n not in missing]), None,
                         problems, strict)

    def image_id(self, index: int) -> ImageId:
        """The id in the JSON; without one, the number that the file is named by, else its stem."""
        name = self.images.names[index]
        stem = Path(name).stem
        return self._ids.get(name, int(stem) if stem.isdecimal() else stem)


def find_layout(root: Path, split: str) -> Layout:
    """Where a split is, in COCO's folders or in one's own."""
    if (root / split / 'images').is_dir():
        return Layout(root / split / 'images', root / split / 'panoptic.json',
                      root / split / 'panoptic', custom=True,
                      instances=root / split / 'instances.json')
    name = f'panoptic_{split}2017'
    pngs = root / 'annotations' / name
    return Layout(root / f'{split}2017', root / 'annotations' / f'{name}.json',
                  root / name if (root / name).is_dir() else pngs, custom=False,
                  instances=root / 'annotations' / f'instances_{split}2017.json')


def _listed_ids(layout: Layout, split: str) -> dict[str, ImageId]:
    """File name -> id of the images that a JSON lists for the split; empty without such a file."""
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
        raise AdaptisError(f'{path} has no list "images", each with file_name and id.') from error


def _taxonomy(root: Path) -> Taxonomy:
    """The categories of the split that has a JSON; COCO's if there is none."""
    for split in ('val', 'train'):  # val is the smaller file
        layout = find_layout(root, split)
        if layout.json.is_file():
            return Taxonomy(PanopticIndex(layout.json).categories)
    return COCO_TAXONOMY
