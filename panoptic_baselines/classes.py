"""The two ways to number classes, and conversions between them.

A taxonomy counts its stuff first, then its things: these are class indices.  Detectors count
things alone, from 0; the background comes last and is no class.  A semantic branch with all
things in one class has the label 0 for these and the label ``i + 1`` for stuff class ``i``;
otherwise its labels are class indices of the taxonomy.  For COCO, in the order of its ids, these
are the official numbers.
"""
from __future__ import annotations

import numpy as np

from adaptis.types import Taxonomy

IGNORED = -1


def thing_to_class_index(thing: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
    """Return the class indices of a detector's classes."""
    return np.asarray(thing) + taxonomy.num_stuff


def class_index_to_thing(index: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
    """Return a detector's classes for the class indices of things."""
    return np.asarray(index) - taxonomy.num_stuff


def semantic_to_class_index(labels: np.ndarray, merge_things: bool) -> np.ndarray:
    """Return the class indices of a semantic branch's labels, -1 for its class of all things."""
    return labels - 1 if merge_things else labels


def class_index_to_semantic(classes: np.ndarray, taxonomy: Taxonomy,
                            merge_things: bool) -> np.ndarray:
    """Return the labels that a semantic branch learns; -1 = ignored, before and after."""
    if not merge_things:
        return classes
    labels = np.where(classes >= taxonomy.num_stuff, 0, classes + 1)
    return np.where(classes < 0, IGNORED, labels).astype(classes.dtype)
