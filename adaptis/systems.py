"""The panoptic systems by the names of their networks: what the commands need to know of each.

The ports live in a package above this one, so their kinds are named here, and imported when they
are asked for.
"""
from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Protocol

from adaptis.errors import AdaptisError
from adaptis.files import PathLike

_KINDS: dict[str, str] = {
    'adaptis': 'adaptis.kind:ADAPTIS',
    'panoptic_fpn': 'panoptic_baselines.kinds:DETECTOR',
    'mask_rcnn': 'panoptic_baselines.kinds:DETECTOR',
    'semantic_fpn': 'panoptic_baselines.kinds:DETECTOR',
    'condinst': 'panoptic_baselines.kinds:CONDINST',
    'dense_detections': 'panoptic_baselines.kinds:DENSE',
    'unified': 'panoptic_baselines.kinds:UNIFIED',
}
"""What a network's name is or begins with (``mask_rcnn``, ``mask_rcnn_r50``) -> its kind."""

_MXNET = 'adaptis.convert.official:convert'
_PICKLED = 'panoptic_baselines.convert:convert'
_CONVERTERS: dict[bytes, str] = {b'\x12\x01': _MXNET, b'\x80': _PICKLED, b'PK': _PICKLED}
"""How an official checkpoint begins -> what converts it; PyTorch's are zip archives."""


class Kind(Protocol):
    """Networks that are trained and used in one way.  Nothing here loads MXNet but what says so.

    Attributes
    ----------
    stages : keys of a config that can hold a stage of training; the first one must be there
    by_points : whether it learns from points, so that a stage needs their number
    presets : inference settings by name
    named : what a network's name can stand for; its other arguments may be anything
    exported : 'module:callable' of what makes a predictor of exported stages:
        ``(runner, attributes, settings, taxonomy)``; loads neither MXNet nor SciPy
    """

    stages: tuple[str, ...]
    by_points: bool
    presets: Mapping[str, Any]
    named: tuple[str, ...]
    exported: str

    def get_settings(self, settings: Any) -> Any:
        """Settings as they are, or a preset by name; AdaptisError if there is none."""

    def usual_preset(self, model: Mapping[str, Any]) -> str:
        """The preset for a network, by its description, that says nothing of its data."""

    def class_counts(self, taxonomy: Any) -> dict[str, int]:
        """The arguments of a network that say how many classes there are."""

    def meaning(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """A description of a network with what its name stands for written out."""

    def get_model(self, name: str, **options: Any) -> Any:
        """A network by name, not yet initialised (loads MXNet)."""

    def build(self, options: Mapping[str, Any], contexts: Sequence[Any]) -> Any:
        """A network to be trained, initialised (loads MXNet)."""

    def system_options(self) -> list[str]:
        """What ``stage.system`` of a config can hold (loads MXNet)."""

    def make_system(self, net: Any, taxonomy: Any, stage: str, **options: Any) -> Any:
        """Losses of a stage: a ``System`` as ``panoptic_baselines.system`` describes it."""

    def make_predictor(self, net: Any, settings: Any, taxonomy: Any, trained: Sequence[str],
                       ctx: Any = None) -> Any:
        """Something with ``set_image(image).panoptic()``; ``trained`` are the stages behind it."""

    def load_predictor(self, checkpoint: Optional[PathLike], settings: Any, ctx: Any,
                       taxonomy: Any) -> Any:
        """The same with the network of a checkpoint; without ``taxonomy`` that of its sidecar."""

    def stages_of(self, net: Any) -> list[Any]:
        """The graphs of a network (``adaptis.deploy.stages.Stage``; loads MXNet)."""

    def attributes_of(self, net: Any) -> dict[str, Any]:
        """What inference needs to know of a network beside its graphs, as JSON has it.

        Among it may be ``divisor``, of which both sides of what the network sees are multiples;
        ``mean``, the RGB colour of the padding, else the border is repeated; and ``min_side``.
        """

    def measurable(self, predictor: Any) -> Any:
        """The ``PanopticResult`` of the chosen image with all that can be measured of it."""

    def measures(self, net: Any) -> tuple[str, ...]:
        """Which of 'pq', 'ap' and 'miou' a network is about, the most important one first."""


def find_kind(name: Any) -> Kind:
    """The kind of the network called ``name``; AdaptisError if there is none."""
    for begin, place in _KINDS.items():
        if isinstance(name, str) and (name == begin or name.startswith(f'{begin}_')):
            return load_place(place)
    raise AdaptisError(f'There is no network "{name}": names begin with '
                       f'{", ".join(sorted(_KINDS))}.')


def kind_of(checkpoint: Optional[PathLike]) -> Kind:
    """The kind of the network of a checkpoint, by its sidecar; AdaptIS if that does not say."""
    model = _described(checkpoint)
    try:
        return find_kind(model.get('name', 'adaptis'))
    except AdaptisError as error:
        raise AdaptisError(f'{Path(str(checkpoint)).with_suffix(".json")}: {error}') from error


def load_predictor(checkpoint: Optional[PathLike] = None, settings: Any = None, ctx: Any = None,
                   taxonomy: Any = None, backend: Optional[str] = None) -> Any:
    """What segments images with the network of a checkpoint, whichever kind it is.

    Parameters
    ----------
    checkpoint : a ``.params`` file, or the folder of an exported network
    settings : thresholds, or the name of a preset; default those of the checkpoint
    ctx : where to compute, as an MXNet context or by its name; default where MXNet
        computes by itself, the CPU for an exported network
    taxonomy : what its classes mean; default what the checkpoint says
    backend : of an exported network, see ``adaptis.deploy.folder.load_exported``
    """
    from adaptis.deploy.folder import is_export, load_exported
    if is_export(checkpoint):
        return load_exported(checkpoint, backend, ctx, settings, taxonomy)
    if isinstance(ctx, str):
        from adaptis.runtime import context
        ctx = context(ctx)[0]
    return kind_of(checkpoint).load_predictor(checkpoint, settings, ctx, taxonomy)


def difference(wanted: Mapping[str, Any], found: Mapping[str, Any],
               keys: Sequence[str]) -> Optional[tuple[str, Any, Any]]:
    """The first of ``keys`` in which two described networks differ, and what each says.

    Keys that one does not mention do not count.
    """
    wanted, found = (find_kind(model.get('name')).meaning(model) for model in (wanted, found))
    for key in keys:
        if key in wanted and key in found and wanted[key] != found[key]:
            return key, wanted[key], found[key]
    return None


def check_network(name: str, checkpoint: Optional[PathLike]) -> None:
    """AdaptisError if a checkpoint does not hold the network called ``name``."""
    kind, found = find_kind(name), _described(checkpoint)
    if checkpoint is None and kind is not find_kind('adaptis'):
        raise AdaptisError(f'No weights of {name} come with this package: give a trained network '
                           'with --checkpoint (an official one after "adaptis convert").')
    differs = found and difference({'name': name}, found, kind.named)
    if differs:
        key, asked, there = differs
        raise AdaptisError(f'{checkpoint} holds no {name}: its {key} is {there}, not {asked}.')


def find_converter(source: PathLike) -> Any:
    """``convert(source, target, num_stuff)`` for an official checkpoint, by how the file begins,
    else by its suffix."""
    try:
        with open(source, 'rb') as stream:
            begin = stream.read(2)
    except OSError:
        begin = b''  # whoever reads it says what is wrong
    for magic, place in _CONVERTERS.items():
        if begin.startswith(magic):
            return load_place(place)
    return load_place(_PICKLED if Path(source).suffix in ('.pkl', '.pth', '.pt') else _MXNET)


def _described(checkpoint: Optional[PathLike]) -> Mapping[str, Any]:
    from adaptis.inference.sidecar import read_sidecar
    model = read_sidecar(checkpoint).get('model')
    return model if isinstance(model, dict) else {}


def load_place(place: str) -> Any:
    """What 'module:attribute' names, imported now."""
    module, _, attribute = place.partition(':')
    return getattr(importlib.import_module(module), attribute)
