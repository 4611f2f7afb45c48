"""Join several splits of a data set, for example to train on train and val."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from adaptis.data.check import compare_categories
from adaptis.data.reader import FileList, ImageId, Reader
from adaptis.errors import AdaptisError
from adaptis.files import PathLike
from adaptis.types import Sample


class JoinedReader(Reader):
    """The samples of several readers, one after another.

    Parameters
    ----------
    root : the folder that contains the files of all of them
    parts : at least one

    Raises AdaptisError if their categories differ, or only some have ground truth.
    """

    def __init__(self, root: PathLike, parts: Sequence[Reader]):
        annotated = [part.annotations is not None for part in parts]
        if any(annotated) and not all(annotated):
            raise AdaptisError(f'{parts[annotated.index(False)].images.folder} has no ground '
                               'truth, so it cannot be joined with a split that has ground truth.')
        difference = compare_categories(list(parts))
        if difference:
            raise AdaptisError(difference)
        self._parts = list(parts)
        self._first = np.cumsum([0, *map(len, parts)])
        self.taxonomy, self.labels = parts[0].taxonomy, parts[0].labels
        self.annotation_channels = parts[0].annotation_channels
        super().__init__(_join(Path(root), [part.images for part in parts]),
                         _join(Path(root), [part.annotations for part in parts])
                         if all(annotated) else None,
                         [problem for part in parts for problem in part.problems], strict=False)

    def image_id(self, index: int) -> ImageId:
        """Return the id of the image in its own split."""
        part, index = self._find(index)
        return part.image_id(index)

    def file_name(self, index: int) -> str:
        """Return the image's file in its own split."""
        part, index = self._find(index)
        return part.file_name(index)

    def expected_size(self, index: int) -> Optional[tuple[int, int]]:
        """Return the height and width from the annotation; None if it has none."""
        part, index = self._find(index)
        return part.expected_size(index)

    def _annotate(self, index: int, image: np.ndarray) -> Sample:
        part, index = self._find(index)
        return part._annotate(index, image)

    def _find(self, index: int) -> tuple[Reader, int]:
        """Return the reader of a sample, and the index of the sample in it."""
        index = range(len(self))[index]
        number = int(np.searchsorted(self._first, index, side='right')) - 1
        return self._parts[number], index - int(self._first[number])


def _join(root: Path, parts: Sequence[FileList]) -> FileList:
    return FileList(root, [part.path(index).relative_to(root).as_posix()
                           for part in parts for index in range(len(part.names))])
