"""The JSON beside a checkpoint, which describes its classes and its settings.

This module reads no parameters and does not load MXNet.  The manifest of an exported network is
such a JSON, too.
"""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Optional

from adaptis.categories import distinct_colors
from adaptis.data.cityscapes import CITYSCAPES_TAXONOMY
from adaptis.data.coco_categories import COCO_TAXONOMY
from adaptis.deploy.folder import MANIFEST, is_export
from adaptis.errors import AdaptisError
from adaptis.files import PathLike, read_json
from adaptis.types import TOY_TAXONOMY, Category, Taxonomy
from adaptis.weights import DEFAULT_CHECKPOINT, PRETRAINED

DEFAULT_TAXONOMIES = {(len(taxonomy), taxonomy.num_stuff): taxonomy for taxonomy in (
    TOY_TAXONOMY, CITYSCAPES_TAXONOMY, COCO_TAXONOMY)}
"""Taxonomies for networks that do not store one, by the number of classes and of stuff classes."""


def taxonomy_to_list(taxonomy: Taxonomy) -> list[dict[str, Any]]:
    """Return a taxonomy as plain data, for ``save_model(net, path, {'taxonomy': ...})``."""
    return [dataclasses.asdict(category) for category in taxonomy.categories]


def read_sidecar(checkpoint: Optional[PathLike]) -> dict[str, Any]:
    """Return the JSON beside a checkpoint, or the manifest of an exported network.

    It is empty for the checkpoint in the package, and if the file is missing or broken.
    """
    if checkpoint is None or str(checkpoint) == DEFAULT_CHECKPOINT:
        return {}
    path = Path(checkpoint)
    path = path / MANIFEST if is_export(path) else path.with_suffix('.json')
    try:
        content = read_json(path)
    except AdaptisError:
        return {}  # loading the parameters reports the problem
    return content if isinstance(content, dict) else {}


def read_training(checkpoint: Optional[PathLike]) -> dict[str, Any]:
    """Return what a sidecar says about the training of a network.

    This also works for the checkpoint in the package, and for an exported network, whose manifest
    keeps it under ``source``.
    """
    if checkpoint is None or str(checkpoint) == DEFAULT_CHECKPOINT:
        return read_sidecar(PRETRAINED[DEFAULT_CHECKPOINT])
    info = read_sidecar(checkpoint)
    if is_export(checkpoint):
        source = info.get('source')
        known = source.get('training') if isinstance(source, dict) else None
        info.update(known if isinstance(known, dict) else {})
    return info


def find_taxonomy(info: dict[str, Any], num_classes: int, num_stuff: int,
                  where: PathLike = 'The checkpoint') -> Taxonomy:
    """Return the taxonomy in a network's sidecar, else a default for its number of classes.

    Raises AdaptisError if the sidecar's list is not a taxonomy.
    """
    if 'taxonomy' in info:
        return Taxonomy.from_list(info['taxonomy'], where)
    if (num_classes, num_stuff) in DEFAULT_TAXONOMIES:
        return DEFAULT_TAXONOMIES[num_classes, num_stuff]
    return _nameless(num_classes, num_stuff)


def _nameless(num_classes: int, num_stuff: int) -> Taxonomy:
    return Taxonomy([Category(i + 1, f'class {i + 1}', i >= num_stuff,
                              tuple(int(c) for c in color))
                     for i, color in enumerate(distinct_colors(num_classes))])
