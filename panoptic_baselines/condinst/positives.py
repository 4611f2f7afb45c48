"""Select the locations that masks are learned from (section 2.3): (2, P), image and cell."""
from __future__ import annotations

from typing import Any

import numpy as np


def random_positives(objects: np.ndarray, limit: int, rng: Any) -> np.ndarray:
    """Return at most ``limit`` random locations with an object, over all images.

    Parameters
    ----------
    objects : (B, N), -1 = none
    rng : a NumPy generator or ``numpy.random`` itself
    """
    found = np.stack(np.nonzero(objects >= 0))
    if found.shape[1] <= limit:
        return found
    return found[:, np.sort(rng.permutation(found.shape[1])[:limit])]


def best_positives(objects: np.ndarray, scores: np.ndarray, limit: int) -> np.ndarray:
    """Return the locations with the highest scores, at most ``limit`` per image (section 2.3).

    ``objects``, -1 = none, and ``scores`` are (B, N).
    """
    order = np.argsort(np.where(objects >= 0, -scores, np.inf), axis=1, kind='stable')[:, :limit]
    chosen = np.zeros(objects.shape, bool)
    np.put_along_axis(chosen, order, True, axis=1)
    return np.stack(np.nonzero(chosen & (objects >= 0)))


def best_positives_per_object(objects: np.ndarray, scores: np.ndarray, limit: int) -> np.ndarray:
    """Return at most ``limit`` locations per image, those with the highest scores of each object.

    The objects of an image share ``limit`` equally, with at least one location each, as in the
    official code.  ``objects``, -1 = none, and ``scores`` are (B, N).
    """
    images, cells = np.nonzero(objects >= 0)
    if not len(images):
        return np.stack([images, cells])
    owners = objects[images, cells]
    order = np.lexsort((-scores[images, cells], owners, images))
    images, cells, owners = images[order], cells[order], owners[order]
    first = np.append(True, (np.diff(images) != 0) | (np.diff(owners) != 0))   # of each object
    starts = np.flatnonzero(first)
    rank = np.arange(len(images)) - starts[np.cumsum(first) - 1]
    found = np.bincount(images[starts], minlength=len(objects))
    quota = np.maximum(limit // np.maximum(found, 1), 1)
    return np.stack([images, cells])[:, rank < quota[images]]
