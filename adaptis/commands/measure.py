"""Segment and measure the images of a data set, in one or several processes."""
from __future__ import annotations

import functools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from adaptis.data.datasets import open_dataset
from adaptis.errors import AdaptisError
from adaptis.evaluation.clicks import click_image
from adaptis.evaluation.parallel import parallel_map
from adaptis.evaluation.run import Evaluator
from adaptis.files import read_ids, read_image
from adaptis.loading import family_of, load_predictor
from adaptis.progress import open_bar
from adaptis.types import TOY_TAXONOMY, PanopticResult, Sample

SINGLE_IMAGE = 'picture'


class ImageSource(NamedTuple):
    """The images to use: a split of the data set ``dataset`` at ``root``.

    If ``dataset`` is SINGLE_IMAGE, ``root`` is one image and ``split`` the id mask of its objects.
    """

    dataset: str
    root: Path
    split: str
    annotation: str = 'panoptic'

    def open(self) -> Any:
        """Open the data set; AdaptisError if it does not exist or is broken."""
        if self.dataset == SINGLE_IMAGE:
            return SingleImageDataset(self.root, Path(self.split))
        return open_dataset(self.dataset, self.root, self.split, annotation=self.annotation)


class InferenceJob(NamedTuple):
    """All that a process needs to segment images; it is pickled, so it is small."""

    checkpoint: Optional[Path]
    ctx: str
    settings: Any
    source: ImageSource
    keep: bool  # whether to return the results beside their measures
    backend: Optional[str] = None  # of an exported network
    clicks: int = 0  # clicks per object and kind of place; 0 = do not measure clicks


class ImageResult(NamedTuple):
    """The result of one image.

    Attributes
    ----------
    measured : the measures of the image, if there is ground truth
    result : the segmentation, if the job keeps it
    seconds : how long the network took
    """

    measured: Optional[Evaluator]
    result: Optional[PanopticResult]
    seconds: float


class SingleImageDataset(Sequence):
    """A data set of one image and the ids of its objects, all of the toy's one class."""

    taxonomy = TOY_TAXONOMY

    def __init__(self, image: Path, ids: Path):
        self.annotations = ids
        instances = read_ids(ids)
        self._sample = Sample(image=read_image(image), instances=instances,
                              classes={int(i): 1 for i in np.unique(instances) if i},
                              semantic=(instances > 0).astype(np.int32), name=str(image))

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        return (self._sample,)[index]

    def image_id(self, index: int) -> Union[int, str]:
        """See ``Reader.image_id``."""
        return index

    def file_name(self, index: int) -> str:
        """See ``Reader.file_name``."""
        return Path(self._sample.name).name


class Measured(NamedTuple):
    """The measures of images.

    Attributes
    ----------
    evaluator : the measures
    seconds : how long the network took
    failure : why results could not be written, if so; nothing was written after that
    """

    evaluator: Evaluator
    seconds: float
    failure: Optional[AdaptisError] = None


def evaluate_images(job: InferenceJob, indices: Sequence[int], processes: int,
                    writer: Optional[Any] = None) -> Measured:
    """Segment and measure images.

    What cannot be written does not end the measuring.

    Parameters
    ----------
    indices : which images of ``job.source``
    processes : number of single-threaded processes; the result does not depend on it
    writer : receives every result, if it is given and ``job.keep`` is true
    """
    dataset = cached_dataset(job.source)
    evaluator = _evaluator(job)
    seconds, failure = 0.0, None
    outcomes = parallel_map(_segment, ((job, i) for i in indices), processes)
    progress = open_bar(outcomes, total=len(indices), unit='image', disable=len(indices) < 2)
    for outcome, index in zip(progress, indices):  # in this order, so that the bar ends at 100 %
        if outcome.measured is not None:
            evaluator.merge(outcome.measured)
        if writer is not None and failure is None:
            try:
                writer.add(dataset.image_id(index), dataset.file_name(index), outcome.result)
            except AdaptisError as error:
                failure = error
                progress.write(f'No more results are saved: {error}', file=sys.stderr)
        seconds += outcome.seconds
    return Measured(evaluator, seconds, failure)


def has_ground_truth(dataset: Any) -> bool:
    """Return whether an opened data set has ground truth, so that it can be measured here."""
    return dataset.annotations is not None


@functools.lru_cache(maxsize=1)
def cached_dataset(source: ImageSource) -> Any:
    """Open a data set once in a process."""
    return source.open()


def _segment(task: tuple[InferenceJob, int]) -> ImageResult:
    """Segment and measure one image, in the process that this runs in."""
    job, index = task
    dataset = cached_dataset(job.source)
    sample = dataset[index] if has_ground_truth(dataset) else None
    image = dataset.image(index) if sample is None else sample.image
    family, predictor = _family(job.checkpoint), _predictor(job)
    start = time.perf_counter()
    result = family.evaluation_result(predictor.set_image(image))
    seconds = time.perf_counter() - start
    measured = None
    if sample is not None:
        measured = _evaluator(job)
        measured.add_sample(index, sample, result)
        if job.clicks:
            measured.clicks.add(index, _click(predictor, sample, job.clicks, index))
    return ImageResult(measured, result if job.keep else None, seconds)


def _click(predictor: Any, sample: Sample, count: int, index: int) -> np.ndarray:
    threshold = predictor.settings.mask_threshold

    def masks_at(points: np.ndarray) -> np.ndarray:
        return predictor.mask_at(y=points[:, 0], x=points[:, 1]).mask > threshold

    return click_image(masks_at, sample, count, np.random.default_rng(index))


def _evaluator(job: InferenceJob) -> Evaluator:
    source = job.source
    return Evaluator(cached_dataset(source).taxonomy, cityscapes=source.dataset == 'cityscapes',
                     coco=source.dataset == 'coco', clicks=bool(job.clicks))


@functools.lru_cache(maxsize=1)
def _predictor(job: InferenceJob) -> Any:
    taxonomy = cached_dataset(job.source).taxonomy
    return load_predictor(job.checkpoint, job.settings, job.ctx, taxonomy, job.backend)


_family = functools.lru_cache(maxsize=1)(family_of)
