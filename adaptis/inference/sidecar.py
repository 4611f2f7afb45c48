"""What the JSON beside a checkpoint tells about its use: the meaning of its classes, its settings.

Reads no parameters and loads no MXNet.  The manifest of an exported network is such a JSON, too.
"""
from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Optional

from adaptis.data.cityscapes import CITYSCAPES_TAXONOMY
from adaptis.data.coco_categories import COCO_TAXONOMY
from adaptis.deploy.folder import MANIFEST, exported_settings, is_export
from adaptis.files import PathLike
from adaptis.inference.settings import PRESETS, SHIPPED
from adaptis.systems import kind_of
from adaptis.types import TOY_TAXONOMY, Category, Taxonomy

KNOWN = {(len(t), t.num_stuff): t for t in (TOY_TAXONOMY, CITYSCAPES_TAXONOMY, COCO_TAXONOMY)}
"""What the classes of a network mean that does not say: by their number and that of stuff."""


def describe(taxonomy: Taxonomy) -> list[dict[str, Any]]:
    """A taxonomy as plain data, for ``save_model(net, path, {'taxonomy': ...})``."""
    return [dataclasses.asdict(category) for category in taxonomy.categories]


def read_sidecar(checkpoint: Optional[PathLike]) -> dict[str, Any]:
    """The JSON beside a checkpoint; empty for the shipped one, and if it is missing or broken.

    Of an exported network, its manifest.
    """
    if checkpoint is None or str(checkpoint) == SHIPPED:
        return {}
    path = Path(checkpoint)
    path = path / MANIFEST if is_export(path) else path.with_suffix('.json')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}  # whoever loads the parameters says what is wrong
    return content if isinstance(content, dict) else {}


def default_settings(checkpoint: Optional[PathLike]) -> tuple[str, Any]:
    """The settings of its kind of network to use a checkpoint with, and what they are called.

    Those it was exported with, or of the config it was trained by; else a preset for its data set.
    """
    if checkpoint is None or str(checkpoint) == SHIPPED:
        return 'toy_v1_long', PRESETS['toy_v1_long']
    if is_export(checkpoint):
        return 'of the export', exported_settings(checkpoint)
    info = read_sidecar(checkpoint)
    where = str(Path(checkpoint).with_suffix('.json'))
    if isinstance(info.get('config'), dict):
        from adaptis.config import inference_settings, stored_config  # needs PyYAML
        return 'of its config', inference_settings(stored_config(info['config'], where))
    kind, preset, model = kind_of(checkpoint), info.get('dataset'), info.get('model')
    if preset not in kind.presets:
        preset = kind.usual_preset(model if isinstance(model, dict) else {})
    return preset, kind.presets[preset]


def find_taxonomy(info: dict[str, Any], num_classes: int, num_stuff: int,
                  where: PathLike = 'The checkpoint') -> Taxonomy:
    """What a network's classes mean, as its sidecar says or as their number suggests.

    Raises AdaptisError if the sidecar's list is none.
    """
    if 'taxonomy' in info:
        return Taxonomy.parse(info['taxonomy'], where)
    if (num_classes, num_stuff) in KNOWN:
        return KNOWN[num_classes, num_stuff]
    return _nameless(num_classes, num_stuff)


def _nameless(num_classes: int, num_stuff: int) -> Taxonomy:
    from adaptis.viz import distinct_colors
    return Taxonomy([Category(i + 1, f'class {i + 1}', i >= num_stuff,
                              tuple(int(c) for c in color))
                     for i, color in enumerate(distinct_colors(num_classes))])
