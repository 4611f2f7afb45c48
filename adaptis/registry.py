"""Find model families by the names of their networks, without importing them.

The other systems are in a package that depends on this one.  They are listed here as text and
imported only when needed.
"""
from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Protocol

from adaptis.errors import AdaptisError
from adaptis.files import PathLike

_FAMILIES: dict[str, str] = {
    'adaptis': 'adaptis.family:ADAPTIS',
    'panoptic_fpn': 'panoptic_baselines.families:PANOPTIC_FPN',
    'mask_rcnn': 'panoptic_baselines.families:PANOPTIC_FPN',
    'semantic_fpn': 'panoptic_baselines.families:PANOPTIC_FPN',
    'condinst': 'panoptic_baselines.families:CONDINST',
    'dense_detections': 'panoptic_baselines.families:DENSE_DETECTIONS',
    'unified': 'panoptic_baselines.families:UNIFIED',
}
"""The name of a network, or its prefix (``mask_rcnn``, ``mask_rcnn_r50``) -> its family."""

_MXNET = 'adaptis.convert.official:convert'
_PYTORCH = 'panoptic_baselines.convert.official:convert'
_CONVERTERS: dict[bytes, str] = {b'\x12\x01': _MXNET, b'\x80': _PYTORCH, b'PK': _PYTORCH}
"""First bytes of an official checkpoint -> its converter; PyTorch's are zip archives."""


class ModelFamily(Protocol):
    """Networks that are trained and used in the same way.  A method loads MXNet only if stated.

    Attributes
    ----------
    paper : authors, title and year
    models : network name -> its class as 'module:class', which documents the options
    weights : network name -> name of the included weights
    stages : keys of the training stages in a config; the first one is required
    uses_points : whether it is trained with points, whose number each stage then needs
    presets : inference settings by name
    name_options : options that a network's name can imply
    exported_predictor : 'module:function' that creates a predictor for exported stages: ``(runner,
        attributes, settings, taxonomy)``; loads neither MXNet nor SciPy
    """

    paper: str
    models: Mapping[str, str]
    weights: Mapping[str, str]
    stages: tuple[str, ...]
    uses_points: bool
    presets: Mapping[str, Any]
    name_options: tuple[str, ...]
    exported_predictor: str

    def get_settings(self, settings: Any) -> Any:
        """Return settings as they are, or a preset by name; AdaptisError if there is none."""

    def default_preset(self, model: Mapping[str, Any]) -> str:
        """Return the preset for a network from its description if its data set is unknown."""

    def class_counts(self, taxonomy: Any) -> dict[str, int]:
        """Return the options of a network that set its number of classes."""

    def check_taxonomy(self, model: Mapping[str, Any], taxonomy: Any) -> None:
        """Raise AdaptisError if a network needs stuff or things but the categories have none."""

    def expand_options(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """Return a network's description with the options that its name implies."""

    def get_model(self, name: str, **options: Any) -> Any:
        """Return a network by name, not yet initialised (loads MXNet)."""

    def load_model(self, checkpoint: PathLike, ctx: Any = None) -> Any:
        """Return the network of a checkpoint (loads MXNet)."""

    def load_pretrained(self, net: Any, path: PathLike) -> None:
        """Load the weights of a network whose classes may differ (loads MXNet)."""

    def build(self, options: Mapping[str, Any], contexts: Sequence[Any]) -> Any:
        """Return an initialised network for training (loads MXNet)."""

    def system_options(self) -> list[str]:
        """Return the allowed keys of ``stage.system`` in a config (loads MXNet)."""

    def make_system(self, net: Any, taxonomy: Any, stage: str, **options: Any) -> Any:
        """Return the losses of a stage: a ``System``, see ``panoptic_baselines.system``."""

    def make_predictor(self, net: Any, settings: Any, taxonomy: Any, trained: Sequence[str],
                       ctx: Any = None) -> Any:
        """Return a predictor: ``set_image(image).panoptic()``.

        ``trained`` lists the stages that the network has completed.
        """

    def load_predictor(self, checkpoint: Optional[PathLike], settings: Any, ctx: Any,
                       taxonomy: Any) -> Any:
        """Return a predictor with the network of a checkpoint.

        Without ``taxonomy``, the meaning of the classes comes from the checkpoint's sidecar.
        """

    def export_stages(self, net: Any) -> list[Any]:
        """Return the graphs of a network (``adaptis.deploy.stages.Stage``; loads MXNet)."""

    def export_attributes(self, net: Any) -> dict[str, Any]:
        """Return what inference needs besides a network's graphs, as JSON data.

        This may include ``divisor``, of which both sides of the network's input are multiples;
        ``mean``, the RGB colour of the padding (without it the border is repeated); and
        ``min_side``.
        """

    def evaluation_result(self, predictor: Any) -> Any:
        """Return the ``PanopticResult`` of the current image with everything measurable."""

    def metrics(self, net: Any) -> tuple[str, ...]:
        """Return which of 'pq', 'ap' and 'miou' apply to a network, the main one first."""


def find_family(name: Any) -> ModelFamily:
    """Return the family of the network called ``name``; AdaptisError if there is none."""
    for begin, path in _FAMILIES.items():
        if isinstance(name, str) and (name == begin or name.startswith(f'{begin}_')):
            return import_object(path)
    raise AdaptisError(f'There is no network "{name}": names start with '
                       f'{", ".join(sorted(_FAMILIES))}.')


def families() -> list[ModelFamily]:
    """Return the family of each system, AdaptIS first."""
    return [import_object(path) for path in dict.fromkeys(_FAMILIES.values())]


def find_mismatch(wanted: Mapping[str, Any], found: Mapping[str, Any],
                  keys: Sequence[str]) -> Optional[tuple[str, Any, Any]]:
    """Compare the descriptions of two networks.

    Returns the first of ``keys`` in which they differ, with both values; None if there is none.
    Keys that one of them does not mention are ignored.
    """
    wanted, found = (find_family(model.get('name')).expand_options(model)
                     for model in (wanted, found))
    for key in keys:
        if key in wanted and key in found and wanted[key] != found[key]:
            return key, wanted[key], found[key]
    return None


def find_converter(source: PathLike) -> Any:
    """Return ``convert(source, target, num_stuff)`` for an official checkpoint.

    The first bytes of the file decide, else its suffix, because safetensors files can start with
    any bytes.
    """
    if Path(source).suffix == '.safetensors':
        return import_object(_PYTORCH)
    try:
        with open(source, 'rb') as stream:
            begin = stream.read(2)
    except OSError:
        begin = b''  # the converter reports the problem with the file
    for magic, path in _CONVERTERS.items():
        if begin.startswith(magic):
            return import_object(path)
    return import_object(_PYTORCH if Path(source).suffix in ('.pkl', '.pth', '.pt') else _MXNET)


def import_object(path: str) -> Any:
    """Import and return the object named by 'module:attribute'."""
    module, _, attribute = path.partition(':')
    return getattr(importlib.import_module(module), attribute)
