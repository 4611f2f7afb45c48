"""COCO instances JSON, which CVAT, Roboflow, Label Studio and most other tools export."""
from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Optional

from adaptis.data.instances import InstanceIndex
from adaptis.data.sources.base import LabelledImage, LabelledObject, Source, size_of
from adaptis.errors import AdaptisError
from adaptis.types import Taxonomy


class CocoSource(Source):
    """The objects of an instances JSON.

    Parameters
    ----------
    path : the JSON
    images : the folder of the images; by default the folder of the JSON, or a folder ``images``
        beside or above it, whichever contains them
    split : the split of the file, if known

    Raises AdaptisError if the file has another format, or the images are not found.
    """

    def __init__(self, path: Path, images: Optional[Path] = None, split: Optional[str] = None):
        self._path, self.split = path, split
        self._index = InstanceIndex(path)
        self._taxonomy = Taxonomy(self._index.categories)
        self.labels = [c.name for c in self._index.categories]
        twice = {name for name in self.labels if self.labels.count(name) > 1}
        if twice:
            raise AdaptisError(f'{path} has two categories called {sorted(twice)[0]}: rename one '
                               'of them.')
        listed = list(self._index.images.values())
        self._folder = images or _find_folder(path, [image.file_name for image in listed])
        self._images = [i for i in listed if (self._folder / i.file_name).is_file()]
        self.problems = [
            *self._index.problems,
            *(f'{path} lists {self._folder / image.file_name}, which does not exist.'
              for image in listed if not (self._folder / image.file_name).is_file())]
        if not self._images:
            raise AdaptisError(f'None of the images in {path} was found in {self._folder}: give '
                               'their folder with --images.')

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> LabelledImage:
        """See :class:`Source`."""
        image = self._images[index]
        path = self._folder / image.file_name
        size = size_of(path, image.size, self._path)
        objects = self._index.objects(image.id, self._taxonomy)
        names = [self._taxonomy.categories[k].name for k in objects.classes]
        return LabelledImage(path, _safe_name(image.file_name), size, [
            LabelledObject(name, (objects.layers == k + 1).any(axis=0), bool(crowd))
            for k, (name, crowd) in enumerate(zip(names, objects.crowd))])


def is_coco_instances(content: object) -> bool:
    """Return whether the content of a JSON file is COCO instances rather than panoptic."""
    return (isinstance(content, dict) and isinstance(content.get('images'), list)
            and isinstance(content.get('annotations'), list)
            and not any(isinstance(a, dict) and 'segments_info' in a
                        for a in content['annotations'][:1]))


def _find_folder(path: Path, names: list[str]) -> Path:
    above = path.parent
    words = path.stem.replace('instances_', '').replace('_annotations', '').strip('_')
    for folder in (above, above / 'images', above / 'images' / words, above / words,
                   above.parent / 'images' / words, above.parent / words,
                   above.parent / 'images', above.parent):
        if any((folder / name).is_file() for name in names[:50]):
            return folder
    return above / 'images'


def _safe_name(name: str) -> str:
    """Return a file name without parts that lead out of a folder."""
    return '/'.join(part for part in PurePosixPath(name.replace('\\', '/')).parts
                    if part not in ('/', '..', '.'))
