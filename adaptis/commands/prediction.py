"""Segment images and encode the results, in whichever process this runs."""
from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from adaptis import viz
from adaptis.commands.inputs import Picture
from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import EncodedPanoptic, encode_instances, encode_panoptic
from adaptis.files import encode_image, read_image
from adaptis.inference.likeness import ImageStatistics
from adaptis.inference.sidecar import read_training
from adaptis.loading import load_predictor
from adaptis.progress import candidate_bar

PHOTOGRAPH = 200_000
"""With this many pixels or more, the features alone take seconds, so the bar is shown at once."""


class PredictionJob(NamedTuple):
    """Everything that a process needs to segment images; it is small because it is pickled."""

    checkpoint: Optional[Path]
    settings: Any
    ctx: str
    backend: Optional[str]
    out: Path
    format: Optional[str]   # of the files for an annotation tool
    watched: bool = False   # whether a single image has its own progress bar


class NamedPicture(NamedTuple):
    """An image and the name of its results."""

    picture: Picture
    name: str


class EncodedPrediction(NamedTuple):
    """The result of one image, encoded as in its files.

    Attributes
    ----------
    panoptic, instances : entries of the COCO files
    overlay : content of the PNG for viewing
    file : content of the file for an annotation tool, if one was chosen
    """

    panoptic: EncodedPanoptic
    instances: list[dict[str, Any]]
    overlay: bytes
    file: Optional[dict[str, Any]]


class Prediction(NamedTuple):
    """The outcome of one image.

    Attributes
    ----------
    encoded : its result; None if it could not be segmented
    failure : a sentence that says why it could not be segmented; '' = it could
    difference : how it differs from all training images, as part of a sentence
    """

    encoded: Optional[EncodedPrediction]
    failure: str = ''
    difference: Optional[str] = None


def cached_predictor(job: PredictionJob) -> Any:
    """Load the network once per process."""
    return _load(job.checkpoint, job.settings, job.ctx, job.backend)


def predict_pictures(task: tuple[PredictionJob, Sequence[NamedPicture]]) -> list[Prediction]:
    """Segment some images.

    Raises AdaptisError if the network cannot be loaded; an image that cannot be segmented is not an
    error.
    """
    job, pictures = task
    predictor = cached_predictor(job)
    return [_predict(job, predictor, *entry) for entry in pictures]


def failure_sentence(path: Path, error: AdaptisError) -> str:
    """Return the reason why an image could not be segmented, with the name of the image."""
    return str(error) if str(path) in str(error) else f'{path}: {error}'


def find_difference(job: PredictionJob, image: np.ndarray) -> Optional[str]:
    """Return how an image differs from all training images, as part of a sentence, or None."""
    statistics = _statistics(job.checkpoint)
    at_own_size = job.settings.short_side is None and job.settings.max_side is None
    return None if statistics is None else statistics.find_difference(image, at_own_size)


@functools.lru_cache(maxsize=1)
def _load(checkpoint: Optional[Path], settings: Any, ctx: str, backend: Optional[str]) -> Any:
    return load_predictor(checkpoint, settings, ctx, backend=backend)


@functools.lru_cache(maxsize=1)
def _statistics(checkpoint: Optional[Path]) -> Optional[ImageStatistics]:
    return ImageStatistics.from_sidecar(read_training(checkpoint))


def _predict(job: PredictionJob, predictor: Any, picture: Picture, name: str) -> Prediction:
    difference = None
    try:
        image = read_image(picture.path)
        difference = find_difference(job, image)
        result = _segment(predictor, image, job.watched)
    except AdaptisError as error:
        return Prediction(None, failure_sentence(picture.path, error), difference)
    taxonomy = predictor.taxonomy
    file = None
    if job.format is not None:
        from adaptis.interop import ResultFiles  # loads pycocotools, needless for exports
        file = ResultFiles(job.out, taxonomy, job.format).encode(picture.path, name, result)
    overlay = viz.overlay_panoptic(image, result, taxonomy, labels=True)
    return Prediction(EncodedPrediction(
        encode_panoptic(picture.image_id, picture.file_name, result, taxonomy),
        encode_instances(picture.image_id, result),
        encode_image(f'{name}.png', overlay), file), difference=difference)


def _segment(predictor: Any, image: np.ndarray, watched: bool) -> Any:
    """Segment an image, with a progress bar over its candidates if ``watched`` is true."""
    if not watched or not hasattr(predictor, 'mask_at'):  # detectors have no candidates
        return predictor.set_image(image).panoptic()
    with candidate_bar(at_once=image.shape[0] * image.shape[1] >= PHOTOGRAPH) as watch:
        return predictor.set_image(image).panoptic(watch=watch)
