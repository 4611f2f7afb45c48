"""Convert whole maps between the labels of a data set and class indices."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adaptis.errors import AdaptisError


class LabelMap:
    """The labels in the files of a data set, and the class indices of networks.

    Parameters
    ----------
    labels : the label of each class index
    count : labels range from 0 to count - 1; those without a class are void
    void : the label to write for void pixels
    """

    def __init__(self, labels: Sequence[int], count: int, void: int):
        self._labels = np.asarray([*labels, void], dtype=np.int32)  # index -1 is the last one
        self._classes = np.full(count, -1, dtype=np.int32)
        self._classes[self._labels[:-1]] = np.arange(len(labels))
        if not 0 <= void < count or self._classes[void] >= 0:
            raise ValueError(f'{void} is the label of a class, or not a label')

    def to_classes(self, labels: np.ndarray, what: str = 'A label map') -> np.ndarray:
        """Return the class indices of labels, int32 of the same shape, -1 = void.

        Raises AdaptisError, with ``what`` as the name of the map, for a number that is not a label.
        """
        labels = np.asarray(labels)
        wrong = (labels < 0) | (labels >= len(self._classes))
        if wrong.any():
            raise AdaptisError(f'{what} contains {labels[wrong].flat[0]}, which is not one of the '
                               f'{len(self._classes)} labels.')
        return self._classes[labels]

    def to_labels(self, classes: np.ndarray) -> np.ndarray:
        """Return the labels of class indices, int32 of the same shape; -1 = void.

        Raises AdaptisError for a number that is not a class index.
        """
        classes = np.asarray(classes)
        wrong = (classes < -1) | (classes >= len(self._labels) - 1)
        if wrong.any():
            raise AdaptisError(f'There is no class index {classes[wrong].flat[0]}: they range from '
                               f'0 to {len(self._labels) - 2}.')
        return self._labels[classes]
