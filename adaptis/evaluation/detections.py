"""Detections after their matching: what remains of an image until average precision is asked for.

A detection was right at some of the thresholds, excused at others (it lies on something that is
neither right nor wrong) and wrong at the rest.  Nothing else about it, nor about the true objects
but their number, enters a precision-recall curve.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from adaptis.errors import AdaptisError

RECORD = np.dtype([('score', '<f8'), ('category', '<i8'), ('right', '<u2'), ('excused', '<u2')])
"""20 bytes; bit k of ``right`` and ``excused`` is threshold k."""


class Detections:
    """Judged detections of many images, 20 bytes each, about 60 more for an image.

    ``objects`` counts the true objects of each category that can be found; a category whose
    objects are all crowds has 0.
    """

    def __init__(self) -> None:
        self.objects: Counter[int] = Counter()
        self._records = bytearray()
        self._images: dict[int, int] = {}  # how many records of which image, in their order

    def __iter__(self) -> Iterator[int]:
        """The ids of the images."""
        return iter(self._images)

    def add(self, image_id: int, records: np.ndarray, categories: Iterable[int],
            countable: Iterable[bool]) -> None:
        """Keep an image's detections, best scores first, and count its true objects.

        Parameters
        ----------
        records : RECORD (P,)
        categories : of the true objects
        countable : which of them can be found; crowds cannot
        """
        self.refuse({image_id})
        self._images[image_id] = len(records)
        self._records.extend(records.tobytes())
        for category, counts in zip(categories, countable):
            self.objects[category] += int(counts)

    def merge(self, other: Detections) -> None:
        """Add the images of ``other``, which must be others than these."""
        self.refuse(other)
        self._images.update(other._images)
        self._records.extend(other._records)
        self.objects.update(other.objects)

    def refuse(self, images: Iterable[int]) -> None:
        """AdaptisError if one of the images is here already."""
        twice = self._images.keys() & set(images)
        if twice:
            raise AdaptisError(f'Image {min(twice)} is counted twice.')

    def sorted(self) -> np.ndarray:
        """All detections, RECORD (N,), by image: the same however the parts came together."""
        records = np.frombuffer(self._records, dtype=RECORD)
        images = np.repeat(np.fromiter(self._images, np.int64), list(self._images.values()))
        return records[np.argsort(images, kind='stable')]

    def state(self) -> dict[str, np.ndarray]:
        """Everything as arrays, for a file."""
        return {'records': np.frombuffer(self._records, dtype=RECORD).copy(),
                'images': np.array(list(self._images.items()), np.int64).reshape(-1, 2),
                'objects': np.array(list(self.objects.items()), np.int64).reshape(-1, 2)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what :meth:`state` gave; ValueError if it contradicts itself."""
        self._records = bytearray(state['records'].astype(RECORD, casting='no').tobytes())
        self._images = dict(state['images'].tolist())
        self.objects = Counter(dict(state['objects'].tolist()))
        if sum(self._images.values()) != len(state['records']):
            raise ValueError('the images have other detections than are listed')


def unpack(bits: np.ndarray, count: int) -> np.ndarray:
    """Bits of the thresholds, (N,) -> bool (count, N)."""
    return (bits >> np.arange(count, dtype=bits.dtype)[:, None] & 1).astype(bool)


def pack(flags: np.ndarray) -> np.ndarray:
    """Inverse of :func:`unpack`: bool (thresholds, N) -> uint16 (N,)."""
    weights = (1 << np.arange(len(flags))).astype(np.uint16)
    return (flags * weights[:, None]).sum(axis=0, dtype=np.uint16)
