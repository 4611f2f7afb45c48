"""Finding files of a data set that are broken or do not belong together, before training does."""
from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np

from adaptis.data.reader import Reader
from adaptis.errors import AdaptisError
from adaptis.files import read_header

QUICK_SAMPLES = 1000


class Count(NamedTuple):
    """How many files a check looked at."""

    images: int
    annotations: int


def quick(dataset: Reader) -> None:
    """Look for the first mistake in seconds, whatever the size of the data set.

    Every file must exist and have its counterpart (that is known since the data set was opened);
    of ``QUICK_SAMPLES`` samples, evenly spread, the headers must fit each other.

    Raises AdaptisError naming the file.
    """
    complaint = next(iter(dataset.problems), None)
    spread = np.linspace(0, len(dataset) - 1, min(len(dataset), QUICK_SAMPLES)).astype(int)
    for index in spread.tolist():
        complaint = complaint or header_problem(dataset, index)
    if complaint:
        raise AdaptisError(f'{complaint[:-1]} (adaptis check-data looks at all files).')


def count_files(dataset: Reader) -> Count:
    """The files of a data set."""
    return Count(len(dataset), len(dataset.annotations.names) if dataset.annotations else 0)


def problem(dataset: Reader, index: int, headers_only: bool = False) -> Optional[str]:
    """What is wrong with a sample, as a sentence that names the file; None if it is right.

    The whole of its files is decoded and all ids are compared, or only the headers are read.
    """
    if headers_only:
        return header_problem(dataset, index)
    try:
        if dataset.annotations is None:
            dataset.image(index)
        else:
            dataset[index]
    except AdaptisError as error:
        return str(error)
    return None


def header_problem(dataset: Reader, index: int) -> Optional[str]:
    """Like :func:`problem`, without decoding: existence, kind of file, sizes, channels."""
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
            return (f'{paths[1]} is another kind of picture: it should have '
                    f'{dataset.annotation_channels} channel(s), but it has {headers[1].channels}.')
        sizes.append(('its entry in the JSON', dataset.expected_size(index) or headers[0].size))
    return _size_problem(sizes)


def compare_categories(datasets: list[Reader]) -> Optional[str]:
    """A sentence if the splits of a data set do not share their categories."""
    for first, other in zip(datasets, datasets[1:]):
        if other.taxonomy.categories != first.taxonomy.categories:
            return (f'{first.images.folder} and {other.images.folder} do not have the same '
                    'categories in the same order, so a network cannot learn from one and be '
                    'measured on the other.')
    return None


def _size_problem(sizes: list[tuple[str, tuple[int, int]]]) -> Optional[str]:
    (name, size), *others = sizes
    for other_name, other in others:
        if other != size:
            return f'{name} is {size[0]}x{size[1]} but {other_name} is {other[0]}x{other[1]}.'
    return None
