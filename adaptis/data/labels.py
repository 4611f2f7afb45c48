"""Translating between a data set's own labels and class indices, for whole maps."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adaptis.errors import AdaptisError


class LabelMap:
    """The labels that a data set's own files hold, and the class indices that networks speak of.

    Parameters
    ----------
    labels : the label of each class index
    count : labels go from 0 to count - 1; those that are no class are void
    void : the label written for void pixels
    """

    def __init__(self, labels: Sequence[int], count: int, void: int):
        self._labels = np.asarray([*labels, void], dtype=np.int32)  # -1 finds the last
        self._classes = np.full(count, -1, dtype=np.int32)
        self._classes[self._labels[:-1]] = np.arange(len(labels))
        if not 0 <= void < count or self._classes[void] >= 0:
            raise ValueError(f'{void} is the label of a class, or none at all')

    def to_classes(self, labels: np.ndarray, what: str = 'A label map') -> np.ndarray:
        """Labels as class indices, int32 of the same shape, -1 = void.

        AdaptisError, which calls the map ``what``, for a number that is no label.
        """
        labels = np.asarray(labels)
        wrong = (labels < 0) | (labels >= len(self._classes))
        if wrong.any():
            raise AdaptisError(f'{what} holds {labels[wrong].flat[0]}, which is none of the '
                               f'{len(self._classes)} labels.')
        return self._classes[labels]

    def to_labels(self, classes: np.ndarray) -> np.ndarray:
        """Class indices, -1 = void, as labels, int32 of the same shape.

        AdaptisError for a number that is no class index.
        """
        classes = np.asarray(classes)
        wrong = (classes < -1) | (classes >= len(self._labels) - 1)
        if wrong.any():
            raise AdaptisError(f'There is no class index {classes[wrong].flat[0]}: they go from '
                               f'0 to {len(self._labels) - 2}.')
        return self._labels[classes]
