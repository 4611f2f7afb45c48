"""From a checkpoint or an exported network to its family, its settings and its predictor."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from adaptis.deploy.folder import exported_settings, is_export, load_exported
from adaptis.errors import AdaptisError
from adaptis.files import PathLike, read_image
from adaptis.inference.settings import PRESETS, SHIPPED
from adaptis.inference.sidecar import read_sidecar
from adaptis.registry import ModelFamily, find_family, find_mismatch
from adaptis.types import PanopticResult, Taxonomy


def load_predictor(checkpoint: Optional[PathLike] = None, settings: Any = None, ctx: Any = None,
                   taxonomy: Optional[Taxonomy] = None, backend: Optional[str] = None) -> Any:
    """Return a predictor with the network of a checkpoint, whichever system it belongs to.

    Parameters
    ----------
    checkpoint : a ``.params`` file, or the folder of an exported network; by default the AdaptIS
        network that ships with the package
    settings : thresholds, or the name of a preset; by default those of the checkpoint
    ctx : where to compute: an MXNet context or its name ('cpu', 'gpu:0'); by default the current
        context of MXNet, and the CPU for an exported network
    taxonomy : what the classes mean; by default what the checkpoint says
    backend : of an exported network: 'mxnet' or 'onnxruntime'

    Raises AdaptisError if the checkpoint cannot be read or does not fit the settings.
    """
    if is_export(checkpoint):
        return load_exported(checkpoint, backend, ctx, settings, taxonomy)
    if isinstance(ctx, str):
        from adaptis.runtime import context  # loads MXNet
        ctx = context(ctx)[0]
    if settings is None:
        settings = default_settings(checkpoint)[1]
    return family_of(checkpoint).load_predictor(checkpoint, settings, ctx, taxonomy)


def predict(image: Union[PathLike, np.ndarray], checkpoint: Optional[PathLike] = None,
            settings: Any = None) -> PanopticResult:
    """Segment one picture, given as a path or as an RGB array.

    ``checkpoint`` and ``settings`` are those of :func:`load_predictor`; for several pictures make
    a predictor once instead.  Raises AdaptisError if the picture or the checkpoint is no good.
    """
    pixels = image if isinstance(image, np.ndarray) else read_image(image)
    return load_predictor(checkpoint, settings).set_image(pixels).panoptic()


def family_of(checkpoint: Optional[PathLike]) -> ModelFamily:
    """Return the family of a checkpoint's network, AdaptIS if the sidecar does not say."""
    model = _described(checkpoint)
    try:
        return find_family(model.get('name', 'adaptis'))
    except AdaptisError as error:
        raise AdaptisError(f'{Path(str(checkpoint)).with_suffix(".json")}: {error}') from error


def default_settings(checkpoint: Optional[PathLike]) -> tuple[str, Any]:
    """Return what to call the settings that a checkpoint is used with by default, and them.

    An export has its own; a trained network those of its config; else a preset for the data set.
    """
    if checkpoint is None or str(checkpoint) == SHIPPED:
        return 'toy_v1_cpu', PRESETS['toy_v1_cpu']
    if is_export(checkpoint):
        return 'of the export', exported_settings(checkpoint)
    info = read_sidecar(checkpoint)
    if isinstance(info.get('config'), dict):
        from adaptis.config import stored_config  # needs PyYAML, which an export does without
        where = str(Path(checkpoint).with_suffix('.json'))
        return 'of its config', inference_settings(stored_config(info['config'], where))
    family, preset = family_of(checkpoint), info.get('dataset')
    if preset not in family.presets:
        preset = family.default_preset(_described(checkpoint))
    return preset, family.presets[preset]


def inference_settings(config: Any) -> Any:
    """Return the settings that ``inference`` of a ``TrainConfig`` asks for.

    Without a preset there, it is the one named like the augmentation or the data set.
    Raises AdaptisError for a preset or a setting that does not exist.
    """
    family, changes = find_family(config.model['name']), dict(config.inference)
    names = (config.data.augmentation, config.data.dataset)
    usual = next((n for n in names if isinstance(n, str) and n in family.presets), None)
    usual = usual or family.default_preset({})
    return family.get_settings(str(changes.pop('preset', usual))).replace(**changes)


def check_network(name: str, checkpoint: Optional[PathLike]) -> None:
    """Raise AdaptisError if a checkpoint does not hold the network called ``name``."""
    family, found = find_family(name), _described(checkpoint)
    if checkpoint is None and family is not find_family('adaptis'):
        raise AdaptisError(f'No weights of {name} come with this package: give a trained network '
                           'with --checkpoint (an official one after "adaptis convert").')
    mismatch = found and find_mismatch({'name': name}, found, family.name_options)
    if mismatch:
        key, asked, there = mismatch
        raise AdaptisError(f'{checkpoint} holds no {name}: its {key} is {there}, not {asked}.')


def _described(checkpoint: Optional[PathLike]) -> Mapping[str, Any]:
    model = read_sidecar(checkpoint).get('model')
    return model if isinstance(model, dict) else {}
