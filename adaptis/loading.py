"""Load a predictor, its settings and its family from a checkpoint or an exported network."""
from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Optional, Union

from adaptis.deploy.folder import exported_settings, is_export, load_exported
from adaptis.errors import AdaptisError
from adaptis.files import PathLike
from adaptis.inference.images import as_rgb
from adaptis.inference.settings import PRESETS
from adaptis.inference.sidecar import read_sidecar
from adaptis.registry import ModelFamily, families, find_family, find_mismatch
from adaptis.types import PanopticResult, Taxonomy
from adaptis.weights import DEFAULT_CHECKPOINT, find_weights


def load_predictor(checkpoint: Optional[PathLike] = None, settings: Any = None, ctx: Any = None,
                   taxonomy: Optional[Taxonomy] = None, backend: Optional[str] = None) -> Any:
    """Return a predictor with the network of a checkpoint, for any system.

    Parameters
    ----------
    checkpoint : a ``.params`` file, the folder of an exported network, or the name of an included
        one ('toy_v1', 'toy_v1_wide', 'toy_v2', 'toy_street'); by default 'toy_v1'
    settings : thresholds, or the name of a preset; by default those of the checkpoint
    ctx : where to compute: an MXNet context or its name ('cpu', 'gpu:0'); by default MXNet's
        current context, or the CPU for an exported network
    taxonomy : the meaning of the classes; by default that of the checkpoint
    backend : for an exported network: 'mxnet' or 'onnxruntime'

    Raises AdaptisError if the checkpoint cannot be read or does not match the settings.
    """
    checkpoint = find_weights(checkpoint)
    if is_export(checkpoint):
        return load_exported(checkpoint, backend, ctx, settings, taxonomy)
    if isinstance(ctx, str):
        from adaptis.runtime import get_context  # loads MXNet
        ctx = get_context(ctx)
    if settings is None:
        settings = default_settings(checkpoint)[1]
    return family_of(checkpoint).load_predictor(checkpoint, settings, ctx, taxonomy)


def predict(image: Any, checkpoint: Optional[PathLike] = None,
            settings: Any = None) -> PanopticResult:
    """Segment one image, given as a path, an RGB array or a Pillow image.

    ``checkpoint`` and ``settings`` are those of :func:`load_predictor`.  For several images, create
    a predictor once instead.  Raises AdaptisError if the image or the checkpoint cannot be used.
    """
    pixels = as_rgb(image)   # checked before a network is loaded
    return load_predictor(checkpoint, settings).set_image(pixels).panoptic()


def list_models(pattern: str = '*', pretrained: bool = False) -> list[str]:
    """Return the names of the networks of all systems, without loading MXNet.

    ``pattern`` may contain wildcards, as in ``'condinst*'``; ``pretrained`` keeps only those with
    included weights.
    """
    return sorted(name for family in families()
                  for name in (family.weights if pretrained else family.models)
                  if fnmatchcase(name, pattern))


def get_model(name: str, pretrained: Union[bool, PathLike] = False, ctx: Any = None,
              **options: Any) -> Any:
    """Return a network of any system by name (loads MXNet).

    Parameters
    ----------
    name : one of :func:`list_models`
    pretrained : False = not yet initialised; True = with the included weights; or the path of a
        checkpoint, or the name of an included one
    ctx : where to put the weights; by default the current context of MXNet
    options : options of the network's constructor; a checkpoint has its own

    Raises AdaptisError if the network, an option or the checkpoint does not exist.
    """
    family = find_family(name)
    if pretrained is False:
        return family.get_model(name, **options)
    if options:
        raise AdaptisError(f'A pretrained {name} has its own options: leave out '
                           f'{", ".join(sorted(options))}.')
    if pretrained is True and name not in family.weights:
        raise AdaptisError(f'The package includes no weights for {name}: pass the path of a '
                           'checkpoint as pretrained.')
    checkpoint = family.weights[name] if pretrained is True else find_weights(pretrained)
    check_network(name, checkpoint)
    return family.load_model(checkpoint, ctx)


def family_of(checkpoint: Optional[PathLike]) -> ModelFamily:
    """Return the family of a checkpoint's network; AdaptIS if the sidecar does not say."""
    model = _described(checkpoint)
    try:
        return find_family(model.get('name', 'adaptis'))
    except AdaptisError as error:
        raise AdaptisError(f'{Path(str(checkpoint)).with_suffix(".json")}: {error}') from error


def default_settings(checkpoint: Optional[PathLike]) -> tuple[str, Any]:
    """Return the name and the value of the default settings of a checkpoint.

    An export has its own; a trained network has those of its config; otherwise they are a preset
    for the data set.
    """
    if checkpoint is None or str(checkpoint) == DEFAULT_CHECKPOINT:
        return 'toy_v1_long', PRESETS['toy_v1_long']
    if is_export(checkpoint):
        return 'of the export', exported_settings(checkpoint)
    info = read_sidecar(checkpoint)
    if isinstance(info.get('config'), dict):
        from adaptis.config import config_from_dict  # loads PyYAML, which exports do not need
        where = str(Path(checkpoint).with_suffix('.json'))
        return 'of its config', inference_settings(config_from_dict(info['config'], where))
    family, preset = family_of(checkpoint), info.get('dataset')
    if preset not in family.presets:
        preset = family.default_preset(_described(checkpoint))
    return preset, family.presets[preset]


def inference_settings(config: Any) -> Any:
    """Return the settings in ``inference`` of a ``TrainConfig``.

    Without a preset, they are based on the preset named after the augmentation or the data set.
    Raises AdaptisError for an unknown preset or setting.
    """
    family, changes = find_family(config.model['name']), dict(config.inference)
    names = (config.data.augmentation, config.data.dataset)
    usual = next((n for n in names if isinstance(n, str) and n in family.presets), None)
    usual = usual or family.default_preset({})
    return family.get_settings(str(changes.pop('preset', usual))).replace(**changes)


def check_network(name: str, checkpoint: Optional[PathLike]) -> None:
    """Raise AdaptisError if a checkpoint does not contain the network called ``name``."""
    family, found = find_family(name), _described(checkpoint)
    if checkpoint is None and family is not find_family('adaptis'):
        raise AdaptisError(f'The package includes no weights for {name}: give a trained network '
                           'with --checkpoint (convert an official one with "adaptis convert").')
    mismatch = found and find_mismatch({'name': name}, found, family.name_options)
    if mismatch:
        key, asked, there = mismatch
        raise AdaptisError(f'{checkpoint} does not contain {name}: its {key} is {there}, not '
                           f'{asked}.')


def _described(checkpoint: Optional[PathLike]) -> Mapping[str, Any]:
    model = read_sidecar(checkpoint).get('model')
    return model if isinstance(model, dict) else {}
