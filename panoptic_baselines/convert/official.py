"""Official checkpoints of the ports: their parameter names, and this project's for the same arrays.

Files of detectron2 (``.pkl`` of the model zoo, ``.pth`` of a training run) give a whole network;
the ImageNet classifiers that such trainings start from give a backbone.  Reading them is the
business of ``panoptic_baselines.convert.checkpoints``, which runs nothing that they hold.
"""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.files import PathLike
from panoptic_baselines.condinst.convert import CONDINST, DLA_CLASSIFIER
from panoptic_baselines.convert.checkpoints import Arrays, read_checkpoint
from panoptic_baselines.convert.names import (
    BACKBONE,
    FPN,
    NORM,
    RESNET,
    Family,
    Rules,
    backbone_name,
    below,
    rename,
)
from panoptic_baselines.dense_detections.convert import DENSE, TORCHVISION

SUFFIXES = ('.pkl', '.pth', '.pt')

_RCNN: Rules = [
    (r'proposal_generator[.]rpn_head[.]((conv|objectness_logits|anchor_deltas)[.].+)',
     r'encoder.rpn.\1'),
    (r'roi_heads[.]box_head[.](fc[12][.].+)', r'box_head.\1'),
    (r'roi_heads[.]box_predictor[.]((cls_score|bbox_pred)[.].+)', r'box_head.\1'),
    (r'roi_heads[.]mask_head[.]((mask_fcn[1-4]|deconv|predictor)[.].+)', r'mask_head.\1'),
    (r'sem_seg_head[.]((p[2-5]|predictor)[.].+)', r'encoder.semantic_head.\1'),
]
# Caffe2's names of a ResNet and its norms, as detectron2's.
_CAFFE2: Rules = [
    (r'(?:res_)?conv1_(.+)', r'stem.conv1.\1'),
    (r'(res[2-5])_(\d+)_branch1_(.+)', r'\1.\2.shortcut.\3'),
    (r'(res[2-5])_(\d+)_branch2a_(.+)', r'\1.\2.conv1.\3'),
    (r'(res[2-5])_(\d+)_branch2b_(.+)', r'\1.\2.conv2.\3'),
    (r'(res[2-5])_(\d+)_branch2c_(.+)', r'\1.\2.conv3.\3'),
]
_CAFFE2_FIELDS = {
    'w': 'weight', 'bn_s': 'norm.gamma', 'bn_gamma': 'norm.gamma', 'bn_b': 'norm.beta',
    'bn_beta': 'norm.beta', 'bn_bias': 'norm.beta',
    'bn_rm': 'norm.running_mean', 'bn_running_mean': 'norm.running_mean',
    'bn_riv': 'norm.running_var', 'bn_running_var': 'norm.running_var'}


def detectron2_name(official: str) -> Optional[str]:
    """Our name of a parameter of Panoptic FPN or Mask R-CNN in detectron2, or None."""
    ours = rename(official, [*RESNET, *FPN, *_RCNN])
    return ours and rename(ours, NORM)


def caffe2_name(official: str) -> Optional[str]:
    """Our name, below the backbone, of a parameter of a Caffe2-style ResNet, or None."""
    ours = rename(official, _CAFFE2)
    if ours is None:
        return None
    layer, _, field = ours.rpartition('.')
    return f'{layer}.{_CAFFE2_FIELDS[field]}' if field in _CAFFE2_FIELDS else None


def convert(source: PathLike, target: PathLike, num_stuff: Optional[int] = None
            ) -> dict[str, Any]:
    """Turn an official checkpoint into ``target``, a ``.params`` file with a ``.json`` beside it.

    Returns ``{official name: our name}`` under 'mapped', names without a place here (anchors, the
    classifier of a backbone, ...) under 'unknown', and what it became under 'network'.

    Raises AdaptisError for a file that cannot be read, is of no known network or lacks
    parameters, or if ``num_stuff`` contradicts it.
    """
    arrays = read_checkpoint(source)
    family = _recognise(FAMILIES, arrays, source)
    mapped, ours = family.map(list(arrays)), family.arrays(arrays)
    if len(ours) < len(mapped):
        raise AdaptisError(f'{source} holds two parameters for one place of the network.')
    try:
        options = family.options(ours)
    except (KeyError, IndexError) as error:
        raise AdaptisError(f'{source} is no whole checkpoint of {family.title}: it lacks the '
                           f'parameter that becomes {error}.') from error
    if num_stuff not in (None, options.get('num_stuff')):
        raise AdaptisError(f'{source} has {options.get("num_stuff", "no")} stuff classes, '
                           f'not {num_stuff}.')
    _write(ours, options, Path(source), Path(target))
    return {'network': options['name'], 'mapped': mapped,
            'unknown': sorted(set(arrays) - set(mapped))}


def load_backbone(net: Any, path: PathLike) -> None:
    """Start an initialised network's backbone from ImageNet weights, all of it or nothing.

    ``path`` : a backbone that ``convert`` wrote, or the official file itself.

    What a classifier lacks, the offsets of deformable convolutions, stays as it is.  Raises
    AdaptisError if the file is neither or of another backbone, also one that halves the size in
    other convolutions.
    """
    from adaptis.inference.sidecar import read_sidecar
    from adaptis.model.zoo import read_arrays, set_parameters
    if not isinstance(path, (str, os.PathLike)):
        raise AdaptisError(f'pretrained_base is {path!r} but must be the file of a backbone.')
    if Path(path).suffix not in SUFFIXES:
        arrays, told = read_arrays(path), read_sidecar(path).get('model')
    else:
        official = read_checkpoint(path)
        family = _recognise(_CLASSIFIERS, official, path)
        ours = family.arrays(official)
        arrays = _nd(ours)
        try:
            told = family.options(ours)
        except KeyError:   # what is missing is said below
            told = None
    for backbone in net.backbones:
        _check_strides(backbone, told, path)
        for name, parameter in backbone._collect_params_with_prefix().items():
            if '.offset.' in name:
                arrays.setdefault(name, parameter.data(parameter.list_ctx()[0]))
        set_parameters(backbone, arrays, path)


def _check_strides(backbone: Any, told: Any, path: PathLike) -> None:
    """The shapes of a bottleneck do not say where its stride is."""
    ours = getattr(backbone, 'stride_in_1x1', None)
    theirs = told.get('stride_in_1x1') if isinstance(told, dict) else None
    if None not in (ours, theirs) and ours != theirs:
        sizes = ('3x3', '1x1')
        raise AdaptisError(f'{path} holds a ResNet with the strides in its {sizes[theirs]} '
                           f'convolutions, but this network has them in its {sizes[ours]} ones: '
                           f'give it {"torchvision" if theirs else "detectron2"}\'s.')


def _recognise(families: Sequence[Family], arrays: Arrays, source: PathLike) -> Family:
    for family in families:
        if set(family.needs) & set(family.map(list(arrays)).values()):
            return family
    titles = ' or '.join(family.title for family in families)
    raise AdaptisError(f'{source} is no checkpoint of {titles}: none of its {len(arrays)} '
                       f'parameters, for instance {next(iter(arrays))[:80]!a}, has a name of '
                       'theirs.')


def _write(ours: Arrays, options: dict[str, Any], source: Path, target: Path) -> None:
    from adaptis.model.zoo import save_model, set_parameters
    from panoptic_baselines.zoo import get_model
    info = {'converted_from': source.name}
    if options['name'] == 'backbone':
        from panoptic_baselines.layers.backbones import make_backbone
        net = make_backbone(options['backbone'])
        net.description = options
    else:
        net = get_model(**options)
    net.initialize()
    set_parameters(net, _nd(ours), source)
    save_model(net, target, info)


def _nd(arrays: Arrays) -> dict[str, Any]:
    from adaptis.runtime import mx
    return {name: mx.nd.array(array, dtype='float32') for name, array in arrays.items()}


def _network(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Which network the arrays describe, by their names and shapes."""
    instances = 'box_head.cls_score.weight' in arrays
    semantic = 'encoder.semantic_head.predictor.weight' in arrays
    alone = 'mask_rcnn' if instances else 'semantic_fpn'
    options = {'name': 'panoptic_fpn' if instances and semantic else alone,
               'fpn_channels': len(arrays['encoder.fpn.output2.bias']),
               'backbone': backbone_name(below(arrays, BACKBONE))}
    if instances:
        options['num_things'] = len(arrays['box_head.cls_score.bias']) - 1
        options['box_channels'] = len(arrays['box_head.fc1.bias'])
        options['mask_channels'] = len(arrays['mask_head.mask_fcn1.bias'])
    if semantic:
        head = 'encoder.semantic_head.'
        classes, width = arrays[head + 'predictor.weight'].shape[:2]
        options['num_stuff'] = classes - 1
        options['semantic_channels'] = len(arrays[head + 'p2.0.weight'])
        options['semantic_join'] = 'sum' if width == options['semantic_channels'] else 'concat'
    return options


def _classifier(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    from panoptic_baselines.layers.resnet import RECIPES
    name = backbone_name(arrays)
    return {'name': 'backbone', 'backbone': name, 'stride_in_1x1': RECIPES[name].stride_in_1x1}


_CLASSIFIERS: list[Family] = [
    Family('an ImageNet classifier of Caffe2', caffe2_name, ('stem.conv1.weight',),
           _classifier),
    DLA_CLASSIFIER,
    TORCHVISION,
]
FAMILIES: list[Family] = [
    Family('Panoptic FPN or Mask R-CNN (detectron2)', detectron2_name,
           ('box_head.cls_score.weight', 'encoder.semantic_head.predictor.weight'), _network),
    CONDINST,
    DENSE,
    *_CLASSIFIERS,
]
