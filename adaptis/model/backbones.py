"""Backbones with ImageNet weights: GluonCV networks without their classifiers."""
from __future__ import annotations

import os
import textwrap
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.model.layers import HybridBlock, nn
from adaptis.model.options import check_norm_kwargs, norm_class
from adaptis.runtime import mx

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Architecture(NamedTuple):
    """A network of GluonCV: its module, its name, and the channels of its stages."""

    module: str
    name: str
    channels: tuple[int, int, int, int]


_NARROW, _WIDE = (64, 128, 256, 512), (256, 512, 1024, 2048)
BACKBONES: dict[str, Architecture] = {
    'resnet18': Architecture('resnetv1b', 'resnet18_v1b', _NARROW),
    'resnet34': Architecture('resnetv1b', 'resnet34_v1b', _NARROW),
    'resnet50': Architecture('resnetv1b', 'resnet50_v1s', _WIDE),
    'resnet101': Architecture('resnetv1b', 'resnet101_v1s', _WIDE),
    'resnext50_32x4d': Architecture('resnext', 'resnext50_32x4d', _WIDE),
    'resnext101_32x4d': Architecture('resnext', 'resnext101_32x4d', _WIDE),
    'resnext101_64x4d': Architecture('resnext', 'resnext101_64x4d', _WIDE),
}


class Trunk(HybridBlock):
    """Computes the outputs of the four stages for normalised images (B, 3, H, W).

    They are 4, 8, 16 and 32 times smaller than the image; if dilated, 4, 8, 8 and 8 times.

    Parameters
    ----------
    stem, stages : blocks of the network, in order
    channels : channels of the stages
    """

    def __init__(self, stem: Sequence[HybridBlock], stages: Sequence[HybridBlock],
                 channels: tuple[int, ...]):
        super().__init__()
        self.channels = channels
        with self.name_scope():
            self.stem = nn.HybridSequential()
            self.stem.add(*stem)
            self.stages = nn.HybridSequential()
            self.stages.add(*stages)

    def hybrid_forward(self, F, x):
        x = self.stem(x)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return tuple(outputs)


def make_trunk(backbone: str, dilated: bool, pretrained: bool, norm_layer: str = 'BatchNorm',
               norm_kwargs: Optional[Mapping[str, Any]] = None) -> Trunk:
    """Return a network of GluonCV by one of the names in ``BACKBONES``; all shapes are known.

    Parameters
    ----------
    dilated : dilate the last two stages, which then do not halve the size
    pretrained : start from GluonCV's ImageNet weights, which are downloaded once; initialising the
        parameters later sets these values

    Raises AdaptisError if the network is unknown, or its weights cannot be downloaded.
    """
    if not isinstance(backbone, str) or backbone not in BACKBONES:
        raise AdaptisError(f'backbone is {backbone!r}: choose one of {sorted(BACKBONES)}.')
    architecture = BACKBONES[backbone]
    constructor = _constructor(architecture)
    options = {'norm_layer': norm_class(norm_layer),
               'norm_kwargs': check_norm_kwargs(norm_layer, norm_kwargs)}
    if architecture.module == 'resnext':
        parts_of, net = _resnext_parts, constructor(**options)
        if dilated:
            _dilate(net)
    else:
        parts_of, net = _resnet_parts, constructor(dilated=dilated, **options)
    trunk = Trunk(*parts_of(net), architecture.channels)
    trunk.infer_shape(mx.nd.zeros((1, 3, 64, 64)))
    trunk.hybridize(False)   # drops the graph that infer_shape created
    if pretrained:
        source = _download(constructor, architecture.name)
        _start_from(Trunk(*parts_of(source), architecture.channels), trunk)
    return trunk


def _constructor(architecture: Architecture) -> Callable[..., HybridBlock]:
    from adaptis.runtime import gluoncv  # takes seconds, and the toy network does not need it
    return getattr(getattr(gluoncv.model_zoo, architecture.module), architecture.name)


def _resnet_parts(net: HybridBlock) -> tuple[list[HybridBlock], list[HybridBlock]]:
    return ([net.conv1, net.bn1, net.relu, net.maxpool],
            [net.layer1, net.layer2, net.layer3, net.layer4])


def _resnext_parts(net: HybridBlock) -> tuple[list[HybridBlock], list[HybridBlock]]:
    layers = list(net.features)
    stages = [layer for layer in layers if isinstance(layer, nn.HybridSequential)]
    return layers[:layers.index(stages[0])], stages


def _dilate(resnext: HybridBlock) -> None:
    """Dilate the last two stages, as GluonCV does for its ResNets but not for its ResNeXts.

    This changes convolutions that have not been used yet; their weights stay the same.
    """
    *_, third, fourth = _resnext_parts(resnext)[1]
    for stage, dilation in ((third, 2), (fourth, 4)):
        for i, block in enumerate(stage):
            rate = dilation if i else dilation // 2
            for layer in [*block.body, *(block.downsample or [])]:
                if isinstance(layer, nn.Conv2D):
                    layer._kwargs['stride'] = 1, 1
                    if layer._kwargs['kernel'] == (3, 3):
                        layer._kwargs.update(dilate=(rate, rate), pad=(rate, rate))


def _download(constructor: Callable[..., HybridBlock], name: str) -> HybridBlock:
    """Return the network with its ImageNet weights."""
    from adaptis.runtime import gluoncv  # takes seconds, and the toy network does not need it
    store = gluoncv.model_zoo.model_store
    try:
        return constructor(pretrained=True)
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        folder = os.path.join(os.environ.get('MXNET_HOME', os.path.join('~', '.mxnet')), 'models')
        reason = textwrap.shorten(str(error), 100, placeholder=' ...') or type(error).__name__
        raise AdaptisError(
            f'The ImageNet weights of {name} cannot be downloaded by GluonCV ({reason}): connect '
            f'to the internet, or put {name}-{store.short_hash(name)}.params into {folder}, or '
            'set pretrained_base to false.') from error


def _start_from(source: Trunk, trunk: Trunk) -> None:
    """Make every later initialisation, on any device, use the values of ``source``."""
    values = source._collect_params_with_prefix()
    for key, parameter in trunk._collect_params_with_prefix().items():
        parameter.init = _Pretrained(values[key].data().asnumpy())


class _Pretrained(mx.init.Initializer):
    """Initialises one parameter with given values."""

    def __init__(self, value: np.ndarray):
        super().__init__()   # without the value, because options are written to exported graphs
        self._value = value

    def _init_weight(self, _name, array):
        array[:] = self._value
