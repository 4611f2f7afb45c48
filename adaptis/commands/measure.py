"""Segment and measure the images of a data set, in this process or in others."""
from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from adaptis.commands.workers import Workers
from adaptis.data.datasets import open_dataset
from adaptis.errors import AdaptisError
from adaptis.evaluation.clicks import click_image
from adaptis.evaluation.formats import EncodedResult, ResultsWriter, get_format
from adaptis.evaluation.run import Evaluator
from adaptis.files import read_ids, read_image
from adaptis.loading import family_of, load_predictor
from adaptis.progress import open_bar
from adaptis.types import TOY_TAXONOMY, PanopticResult, Sample

SINGLE_IMAGE = 'picture'


class ImageSource(NamedTuple):
    """The images to use: a split of the data set ``dataset`` in ``root``.

    If ``dataset`` is SINGLE_IMAGE, ``root`` is one image and ``split`` is the id mask of its
    objects.
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
    """Everything that a process needs to segment images; it is small because it is pickled."""

    checkpoint: Optional[Path]
    ctx: str
    settings: Any
    source: ImageSource
    format: Optional[str] = None  # of the predictions to return; None = return only the measures
    backend: Optional[str] = None  # of an exported network
    clicks: int = 0  # clicks per object and type of place; 0 = do not measure clicks


class ChunkResult(NamedTuple):
    """The results of some images.

    Attributes
    ----------
    measured : the measures of the images, empty without ground truth
    encoded : the segmentations if the job has a format, or the error if one cannot be encoded
    seconds : how long the network took
    """

    measured: Evaluator
    encoded: list[Union[EncodedResult, AdaptisError]]
    seconds: float


class SingleImageDataset(Sequence):
    """A data set of one image with object ids; the class of all objects is that of the toy data."""

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
    processes : how many processes computed
    failure : the error if results could not be written; nothing was written after it
    """

    evaluator: Evaluator
    seconds: float
    processes: int
    failure: Optional[AdaptisError] = None


def evaluate_images(job: InferenceJob, indices: Sequence[int], workers: Workers,
                    writer: Optional[ResultsWriter] = None) -> Measured:
    """Segment and measure images.

    If results cannot be written, the measuring continues without them.

    Parameters
    ----------
    indices : indices of images in ``job.source``
    workers : who computes; the result does not depend on this
    writer : receives every result in the format of the job
    """
    dataset = cached_dataset(job.source)
    evaluator = _evaluator(job)
    seconds, failure = 0.0, None
    chunks = [(job, chunk) for chunk in workers.chunks(indices)]

    def names(chunk: tuple[InferenceJob, Sequence[int]]) -> str:
        return ', '.join(dataset.file_name(index) for index in chunk[1])

    with contextlib.closing(workers.map(_segment, chunks, names)) as outcomes, \
            open_bar(total=len(indices), unit='image', disable=len(indices) < 2) as progress:
        for (_, chunk), outcome in zip(chunks, outcomes):
            evaluator.merge(outcome.measured)
            if writer is not None and failure is None:
                try:
                    _write(outcome.encoded, writer)
                except AdaptisError as error:
                    failure = error
                    progress.write(f'Results are no longer saved: {error}', file=sys.stderr)
            seconds += outcome.seconds
            progress.update(len(chunk))
    return Measured(evaluator, seconds, workers.count, failure)


def _write(encoded: Sequence[Union[EncodedResult, AdaptisError]], writer: ResultsWriter) -> None:
    for result in encoded:
        if isinstance(result, AdaptisError):
            raise result
        writer.write(result)


def has_ground_truth(dataset: Any) -> bool:
    """Return whether an opened data set has ground truth, so that it can be measured here."""
    return dataset.annotations is not None


@functools.lru_cache(maxsize=1)
def cached_dataset(source: ImageSource) -> Any:
    """Open a data set once per process."""
    return source.open()


def _segment(task: tuple[InferenceJob, Sequence[int]]) -> ChunkResult:
    """Segment and measure some images in the current process."""
    job, indices = task
    measured = _evaluator(job)
    encoded: list[Union[EncodedResult, AdaptisError]] = []
    seconds = 0.0
    for index in indices:
        result, took = _segment_image(job, index, measured)
        seconds += took
        if job.format is not None:
            encoded.append(_encode(job, index, result))
    return ChunkResult(measured, encoded, seconds)


def _segment_image(job: InferenceJob, index: int,
                   measured: Evaluator) -> tuple[PanopticResult, float]:
    """Add one image to the measures; return its result, and how long the network took."""
    dataset = cached_dataset(job.source)
    sample = dataset[index] if has_ground_truth(dataset) else None
    image = dataset.image(index) if sample is None else sample.image
    family, predictor = _family(job.checkpoint), _predictor(job)
    start = time.perf_counter()
    result = family.evaluation_result(predictor.set_image(image))
    seconds = time.perf_counter() - start
    if sample is not None:
        measured.add_sample(index, sample, result)
        if job.clicks:
            measured.clicks.add(index, _click(predictor, sample, job.clicks, index))
    return result, seconds


def _encode(job: InferenceJob, index: int,
            result: PanopticResult) -> Union[EncodedResult, AdaptisError]:
    dataset = cached_dataset(job.source)
    try:
        return get_format(job.format, dataset.taxonomy).encode(
            dataset.image_id(index), dataset.file_name(index), result)
    except AdaptisError as error:   # the measuring continues
        return error


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
