"""Segmenting and measuring the images of a data set, in one or several processes."""
from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from tqdm import tqdm

from adaptis.data.datasets import open_dataset
from adaptis.evaluation.parallel import ordered_map
from adaptis.evaluation.run import Evaluator
from adaptis.files import read_ids, read_image
from adaptis.loading import family_of, load_predictor
from adaptis.types import TOY_TAXONOMY, PanopticResult, Sample

PICTURE = 'picture'


class Source(NamedTuple):
    """Which images: a split of the data set ``dataset`` at ``root``.

    Or, with ``dataset`` = PICTURE, the one at ``root`` with its objects in the id mask ``split``.
    """

    dataset: str
    root: Path
    split: str
    annotation: str = 'panoptic'

    def open(self) -> Any:
        """The data set; AdaptisError if it is not there or not right."""
        if self.dataset == PICTURE:
            return Picture(self.root, Path(self.split))
        return open_dataset(self.dataset, self.root, self.split, annotation=self.annotation)


class Job(NamedTuple):
    """All that a process needs to segment images; small, because it travels."""

    checkpoint: Optional[Path]
    ctx: str
    settings: Any
    source: Source
    keep: bool  # whether results are wanted, or only what they measure
    backend: Optional[str] = None  # of an exported network


class Outcome(NamedTuple):
    """Of one image: what it measures, if there is ground truth; the result, if it is kept."""

    measured: Optional[Evaluator]
    result: Optional[PanopticResult]
    seconds: float


class Picture(Sequence):
    """A data set of one picture and the ids of its objects, all of the toy's one class."""

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
        """As a reader's."""
        return index

    def file_name(self, index: int) -> str:
        """As a reader's."""
        return Path(self._sample.name).name


def measure(job: Job, indices: Sequence[int], processes: int,
            writer: Optional[Any] = None) -> tuple[Evaluator, float]:
    """Segment images; what they measure, and the seconds that the network took for all.

    Parameters
    ----------
    indices : which images of ``job.source``
    processes : how many single-threaded ones share them; the result does not depend on it
    writer : is given every result, if there is one and ``job.keep``
    """
    dataset = open_source(job.source)
    evaluator = _evaluator(job.source)
    seconds = 0.0
    outcomes = ordered_map(_segment, ((job, i) for i in indices), processes)
    progress = tqdm(outcomes, total=len(indices), unit='image', disable=len(indices) < 2)
    for outcome, index in zip(progress, indices):  # in this order, so that the bar ends at 100 %
        if outcome.measured is not None:
            evaluator.merge(outcome.measured)
        if writer is not None:
            writer.add(dataset.image_id(index), dataset.file_name(index), outcome.result)
        seconds += outcome.seconds
    return evaluator, seconds


def has_truth(dataset: Any) -> bool:
    """Whether the split of an opened data set can be measured here."""
    return dataset.annotations is not None


@functools.lru_cache(maxsize=1)
def open_source(source: Source) -> Any:
    """The data set, opened once in a process."""
    return source.open()


def _segment(task: tuple[Job, int]) -> Outcome:
    """Segment and measure one image, in whatever process this is."""
    job, index = task
    dataset = open_source(job.source)
    sample = dataset[index] if has_truth(dataset) else None
    image = dataset.image(index) if sample is None else sample.image
    family, predictor = _family(job.checkpoint), _predictor(job)
    start = time.perf_counter()
    result = family.evaluation_result(predictor.set_image(image))
    seconds = time.perf_counter() - start
    measured = None
    if sample is not None:
        measured = _evaluator(job.source)
        measured.add_sample(index, sample, result)
    return Outcome(measured, result if job.keep else None, seconds)


def _evaluator(source: Source) -> Evaluator:
    return Evaluator(open_source(source).taxonomy, cityscapes=source.dataset == 'cityscapes',
                     coco=source.dataset == 'coco')


@functools.lru_cache(maxsize=1)
def _predictor(job: Job) -> Any:
    return load_predictor(job.checkpoint, job.settings, job.ctx, open_source(job.source).taxonomy,
                          job.backend)


_family = functools.lru_cache(maxsize=1)(family_of)
