"""ResNet and ResNeXt for detectors: four stages of feature maps, usually with frozen norms.

GluonCV's networks have biases in the 1x1 convolutions or other strides.  So they do not fit the
weights that the published detectors start from.
"""
from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional, Union

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.layers.deformable import DeformableConvNorm
from panoptic_baselines.layers.norm import ConvNorm

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class ResNetSpec(NamedTuple):
    """The properties in which backbones differ.

    ``mean`` is subtracted from images, which are then divided by ``std``.  ``stride_in_1x1``: the
    first 1x1 convolution of a stage halves the size, as in the original ResNet, instead of its 3x3
    convolution, as in later ResNets.
    """

    blocks: tuple[int, int, int, int]
    bottleneck: bool = True
    groups: int = 1
    width: int = 64
    stride_in_1x1: bool = True
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


RESNET_SPECS = {
    'resnet18': ResNetSpec((2, 2, 2, 2), bottleneck=False),
    'resnet34': ResNetSpec((3, 4, 6, 3), bottleneck=False),
    'resnet50': ResNetSpec((3, 4, 6, 3)),
    'resnet101': ResNetSpec((3, 4, 23, 3)),
    'resnet152': ResNetSpec((3, 8, 36, 3)),
    'resnext101_32x8d': ResNetSpec((3, 4, 23, 3), groups=32, width=8, stride_in_1x1=False,
                                   std=IMAGENET_STD),
    'resnext152_32x8d': ResNetSpec((3, 8, 36, 3), groups=32, width=8, stride_in_1x1=False,
                                   std=IMAGENET_STD),
}


def get_resnet_spec(name: str) -> ResNetSpec:
    """Return the specification of a ResNet; AdaptisError for an unknown name."""
    if not isinstance(name, str) or name not in RESNET_SPECS:
        raise AdaptisError(f'There is no backbone "{name}": choose one of {sorted(RESNET_SPECS)}.')
    return RESNET_SPECS[name]


class ResNet(HybridBlock):
    """(B, 3, H, W) -> feature maps at strides 4, 8, 16, 32, with ``channels`` channels.

    ``mean`` and ``std`` (RGB) are what the ImageNet weights expect.

    Parameters
    ----------
    spec : properties of the network, see ``ResNetSpec``
    norm_layer : 'FrozenBatchNorm', 'BatchNorm', 'SyncBatchNorm', or a class
    norm_kwargs : options of the normalisation layers
    deformable_stages : which of the stages 2 to 5 have deformable 3x3 convolutions (in basic
        blocks, the second convolution is deformable)
    deformable_interval : 3 = every third block of such a stage has one, starting with the first
    modulated : whether deformable convolutions also weight the pixels that they sample

    Raises AdaptisError for stages that do not exist.

    Children: ``stem.conv1``, then ``res2`` to ``res5``, each a sequence of blocks with
    ``conv1`` to ``conv3`` (basic blocks: to ``conv2``) and, where the shape changes, ``shortcut``.
    """

    def __init__(self, spec: ResNetSpec, norm_layer: Union[str, type] = 'FrozenBatchNorm',
                 norm_kwargs: Optional[Mapping[str, Any]] = None,
                 deformable_stages: Sequence[int] = (), deformable_interval: int = 1,
                 modulated: bool = True):
        super().__init__()
        check_deformable(deformable_stages, deformable_interval)
        norm = dict(norm_layer=norm_layer, norm_kwargs=norm_kwargs)
        deformable = functools.partial(DeformableConvNorm, modulated=modulated)
        expansion = 4 if spec.bottleneck else 1
        self.mean, self.std = spec.mean, spec.std
        self.stride_in_1x1 = spec.stride_in_1x1 if spec.bottleneck else None
        self.channels = [64 * expansion * 2 ** i for i in range(4)]
        with self.name_scope():
            self.stem = Stem(norm)
            source = 64
            for i, count in enumerate(spec.blocks):
                layers = [deformable if i + 2 in deformable_stages and not k % deformable_interval
                          else ConvNorm for k in range(count)]
                setattr(self, f'res{i + 2}', _stage(spec, i, layers, source, norm))
                source = self.channels[i]

    @property
    def stages(self) -> list[HybridBlock]:
        """The stem and the four stages."""
        return [self.stem, self.res2, self.res3, self.res4, self.res5]

    def freeze(self, stages: int) -> None:
        """Freeze the first ``stages`` of: stem, res2, ..., res5 (detectors freeze 2).

        Raises AdaptisError if this is not a whole number from 0 to 5.
        """
        if type(stages) is not int or not 0 <= stages <= 5:
            raise AdaptisError(f'A ResNet has 5 stages, so {stages} of them cannot be frozen: '
                               'choose a whole number from 0 to 5.')
        for stage in self.stages[:stages]:
            stage.collect_params().setattr('grad_req', 'null')

    def hybrid_forward(self, F, x):
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features[1:]


class Stem(HybridBlock):
    """7x7 convolution and max-pooling: stride 4, 64 channels."""

    def __init__(self, norm: Mapping[str, Any]):
        super().__init__()
        with self.name_scope():
            self.conv1 = ConvNorm(64, 3, 7, 2, **norm)

    def hybrid_forward(self, F, x):
        return F.Pooling(self.conv1(x), kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type='max')


class Basic(HybridBlock):
    """Two 3x3 convolutions and a shortcut; ``layer`` makes the second convolution."""

    def __init__(self, channels: int, in_channels: int, strides: int, norm: Mapping[str, Any],
                 layer: Callable[..., HybridBlock] = ConvNorm):
        super().__init__()
        with self.name_scope():
            self.conv1 = ConvNorm(channels, in_channels, 3, strides, **norm)
            self.conv2 = layer(channels, channels, 3, relu=False, **norm)
            self.shortcut = _shortcut(channels, in_channels, strides, norm)

    def hybrid_forward(self, F, x):
        y = self.conv2(self.conv1(x))
        return F.Activation(y + (self.shortcut(x) if self.shortcut else x), 'relu')


class Bottleneck(HybridBlock):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; ``layer`` makes the 3x3 convolution."""

    def __init__(self, channels: int, in_channels: int, width: int, strides: int, groups: int,
                 stride_in_1x1: bool, norm: Mapping[str, Any],
                 layer: Callable[..., HybridBlock] = ConvNorm):
        super().__init__()
        first, second = (strides, 1) if stride_in_1x1 else (1, strides)
        with self.name_scope():
            self.conv1 = ConvNorm(width, in_channels, 1, first, **norm)
            self.conv2 = layer(width, width, 3, second, groups, **norm)
            self.conv3 = ConvNorm(channels, width, 1, relu=False, **norm)
            self.shortcut = _shortcut(channels, in_channels, strides, norm)

    def hybrid_forward(self, F, x):
        y = self.conv3(self.conv2(self.conv1(x)))
        return F.Activation(y + (self.shortcut(x) if self.shortcut else x), 'relu')


def _shortcut(channels: int, in_channels: int, strides: int,
              norm: Mapping[str, Any]) -> Optional[HybridBlock]:
    if channels == in_channels and strides == 1:
        return None
    return ConvNorm(channels, in_channels, 1, strides, relu=False, **norm)


def check_deformable(stages: Sequence[int], interval: int) -> None:
    """Raise AdaptisError if ``deformable_stages`` or ``deformable_interval`` is invalid."""
    if not isinstance(stages, (list, tuple)) or any(stage not in (2, 3, 4, 5) for stage in stages):
        raise AdaptisError(f'deformable_stages is {stages!r} but must be a list of stages from 2 '
                           'to 5.')
    if not isinstance(interval, int) or interval < 1:
        raise AdaptisError(f'deformable_interval is {interval!r} but must be a whole number, at '
                           'least 1.')


def _stage(spec: ResNetSpec, index: int, layers: Sequence[Callable[..., HybridBlock]], source: int,
           norm: Mapping[str, Any]) -> HybridBlock:
    """Return the blocks of a stage; ``layers`` lists the class of each block's 3x3 convolution."""
    stage = nn.HybridSequential()
    width = spec.groups * spec.width * 2 ** index
    channels = 256 * 2 ** index if spec.bottleneck else width
    for i, layer in enumerate(layers):
        strides = 2 if index and not i else 1
        stage.add(Bottleneck(channels, source, width, strides, spec.groups,
                             spec.stride_in_1x1, norm, layer)
                  if spec.bottleneck else Basic(channels, source, strides, norm, layer))
        source = channels
    return stage
