"""The two ways to number classes, and conversions between them.

A taxonomy counts stuff classes first, then thing classes; these numbers are class indices.
Detectors count only things, from 0; the background comes last and is not a class.  If a semantic
branch has one class for all things, its label 0 means "thing" and its label ``i + 1`` means stuff
class ``i``.  Otherwise its labels are class indices of the taxonomy.  For COCO, in the order of
its ids, these are the official numbers.
"""
from __future__ import annotations

import numpy as np

from adaptis.types import Taxonomy

IGNORED = -1


def thing_to_class_index(thing: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
    """Convert a detector's classes to class indices."""
    return np.asarray(thing) + taxonomy.num_stuff


def class_index_to_thing(index: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
    """Convert class indices of things to a detector's classes."""
    return np.asarray(index) - taxonomy.num_stuff


def semantic_to_class_index(labels: np.ndarray, merge_things: bool) -> np.ndarray:
    """Convert a semantic branch's labels to class indices; -1 for its class of all things."""
    return labels - 1 if merge_things else labels


def class_index_to_semantic(classes: np.ndarray, taxonomy: Taxonomy,
                            merge_things: bool) -> np.ndarray:
    """Convert class indices to a semantic branch's labels; -1 = ignored, in both."""
    if not merge_things:
        return classes
    labels = np.where(classes >= taxonomy.num_stuff, 0, classes + 1)
    return np.where(classes < 0, IGNORED, labels).astype(classes.dtype)
