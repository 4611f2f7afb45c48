"""The two ways to number classes, and how they meet.

A taxonomy counts its stuff first, then its things.  Detectors count things by themselves, from 0
(the background comes last and is no class), and a semantic branch has labels: with all things in
one class that is label 0, and stuff class ``i`` is label ``i + 1``; otherwise labels are class
indices of the taxonomy.  For COCO, in the order of its ids, these are the official numbers.
"""
from __future__ import annotations

import numpy as np

from adaptis.types import Taxonomy

IGNORED = -1


def thing_to_class_index(thing: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
    """Class indices of the taxonomy for a detector's classes."""
    return np.asarray(thing) + taxonomy.num_stuff


def class_index_to_thing(index: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
    """A detector's classes for class indices of things."""
    return np.asarray(index) - taxonomy.num_stuff


def semantic_to_class_index(labels: np.ndarray, merge_things: bool) -> np.ndarray:
    """Labels of a semantic branch -> class indices, -1 where it sees some thing."""
    return labels - 1 if merge_things else labels


def class_index_to_semantic(classes: np.ndarray, taxonomy: Taxonomy,
                            merge_things: bool) -> np.ndarray:
    """Class indices, -1 = ignored -> labels for the training of a semantic branch, -1 = ignored."""
    if not merge_things:
        return classes
    labels = np.where(classes >= taxonomy.num_stuff, 0, classes + 1)
    return np.where(classes < 0, IGNORED, labels).astype(classes.dtype)
