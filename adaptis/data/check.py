"""Find broken or unpaired files of a data set before training does."""
from __future__ import annotations

import warnings
from typing import NamedTuple, Optional

import numpy as np

from adaptis.data.reader import Reader
from adaptis.errors import AdaptisError, DataWarning
from adaptis.files import read_header

QUICK_SAMPLES = 1000


class Count(NamedTuple):
    """How many files a check looked at."""

    images: int
    annotations: int


def quick_check(dataset: Reader) -> None:
    """Look for a mistake in a few seconds, whatever the size of the data set.

    Opening the data set has already checked that every file exists and has its counterpart.  This
    compares the headers of ``QUICK_SAMPLES`` samples that are evenly spread.

    Raises AdaptisError naming the file.
    """
    problem = next(iter(dataset.problems), None)
    spread = np.linspace(0, len(dataset) - 1, min(len(dataset), QUICK_SAMPLES)).astype(int)
    for index in spread.tolist():
        problem = problem or find_header_problem(dataset, index)
    if problem:
        raise AdaptisError(f'{problem[:-1]} (adaptis check-data looks at all files).')


def count_files(dataset: Reader) -> Count:
    """Return how many images and annotations a data set has."""
    return Count(len(dataset), len(dataset.annotations.names) if dataset.annotations else 0)


def find_problem(dataset: Reader, index: int, headers_only: bool = False) -> Optional[str]:
    """Return a sentence about what is wrong with a sample, naming the file; None if it is correct.

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
    sizes = [(str(path), header.size) for path, header in zip(paths, headers)]
    if dataset.annotations:
        if pictures and headers[1].channels != dataset.annotation_channels:
            return (f'{paths[1]} should have {dataset.annotation_channels} channel(s), but it has '
                    f'{headers[1].channels}: is it another picture?')
        sizes.append(('its entry in the JSON', dataset.expected_size(index) or headers[0].size))
    return _size_problem(sizes)


def compare_categories(datasets: list[Reader]) -> Optional[str]:
    """Return a sentence if the splits of a data set have different categories, else None."""
    for first, other in zip(datasets, datasets[1:]):
        if _kinds(other) != _kinds(first):
            return (f'{first.images.folder} and {other.images.folder} do not have the same '
                    'categories in the same order, so a network cannot learn from one and be '
                    'measured on the other.')
    return None


def _kinds(dataset: Reader) -> list[tuple[int, str, bool]]:
    return [(c.id, c.name, c.isthing) for c in dataset.taxonomy.categories]   # colours may differ


def _size_problem(sizes: list[tuple[str, tuple[int, int]]]) -> Optional[str]:
    (name, size), *others = sizes
    for other_name, other in others:
        if other != size:
            return f'{name} is {size[0]}x{size[1]} but {other_name} is {other[0]}x{other[1]}.'
    return None
