"""Find broken or unpaired files of a data set before training fails on them."""
from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from adaptis.data.reader import Reader, size_problem
from adaptis.errors import AdaptisError, DataWarning
from adaptis.files import id_mask_problem, read_header
from adaptis.ids import panoptic_png_problem

QUICK_SAMPLES = 1000


class Count(NamedTuple):
    """How many files were checked."""

    images: int
    annotations: int


def quick_check(dataset: Reader) -> None:
    """Look for mistakes within a few seconds, whatever the size of the data set.

    Opening the data set has already checked that every file exists and has its counterpart.  This
    compares the headers of ``QUICK_SAMPLES`` evenly spread samples.

    Raises AdaptisError naming the file.
    """
    problem = next(iter(dataset.problems), None)
    spread = np.linspace(0, len(dataset) - 1, min(len(dataset), QUICK_SAMPLES)).astype(int)
    for index in spread.tolist():
        problem = problem or find_header_problem(dataset, index)
    if problem:
        raise AdaptisError(f'{problem[:-1]} ("adaptis check-data" checks all files).')


def count_files(dataset: Reader) -> Count:
    """Return how many images and annotations a data set has."""
    return Count(len(dataset), len(dataset.annotations.names) if dataset.annotations else 0)


def find_problem(dataset: Reader, index: int, headers_only: bool = False) -> Optional[str]:
    """Return a sentence about the problem of a sample, naming the file; None if it is correct.

    The files are decoded completely and all ids are compared; with ``headers_only`` only the
    headers are read.
    """
    if headers_only:
        return find_header_problem(dataset, index)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always', DataWarning)
        try:
            if dataset.annotations is None:
                dataset.image(index)
            else:
                dataset[index]
        except AdaptisError as error:
            return str(error)
    return next((str(w.message) for w in told if issubclass(w.category, DataWarning)), None)


def find_header_problem(dataset: Reader, index: int) -> Optional[str]:
    """Like :func:`find_problem`, but without decoding: existence, type of file, sizes, channels."""
    paths = [dataset.images.path(index)]
    pictures = dataset.annotations is not None and dataset.annotation_channels > 0
    paths += [dataset.annotations.path(index)] if pictures else []
    try:
        headers = [read_header(path) for path in paths]
    except AdaptisError as error:
        return str(error)
    sizes = [(paths[0], headers[0].shown_size)]
    if pictures:
        find = panoptic_png_problem if dataset.annotation_channels == 3 else id_mask_problem
        problem = find(paths[1], headers[1].layout)
        if problem:
            return problem
        sizes.append((paths[1], headers[1].size))
    if dataset.annotations:
        sizes.append((Path('its entry in the JSON'), dataset.expected_size(index) or sizes[0][1]))
    return _find_size_problem(sizes)


def compare_categories(datasets: list[Reader]) -> Optional[str]:
    """Return a sentence if the splits of a data set have different categories, else None."""
    for first, other in zip(datasets, datasets[1:]):
        if _kinds(other) != _kinds(first):
            return (f'{first.images.folder} and {other.images.folder} do not have the same '
                    'categories in the same order, so a network cannot be trained on one and '
                    'evaluated on the other.')
    return None


def _kinds(dataset: Reader) -> list[tuple[int, str, bool]]:
    return [(c.id, c.name, c.isthing) for c in dataset.taxonomy.categories]   # colours may differ


def _find_size_problem(sizes: list[tuple[Path, tuple[int, int]]]) -> Optional[str]:
    (image, size), *others = sizes
    return next((size_problem(image, size, other, expected) for other, expected in others
                 if expected != size), None)
