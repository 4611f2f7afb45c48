"""Training batches of a data set; each is a pure function of (seed, step)."""
from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Optional, Union

import numpy as np

from adaptis.data.augment import (
    Augmentation,
    Crop,
    RandomScale,
    Rescale,
    build_augmentation,
    check_augmentation,
    random_crop,
)
from adaptis.data.points import check_strategy, eligible_objects, sample_points
from adaptis.data.resize import ResizedSample, resize_lazily, resize_sample
from adaptis.errors import AdaptisError
from adaptis.types import Sample

Batch = dict[str, np.ndarray]
TRIES = 10  # maximum number of random crops until one contains an object


@dataclass(frozen=True)
class BatchSource:
    """Computes any batch of a training run, in any process and at any time.

    No state is kept between batches: the order of an epoch follows from (seed, epoch), and the
    augmentation and the points of an image from (seed, epoch, index).  So batches do not depend on
    the number of workers, and a run can resume at any step.  The last partial batch of an epoch is
    dropped, and each epoch is shuffled anew.

    Attributes
    ----------
    dataset : has ``len`` and returns a ``Sample`` for an index; picklable
    batch_size : number of images per process in a batch
    points : points per image; None with ``targets``
    seed : a sequence of non-negative integers
    augmentation : see ``build_augmentation``
    strategy, min_object_area, ignore_object_prob, background_prob : see ``sample_points``
    crop, crop_until : steps before ``crop_until`` use random crops of the images
    empty_crop_prob : probability of keeping a crop without an eligible object; otherwise another
        one is drawn, at most ``TRIES`` in total
    rank, world_size : number of this process, and how many processes share every batch
    shuffle : False keeps the images in their order
    rescale : changes the size, after augmentation and crop
    epoch_images : number of images in an epoch, drawn with replacement; None = every image once
    targets : makes a batch from augmented samples and their random generators, instead of points;
        picklable.  With ``rescale`` the samples are ``ResizedSample``
    ahead : step s uses the data of step s + ``ahead`` in a run whose batches had this size from the
        beginning; see ``resumed``

    Raises AdaptisError for unknown names, or if a batch needs more images than available.
    """

    dataset: Sequence[Sample]
    batch_size: int
    points: Optional[int]
    seed: Sequence[int] = (0,)
    augmentation: Union[str, Mapping[str, Any]] = 'none'
    strategy: str = 'objects'
    min_object_area: int = 1
    rank: int = 0
    world_size: int = 1
    shuffle: bool = True
    crop: Optional[Crop] = None
    crop_until: int = 0
    empty_crop_prob: float = 1.0
    ignore_object_prob: float = 0.0
    background_prob: float = 0.0
    rescale: Union[Rescale, RandomScale, None] = None
    epoch_images: Optional[int] = None
    targets: Optional[Callable[[Sequence[Sample], Sequence[Any]], Batch]] = None
    ahead: int = 0
    _cache: dict = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_augmentation(self.augmentation, self.crop)
        check_strategy(self.strategy)
        if len(self) == 0:
            raise AdaptisError(
                f'A batch of {self.batch_size * self.world_size} images cannot be taken from '
                f'{self._images} images: lower batch_size or use more images.')

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return self._images // (self.batch_size * self.world_size)

    @property
    def _images(self) -> int:
        """The number of images in an epoch."""
        return self.epoch_images or len(self.dataset)

    def batch(self, step: int) -> Batch:
        """Return the arrays of one step: those of ``targets``, or by default

        image uint8 (B, 3, H, W); points float32 (B, N, 2); instances int8 (B*N, 1, H, W) in
        {1, 0, -1 = ignore}; semantic int16 (B, H, W), -1 = ignore.

        Raises AdaptisError for broken files or images of different sizes.
        """
        epoch, position = divmod(step + self.ahead, len(self))
        first = (position * self.world_size + self.rank) * self.batch_size
        chosen = self._order(epoch)[first:first + self.batch_size]
        crop = self.crop if step < self.crop_until else None
        drawn = [self._draw(epoch, int(index), first + i, crop) for i, index in enumerate(chosen)]
        if self.targets is not None:
            return self.targets(*zip(*drawn))
        return _collate([self._item(sample, rng) for sample, rng in drawn])

    def progress(self, done: int) -> dict[str, int]:
        """Return how much of the data was used after ``done`` steps, for ``resumed``.

        This is the number of complete epochs, and of images in the next one.
        """
        epochs, batches = divmod(done + self.ahead, len(self))
        return {'epochs': epochs, 'images': batches * self.batch_size * self.world_size}

    def resumed(self, done: int, progress: Mapping[str, int]) -> BatchSource:
        """Return the source that continues after ``done`` steps at the same place in the data.

        If batches now have another size, that place may lie within a batch.  Then the source starts
        with that batch: some of its images are repeated, and none is skipped.
        """
        batches = (progress['epochs'] * len(self)
                   + progress['images'] // (self.batch_size * self.world_size))
        return replace(self, ahead=batches - done)

    def _order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(len(self.dataset))
        if epoch not in self._cache:
            self._cache.clear()
            rng, count = np.random.default_rng((*self.seed, epoch)), len(self.dataset)
            self._cache[epoch] = (rng.permutation(count) if self.epoch_images is None
                                  else rng.integers(count, size=self.epoch_images))
        return self._cache[epoch]

    def _draw(self, epoch: int, index: int, position: int, crop: Optional[Crop]
              ) -> tuple[Union[Sample, ResizedSample], np.random.Generator]:
        """Return an augmented sample, and its random generator for everything else."""
        # An image that is drawn twice in an epoch must be augmented differently.
        key = index if self.epoch_images is None else position
        rng = np.random.default_rng((*self.seed, epoch, key))
        sample = self._augmented(self.dataset[index], crop, rng)
        if self.rescale is None:
            return sample, rng
        size = self.rescale.draw_size(sample.image.shape[:2], rng)
        return (resize_sample if self.targets is None else resize_lazily)(sample, size), rng

    def _item(self, sample: Sample, rng: np.random.Generator) -> Batch:
        points, masks = sample_points(
            sample.instances, self.points, rng, ignored=sample.ignored,
            min_object_area=self.min_object_area, strategy=self.strategy,
            ignore_object_prob=self.ignore_object_prob, background_prob=self.background_prob)
        return {'image': sample.image.transpose(2, 0, 1), 'points': points,
                'instances': masks[:, None], 'semantic': sample.semantic.astype(np.int16),
                'name': sample.name}

    def _augmented(self, original: Sample, crop: Optional[Crop],
                   rng: np.random.Generator) -> Sample:
        augment = _augmentation(json.dumps(self.augmentation), crop)
        hopeless = set(original.classes) <= set(original.ignored)
        for _ in range(TRIES):
            sample = augment(original, int(rng.integers(1 << 62)))
            if crop is None:
                return sample
            sample = random_crop(sample, crop.size, rng)
            if self.empty_crop_prob >= 1 or hopeless or eligible_objects(
                    sample.instances, sample.ignored, self.min_object_area).any():
                return sample
            if rng.random() < self.empty_crop_prob:
                return sample
        return sample


@functools.cache
def _augmentation(text: str, crop: Optional[Crop]) -> Augmentation:
    """Return the augmentation of a name or mapping; ``text`` is its JSON, which can be hashed."""
    return build_augmentation(json.loads(text), crop)


def _collate(items: list[dict]) -> Batch:
    sizes = {item['image'].shape: item['name'] for item in items}
    if len(sizes) > 1:
        (a, name_a), (b, name_b) = list(sizes.items())[:2]
        raise AdaptisError(f'{name_a} has {a[1]}x{a[2]} pixels but {name_b} has {b[1]}x{b[2]}: all '
                           'images of a batch must have the same size.')
    batch = {key: np.stack([item[key] for item in items])
             for key in ('image', 'points', 'semantic')}
    batch['instances'] = np.concatenate([item['instances'] for item in items])
    return batch
