"""COCO panoptic 2017 in its original folders, and your own data in the same format.

COCO: the images are in ``train2017``, ``val2017`` and ``test2017``; the ground truth is
``annotations/panoptic_<train|val>2017.json``, with the PNGs in a folder of the same name, there or
in the root.  The test split is the list in ``annotations/image_info_test-dev2017.json``, or all of
``test2017`` without that file.

Your own data: ``<split>/images``, ``<split>/panoptic.json`` and the PNGs in ``<split>/panoptic``.
The categories are those of the JSON.

The JSON decides which images belong to a split; other files in the folders are allowed.
"""
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from adaptis.data.coco_categories import COCO_TAXONOMY
from adaptis.data.panoptic import PanopticIndex, PanopticReader, missing_files
from adaptis.data.reader import FileList, ImageId, Reader, check_folder
from adaptis.errors import AdaptisError
from adaptis.files import PathLike, list_images, read_json
from adaptis.types import Taxonomy

TEST_IMAGES = 'image_info_test-dev2017.json'


class Layout(NamedTuple):
    """Where the files of a split are."""

    images: Path
    json: Path
    pngs: Path
    custom: bool


def open_coco(root: PathLike, split: str, annotations: bool = True, strict: bool = True) -> Reader:
    """Open COCO panoptic 2017, or data in the same format.

    Parameters
    ----------
    root : folder that contains ``train2017`` and ``annotations``, or ``train/images`` (see above)
    split : 'train', 'val', or 'test', for which COCO publishes no ground truth
    annotations : False lists only the images
    strict : raise AdaptisError if files are missing

    Raises
    ------
    AdaptisError
        If a folder or a file is missing, or a JSON is broken or has another format.
    """
    layout = find_layout(Path(root), split)
    if not annotations or (split == 'test' and not layout.json.is_file()):
        return CocoImages(layout, split, _taxonomy(Path(root)), strict)
    index = PanopticIndex(layout.json)
    taxonomy = Taxonomy(index.categories)
    class_of = {c.id: taxonomy.index(c.id) for c in index.categories}
    return PanopticReader(index, layout.images, layout.pngs, taxonomy, class_of, strict=strict)


class CocoImages(Reader):
    """The images of a split without ground truth."""

    def __init__(self, layout: Layout, split: str, taxonomy: Taxonomy, strict: bool):
        self.taxonomy = taxonomy
        check_folder(layout.images)
        self._ids = _listed_ids(layout, split)
        names = sorted(self._ids) or [p.name for p in list_images(layout.images)]
        missing = missing_files(layout.images, names)
        problems = [f'{layout.images / name}, which is among the images of the split, does not '
                    'exist.' for name in names if name in missing]
        super().__init__(FileList(layout.images, [n for n in names if n not in missing]), None,
                         problems, strict)

    def image_id(self, index: int) -> ImageId:
        """Return the id in the JSON; without one, the number in the file name, or its stem."""
        name = self.images.names[index]
        stem = Path(name).stem
        return self._ids.get(name, int(stem) if stem.isdecimal() else stem)


def find_layout(root: Path, split: str) -> Layout:
    """Return where a split is, in COCO's folders or in those of your own data."""
    if (root / split / 'images').is_dir():
        return Layout(root / split / 'images', root / split / 'panoptic.json',
                      root / split / 'panoptic', custom=True)
    name = f'panoptic_{split}2017'
    pngs = root / 'annotations' / name
    return Layout(root / f'{split}2017', root / 'annotations' / f'{name}.json',
                  root / name if (root / name).is_dir() else pngs, custom=False)


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
        raise AdaptisError(f'{path} has no list "images", each with file_name and id.') from error


def _taxonomy(root: Path) -> Taxonomy:
    """Return the categories of a split that has a JSON; COCO's if no split has one."""
    for split in ('val', 'train'):  # val is the smaller file
        layout = find_layout(root, split)
        if layout.json.is_file():
            return Taxonomy(PanopticIndex(layout.json).categories)
    return COCO_TAXONOMY
