"""Matched detections: the contribution of an image to average precision.

A detection is right at some thresholds, excused at others (because it lies on pixels that are
ignored) and wrong at the rest.  A precision-recall curve depends on nothing else, except the number
of ground-truth objects.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from adaptis.errors import AdaptisError

DETECTION_DTYPE = np.dtype(
    [('score', '<f8'), ('category', '<i8'), ('right', '<u2'), ('excused', '<u2')])
"""One detection in 20 bytes; bit k of ``right`` and ``excused`` belongs to threshold k."""


class Detections:
    """Matched detections of many images: 20 bytes each, and about 60 more per image.

    ``objects`` is the number of ground-truth objects of each category that can be found; it is 0
    for a category with only crowds.
    """

    def __init__(self) -> None:
        self.objects: Counter[int] = Counter()
        self._records = bytearray()
        self._images: dict[int, int] = {}  # image -> number of its records, in order

    def __iter__(self) -> Iterator[int]:
        """Iterate over the ids of the images."""
        return iter(self._images)

    def add(self, image_id: int, records: np.ndarray, categories: Iterable[int],
            countable: Iterable[bool]) -> None:
        """Add the detections of an image, best scores first, and count its ground-truth objects.

        Parameters
        ----------
        records : DETECTION_DTYPE (P,)
        categories : categories of the ground-truth objects
        countable : which of them can be found, unlike crowds
        """
        self.check_new({image_id})
        self._images[image_id] = len(records)
        self._records.extend(records.tobytes())
        for category, counts in zip(categories, countable):
            self.objects[category] += int(counts)

    def merge(self, other: Detections) -> None:
        """Add the images of ``other``, which must be different from these."""
        self.check_new(other)
        self._images.update(other._images)
        self._records.extend(other._records)
        self.objects.update(other.objects)

    def check_new(self, images: Iterable[int]) -> None:
        """Raise AdaptisError if one of the images was added before."""
        twice = self._images.keys() & set(images)
        if twice:
            raise AdaptisError(f'Image {min(twice)} was added twice.')

    def sorted(self) -> np.ndarray:
        """Return all detections, DETECTION_DTYPE (N,), sorted by image.

        The order in which parts were merged does not matter.
        """
        records = np.frombuffer(self._records, dtype=DETECTION_DTYPE)
        images = np.repeat(np.fromiter(self._images, np.int64), list(self._images.values()))
        return records[np.argsort(images, kind='stable')]

    def state(self) -> dict[str, np.ndarray]:
        """Return the state as arrays, for a file."""
        return {'records': np.frombuffer(self._records, dtype=DETECTION_DTYPE).copy(),
                'images': np.array(list(self._images.items()), np.int64).reshape(-1, 2),
                'objects': np.array(list(self.objects.items()), np.int64).reshape(-1, 2)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned; ValueError if it is inconsistent."""
        self._records = bytearray(state['records'].astype(DETECTION_DTYPE, casting='no').tobytes())
        self._images = dict(state['images'].tolist())
        self.objects = Counter(dict(state['objects'].tolist()))
        if sum(self._images.values()) != len(state['records']):
            raise ValueError('the number of detections differs from that of the images')


def unpack(bits: np.ndarray, count: int) -> np.ndarray:
    """Return the bits of the thresholds: (N,) -> bool (count, N)."""
    return (bits >> np.arange(count, dtype=bits.dtype)[:, None] & 1).astype(bool)


def pack(flags: np.ndarray) -> np.ndarray:
    """Do the inverse of :func:`unpack`: bool (thresholds, N) -> uint16 (N,)."""
    weights = (1 << np.arange(len(flags))).astype(np.uint16)
    return (flags * weights[:, None]).sum(axis=0, dtype=np.uint16)
