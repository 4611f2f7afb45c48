"""The largest batch that a config allows, made up without its data set."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from adaptis.config import StageConfig, TrainConfig
from adaptis.data.cityscapes import CITYSCAPES_TAXONOMY
from adaptis.data.coco_categories import COCO_TAXONOMY
from adaptis.data.datasets import open_dataset
from adaptis.errors import AdaptisError
from adaptis.types import TOY_TAXONOMY, Category, Sample, Taxonomy

GRID = 8   # number of rows and of columns of objects in an image
_VISTAS = Taxonomy([Category(i, str(i), i > 28) for i in range(1, 66)])   # version 1.2
_TAXONOMIES = {'toy': TOY_TAXONOMY, 'cityscapes': CITYSCAPES_TAXONOMY, 'coco': COCO_TAXONOMY,
               'vistas': _VISTAS}
_IMAGES = {'cityscapes': (1024, 2048), 'toy': (96, 96)}
"""Height and width of the images, for data sets where all have one size."""


@dataclass(frozen=True)
class MadeUpImages(Sequence):
    """Images of one size, covered by a grid of ``GRID`` squared objects.

    ``size`` is the (height, width) of the images.
    """

    taxonomy: Taxonomy
    size: tuple[int, int]
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        height, width = self.size
        rows, columns = np.arange(height) * GRID // height, np.arange(width) * GRID // width
        instances = (rows[:, None] * GRID + columns[None] + 1).astype(np.int32)
        stuff, things = self.taxonomy.num_stuff, self.taxonomy.num_things
        classes = {k: stuff + k % max(1, things) for k in range(1, GRID ** 2 + 1)}
        table = np.array([0, *classes.values()], np.int32)
        return Sample(np.zeros((height, width, 3), np.uint8), instances, classes,
                      table[instances], name=f'image {index}')


def data_facts(config: TrainConfig) -> tuple[Taxonomy, Optional[tuple[int, int]]]:
    """Return the taxonomy of a config's data and the (height, width) of its images.

    Both come from the data set if it exists, else from known facts about the data sets; the size is
    None if the images differ or nothing is known.
    """
    name = config.data.dataset
    size = _IMAGES.get(name)
    try:
        dataset = open_dataset(name, config.data.root, config.data.split,
                               annotation=config.data.annotation)
        if name == 'toy':   # the size is the same within a toy data set, but not across them
            size = dataset[0].image.shape[:2]
        return dataset.taxonomy, size
    except AdaptisError:
        if name not in _TAXONOMIES:
            raise
    taxonomy = _TAXONOMIES[name]
    if config.data.annotation == 'instances':
        taxonomy = Taxonomy([c for c in taxonomy.categories if c.isthing])
    return taxonomy, size


def largest_size(stage: StageConfig, image: Optional[tuple[int, int]],
                 where: str) -> tuple[int, int]:
    """Return the (height, width) of the largest batch of a stage, for images of size ``image``.

    If the images of a data set differ, a batch can hold a wide one and a tall one, and all are
    padded to the larger height and width.

    Raises AdaptisError, naming the stage ``where``, if the config does not limit the size.
    """
    found = _cropped(stage) if stage.crop_size else _rescaled(stage, image)
    if stage.full_size_steps and image and image[0] * image[1] > found[0] * found[1]:
        found = image
    if not found[0]:
        raise AdaptisError(f'{where} has neither crop nor max_side, so the size of its batches '
                           'depends on the images: give --size HEIGHTxWIDTH.')
    return found


def _cropped(stage: StageConfig) -> tuple[int, int]:
    factor = max(1.0, stage.scale[1]) if stage.crop_first else 1.0
    height, width = stage.crop_size
    return round(height * factor), round(width * factor)


def _rescaled(stage: StageConfig, image: Optional[tuple[int, int]]) -> tuple[int, int]:
    sides = stage.short_side if isinstance(stage.short_side, list) else [stage.short_side]
    short = max((side for side in sides if side), default=None)
    if image is None:
        return (stage.max_side or 0,) * 2
    factor = short / min(image) if short else 1.0
    if stage.max_side:
        factor = min(factor, stage.max_side / max(image)) if short else min(
            1.0, stage.max_side / max(image))
    return round(image[0] * factor), round(image[1] * factor)


def make_batch(source: Any, images: int) -> dict[str, np.ndarray]:
    """Return a batch that repeats the image of a batch of one, without copies."""
    one = source.batch(0)
    return {key: np.broadcast_to(value, (images * len(value), *value.shape[1:]))
            if len(value) == 1 else np.concatenate([value] * images)
            for key, value in one.items()}
