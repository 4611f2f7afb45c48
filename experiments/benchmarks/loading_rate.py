"""How many training images of a recipe a core prepares per second, without the data set."""
from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from adaptis.config import StageConfig, load_config
from adaptis.data.augment import Crop, Rescale
from adaptis.data.batches import BatchSource
from adaptis.engine.memory_sizes import data_facts
from adaptis.registry import find_family
from adaptis.types import Sample, Taxonomy

ROOT = Path(__file__).resolve().parents[2]
SIZES = {'cityscapes': ((1024, 2048), '.png'), 'coco': ((480, 640), '.jpg')}
"""Data set -> (height, width) and format of its images."""
GRAIN = {'.png': 2.0, '.jpg': 9.0}
"""Deviation of the noise that gives files about the size of photographs."""
ROWS, COLUMNS = 3, 4   # of objects
IMAGES, SECONDS = 4, 4.0


@dataclass(frozen=True)
class EncodedImages(Sequence):
    """Synthetic images with 12 objects, which are decoded each time one is read."""

    taxonomy: Taxonomy
    size: tuple[int, int]
    suffix: str
    count: int = 2975
    files: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(IMAGES):
            coarse = rng.integers(0, 256, (16, 24, 3)).astype(np.float32)
            image = cv2.resize(coarse, self.size[::-1], interpolation=cv2.INTER_CUBIC)
            image += rng.normal(0, GRAIN[self.suffix], image.shape).astype(np.float32)
            self.files.append(cv2.imencode(self.suffix, image.clip(0, 255).astype(np.uint8))[1])
        self.files.append(cv2.imencode('.png', self._ids().astype(np.uint16))[1])

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        image = cv2.imdecode(self.files[index % IMAGES], cv2.IMREAD_COLOR)
        ids = cv2.imdecode(self.files[-1], cv2.IMREAD_UNCHANGED).astype(np.int32)
        stuff, things = self.taxonomy.num_stuff, self.taxonomy.num_things
        classes = {k: stuff + k % things for k in range(1, ROWS * COLUMNS + 1)}
        # Pixels without an object have the first stuff class, or none.
        semantic = np.array([0 if stuff else -1, *classes.values()], np.int32)[ids]
        return Sample(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), ids, classes, semantic,
                      name=f'image {index}')

    def _ids(self) -> np.ndarray:
        """A grid of ellipses."""
        rows, columns = (np.arange(side) * count / side
                         for side, count in zip(self.size, (ROWS, COLUMNS)))
        number = rows.astype(int)[:, None] * COLUMNS + columns.astype(int) + 1
        inside = ((rows % 1 - 0.5) ** 2)[:, None] + (columns % 1 - 0.5) ** 2 < 0.16
        return np.where(inside, number, 0)


def loading_rate(recipe: str) -> dict[str, Any]:
    """Return 'images a second' in CPU time, and the 'bytes' of an image, for the first stage."""
    config = load_config(ROOT / 'experiments' / f'{recipe}.yaml')
    taxonomy, _ = data_facts(config)
    size, suffix = SIZES[config.data.dataset]
    dataset = EncodedImages(taxonomy, size, suffix)
    name, stage = config.stages()[0]
    source = make_source(dataset, config, name, stage)
    source.batch(0)   # loads libraries
    began, images = time.process_time(), 0
    while time.process_time() - began < SECONDS:
        source.batch(1 + images // source.batch_size)
        images += source.batch_size
    return {'images a second': images / (time.process_time() - began),
            'bytes': int(np.mean([len(file) for file in dataset.files[:IMAGES]]))}


def make_source(dataset: EncodedImages, config: Any, name: str, stage: StageConfig) -> BatchSource:
    """Return the batches of a stage as in training, with two images each."""
    crop = stage.crop_size and Crop(stage.crop_size, tuple(stage.scale or (1.0, 1.0)),
                                    stage.short_side, stage.max_side)
    sides = stage.short_side if isinstance(stage.short_side, list) else [stage.short_side]
    return BatchSource(
        dataset, 2, stage.points, augmentation=config.data.augmentation, strategy=stage.sampling,
        min_object_area=stage.min_object_area, crop=crop, crop_until=10 ** 9,
        empty_crop_prob=stage.empty_crop_prob, ignore_object_prob=stage.ignore_object_prob,
        rescale=None if crop else Rescale(tuple(filter(None, sides)), stage.max_side),
        targets=_targets(config, name, stage, dataset.taxonomy))


def _targets(config: Any, name: str, stage: StageConfig, taxonomy: Taxonomy) -> Any:
    """Return the callable that makes a port's targets; AdaptIS has points instead."""
    from adaptis.runtime import mx  # loads MXNet
    family = find_family(config.model['name'])
    if family.uses_points:
        return None
    options = {**family.class_counts(taxonomy), **config.model}
    options.pop('pretrained_base', None)
    system = family.make_system(family.build(options, [mx.cpu()]), taxonomy, name, **stage.system)
    return system.targets()
