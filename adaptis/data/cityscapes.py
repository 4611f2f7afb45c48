"""Cityscapes with fine annotations, in its original folders.

This reads ``leftImg8bit/<split>/<city>/<id>_leftImg8bit.png`` and
``gtFine/<split>/<city>/<id>_gtFine_instanceIds.png``; your own data in these folders may have JPEG
images, ``<id>_leftImg8bit.jpg``.  For each pixel, the annotation is the label of stuff, or label *
1000 + number for an object of a thing, or only the label of a thing if its objects cannot be
separated (a group, which is ignored).  So the labelIds files are not needed.  The label table and
the meaning of the ids are those of the data set's own scripts (``cityscapesscripts``).
"""
from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from adaptis.data.labels import LabelMap
from adaptis.data.reader import Reader, mask_values, pair_files, split_folder
from adaptis.errors import AdaptisError
from adaptis.files import PathLike, read_ids
from adaptis.ids import id_runs, spread_runs
from adaptis.types import Category, Sample, Taxonomy

SPLITS = {'train': 'train', 'val': 'val', 'test': 'test'}
UNANNOTATED = 'test'  # its annotation files are placeholders
IMAGE_SUFFIXES = ('_leftImg8bit.png', '_leftImg8bit.jpg', '_leftImg8bit.jpeg')
INSTANCE_SUFFIX = '_gtFine_instanceIds.png'
NUM_LABELS = 34
FIRST_OBJECT = 1000  # lower ids are labels

# In the order of the train ids, which are the class indices.
CITYSCAPES_TAXONOMY = Taxonomy([
    Category(7, 'road', False, (128, 64, 128)),
    Category(8, 'sidewalk', False, (244, 35, 232)),
    Category(11, 'building', False, (70, 70, 70)),
    Category(12, 'wall', False, (102, 102, 156)),
    Category(13, 'fence', False, (190, 153, 153)),
    Category(17, 'pole', False, (153, 153, 153)),
    Category(19, 'traffic light', False, (250, 170, 30)),
    Category(20, 'traffic sign', False, (220, 220, 0)),
    Category(21, 'vegetation', False, (107, 142, 35)),
    Category(22, 'terrain', False, (152, 251, 152)),
    Category(23, 'sky', False, (70, 130, 180)),
    Category(24, 'person', True, (220, 20, 60)),
    Category(25, 'rider', True, (255, 0, 0)),
    Category(26, 'car', True, (0, 0, 142)),
    Category(27, 'truck', True, (0, 0, 70)),
    Category(28, 'bus', True, (0, 60, 100)),
    Category(31, 'train', True, (0, 80, 100)),
    Category(32, 'motorcycle', True, (0, 0, 230)),
    Category(33, 'bicycle', True, (119, 11, 32)),
])
UNUSED_THINGS = (29, 30)  # caravan and trailer have objects, but are not training classes: void
CITYSCAPES_LABELS = LabelMap([c.id for c in CITYSCAPES_TAXONOMY.categories], NUM_LABELS, void=0)


class CityscapesDataset(Reader):
    """Cityscapes with fine annotations.

    Objects keep their ids; the id of a group is its label.  Everything that the benchmark does not
    evaluate is void.  The test split has no ground truth.

    Parameters
    ----------
    root : folder that contains ``leftImg8bit`` and ``gtFine``
    split : 'train', 'val' or 'test'
    annotations : if False, only the images are listed
    strict : raise AdaptisError if files have no counterpart

    Raises
    ------
    AdaptisError
        If a folder is missing or empty, or an image or annotation has no counterpart.
    """

    taxonomy = CITYSCAPES_TAXONOMY
    labels = CITYSCAPES_LABELS

    def __init__(self, root: PathLike, split: str, annotations: bool = True, strict: bool = True):
        folder = split_folder(split, SPLITS, 'Cityscapes')
        truth = annotations and split != UNANNOTATED
        pairs = pair_files(Path(root) / 'leftImg8bit' / folder, IMAGE_SUFFIXES,
                           Path(root) / 'gtFine' / folder if truth else None, INSTANCE_SUFFIX,
                           nested=True)
        super().__init__(*pairs, strict=strict)

    def image_id(self, index: int) -> str:
        """Return city, sequence and frame, by which the results formats name the image."""
        return Path(self.images.names[index]).stem[:-len('_leftImg8bit')]

    def _annotate(self, index: int, image: np.ndarray) -> Sample:
        path = self.annotations.path(index)
        ids = read_ids(path)
        (runs,), lengths = id_runs(ids)
        present = mask_values(runs, path)
        classes, known = _id_table()
        strange = present[~known[present]]
        if strange.size:
            raise AdaptisError(f'{path} contains the id {strange[0]}, which is neither a label '
                               f'(0..{NUM_LABELS - 1}) nor an object of a thing class.')
        objects = present[classes[present] >= self.taxonomy.num_stuff]
        keep = np.zeros_like(classes)
        keep[objects] = objects
        instances, semantic = (spread_runs(table[runs], lengths, ids.shape)
                               for table in (keep, classes))
        return Sample(image=image, instances=instances, semantic=semantic,
                      classes={int(i): int(classes[i]) for i in objects},
                      ignored=frozenset(int(i) for i in objects if i < FIRST_OBJECT),
                      name=str(self.images.path(index)))


@functools.lru_cache(maxsize=1)
def _id_table() -> tuple[np.ndarray, np.ndarray]:
    """Return the class index of each 16-bit id, int32, -1 = void, and whether the id can occur."""
    ids = np.arange(0x10000)
    labels = np.where(ids < FIRST_OBJECT, ids, ids // FIRST_OBJECT)
    things = [c.id for c in CITYSCAPES_TAXONOMY.categories if c.isthing]
    known = (ids < NUM_LABELS) | (ids >= FIRST_OBJECT) & np.isin(labels, [*things, *UNUSED_THINGS])
    classes = np.full(ids.shape, -1, np.int32)
    classes[known] = CITYSCAPES_LABELS.to_classes(labels[known])
    return classes, known
