"""Synthetic data sets in memory; picklable, so that worker processes can use them."""
from __future__ import annotations

import os
import time

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.types import Sample


class MadeUp:
    """``count`` images; image i holds i in its first channel, and one object."""

    def __init__(self, count: int, size: int = 8):
        self.count, self.size = count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        size = self.size
        image = np.zeros((size, size, 3), np.uint8)
        image[..., 0] = index
        ids = np.zeros((size, size), np.int32)
        ids[1:4, 2:6] = 3
        return Sample(image=image, instances=ids, classes={3: 1},
                      semantic=(ids > 0).astype(np.int32), name=f'image {index}')


class Unequal(MadeUp):
    """Images of different sizes."""

    def __getitem__(self, index: int) -> Sample:
        return MadeUp(1, self.size + index)[index]


class Broken(MadeUp):
    """An error that the user can mend, at one image."""

    def __getitem__(self, index: int) -> Sample:
        if index == 5:
            raise AdaptisError('image 5 is cut short.')
        return super().__getitem__(index)


class Buggy(MadeUp):
    """An error that nobody expected."""

    def __getitem__(self, index: int) -> Sample:
        raise ZeroDivisionError('one over none')


class Dying(MadeUp):
    """The process ends at once, as the kernel's out-of-memory killer ends it."""

    def __getitem__(self, index: int) -> Sample:
        if index == 5:
            os.kill(os.getpid(), 9)
        return super().__getitem__(index)


class Hanging(MadeUp):
    """A disk that never answers."""

    def __getitem__(self, index: int) -> Sample:
        time.sleep(60)
        return super().__getitem__(index)
