"""Mapillary Vistas v1.2, in its original folders.

These files below ``training``, ``validation`` and ``testing`` (which has only images) are read:

``images/<id>.jpg``
    the images;
``panoptic/panoptic_2018.json`` and ``panoptic/<id>.png``
    the ground truth in COCO's format, if it exists; only this one marks crowds;
``instances/<id>.png``
    otherwise: 256 * label + number of the object, 16 bits, where a crowd is an ordinary object.

``config.json`` lists the labels: the position is the label, ``evaluate`` says whether it is a class
or void, and ``instances`` says whether it is a thing.  Category ids are label + 1, as in the
panoptic files. The archive of version 2.0 also works, because it contains version 1.2: it has
``config_v1.2.json``, and ``v1.2/`` between the folder of a split and its annotations.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from adaptis.categories import is_color
from adaptis.data.labels import LabelMap
from adaptis.data.panoptic import PanopticIndex, PanopticReader
from adaptis.data.reader import Reader, find_keys, mask_values, pair_files, split_folder
from adaptis.errors import AdaptisError
from adaptis.files import PathLike, read_json, read_pixels
from adaptis.ids import id_runs, spread_runs
from adaptis.types import Category, Sample, Taxonomy

SPLITS = {'train': 'training', 'val': 'validation', 'test': 'testing'}
UNANNOTATED = 'test'
NEWER_CONFIG, NEWER_FOLDER = 'config_v1.2.json', 'v1.2'
PANOPTIC_JSON = 'panoptic_2018.json'
LABEL_STEP = 256  # instances: label * 256 + number


class VistasConfig(NamedTuple):
    """The content of the config; ``entries`` are its labels, unchanged."""

    path: Path
    entries: list[dict[str, Any]]
    taxonomy: Taxonomy
    labels: LabelMap
    folder: str  # between a split and its annotations


def open_vistas(root: PathLike, split: str, annotations: bool = True,
                strict: bool = True) -> Reader:
    """Open Mapillary Vistas v1.2, with the panoptic files if they exist, else with ``instances``.

    Parameters
    ----------
    root : folder that contains ``config.json`` and ``training``
    split : 'train', 'val', or 'test', which has no ground truth
    annotations : if False, only the images are listed
    strict : raise AdaptisError if files have no counterpart

    Raises
    ------
    AdaptisError
        If a folder, the config or the panoptic JSON is missing or broken, or an image or
        annotation has no counterpart.
    """
    config = read_config(Path(root))
    folder = Path(root) / split_folder(split, SPLITS, 'Mapillary Vistas')
    truth = folder / config.folder
    if not annotations or split == UNANNOTATED:
        return VistasInstances(config, folder / 'images', None, strict)
    if (truth / 'panoptic' / PANOPTIC_JSON).is_file():
        return VistasPanoptic(config, folder / 'images', truth / 'panoptic', strict)
    return VistasInstances(config, folder / 'images', truth / 'instances', strict)


def read_config(root: Path) -> VistasConfig:
    """Read the labels of a Vistas folder; AdaptisError if the config is missing or broken."""
    if not root.is_dir():
        raise AdaptisError(f'The folder {root} does not exist.')
    newer = root / NEWER_CONFIG
    path, folder = (newer, NEWER_FOLDER) if newer.is_file() else (root / 'config.json', '')
    content = read_json(path)
    entries = content.get('labels') if isinstance(content, dict) else None
    if not entries or not isinstance(entries, list) or not all(map(_is_label, entries)):
        raise AdaptisError(f'{path} does not list labels with name, readable, instances, evaluate '
                           'and color, so it is not the config of Mapillary Vistas v1.2: check '
                           'the folder of the data set.')
    taxonomy = Taxonomy([
        Category(number + 1, label['readable'], label['instances'], tuple(label['color']))
        for number, label in enumerate(entries) if label['evaluate']])
    if not taxonomy.num_things:
        raise AdaptisError(f'{path} has no label that is evaluated and has instances.')
    unused = [number for number, label in enumerate(entries) if not label['evaluate']]
    void = unused[-1] if unused else len(entries)
    labels = LabelMap([c.id - 1 for c in taxonomy.categories], max(len(entries), void + 1), void)
    return VistasConfig(path, entries, taxonomy, labels, folder)


class VistasPanoptic(PanopticReader):
    """Vistas with its panoptic files as ground truth, which mark crowds."""

    def __init__(self, config: VistasConfig, images: Path, folder: Path, strict: bool):
        index = PanopticIndex(folder / PANOPTIC_JSON)
        unlisted = find_keys(images, '.jpg') - {Path(name).stem for name in index.file_names}
        super().__init__(
            index, images, folder, config.taxonomy, _class_of(index, config), strict=strict,
            problems=[f'{images / stem}.jpg has no annotation in {index.json_path}.'
                      for stem in sorted(unlisted)])
        self.labels = config.labels

    def image_id(self, index: int) -> str:
        """Return the stem of the file."""
        return Path(self.images.names[index]).stem


class VistasInstances(Reader):
    """Vistas with the PNGs in ``instances`` as ground truth, or without ground truth.

    The id of an object is the value in the PNG plus 1, because object 0 of label 0 has the value 0.
    """

    def __init__(self, config: VistasConfig, images: Path, instances: Optional[Path],
                 strict: bool):
        self.taxonomy, self.labels = config.taxonomy, config.labels
        super().__init__(*pair_files(images, '.jpg', instances, '.png'), strict=strict)

    def image_id(self, index: int) -> str:
        """Return the stem of the file."""
        return Path(self.images.names[index]).stem

    def _annotate(self, index: int, image: np.ndarray) -> Sample:
        path = self.annotations.path(index)
        values = read_pixels(path)
        if values.dtype != np.uint16 or values.ndim != 2:
            raise AdaptisError(f'{path} does not have one channel of 16 bits, but instances of '
                               'Vistas are stored as 256 times their label plus their number.')
        (runs,), lengths = id_runs(values)
        present = mask_values(runs, path)
        classes = np.full(int(present[-1]) + 1, -1, np.int32)
        classes[present] = self.labels.to_classes(present // LABEL_STEP, f'{path}, divided by '
                                                  f'{LABEL_STEP},')
        objects = present[classes[present] >= self.taxonomy.num_stuff]
        ids = np.zeros_like(classes)
        ids[objects] = objects + 1
        instances, semantic = (spread_runs(table[runs], lengths, values.shape)
                               for table in (ids, classes))
        return Sample(image=image, instances=instances, semantic=semantic,
                      classes={int(i) + 1: int(classes[i]) for i in objects},
                      name=str(self.images.path(index)))


def _is_label(entry: Any) -> bool:
    kinds = {'name': str, 'readable': str, 'instances': bool, 'evaluate': bool, 'color': list}
    return isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in
                                           kinds.items()) and is_color(entry['color'])


def _class_of(index: PanopticIndex, config: VistasConfig) -> dict[int, int]:
    """Return category id of the panoptic JSON -> class index; the config defines which are void."""
    by_name = {name: number for number, label in enumerate(config.entries)
               for name in (label['readable'], label['name'])}
    classes = {}
    for category in index.categories:
        if by_name.get(category.name) != category.id - 1:
            raise AdaptisError(f'{index.json_path} has the category {category.id} '
                               f'"{category.name}", but {config.path} has another label at that '
                               'position.')
        if config.entries[category.id - 1]['evaluate']:
            classes[category.id] = config.taxonomy.index(category.id)
    return classes
