"""The AdaptIS network (Sofiiuk, Barinova, Konushin, ICCV 2019; official code saic-vul/adaptis)."""
from __future__ import annotations

import numbers
from typing import Any, Sequence

from adaptis.errors import AdaptisError
from adaptis.model.layers import (
    COORDINATES,
    AdaIN,
    CoordinateMaps,
    HybridBlock,
    Normalize,
    PointConv,
    SamplePoints,
    conv_unit,
    nn,
    stack_units,
)
from adaptis.model.unet import UNet

HEAD_CHANNELS = 32


class Encoder(HybridBlock):
    """All that is computed once per image.

    (B, 3, H, W) RGB 0..255 -> features (B, C, h, w), query map (B, Q, h, w),
    semantic logits (B, K, h, w) and, with the proposal branch, proposal logits
    (B, 1, h, w).  That branch reads the features without sending a gradient back
    (section 3.5).
    """

    def __init__(self, backbone: HybridBlock, channels: int, num_classes: int,
                 mean: Sequence[float], std: Sequence[float], proposals: bool):
        super().__init__()
        with self.name_scope():
            self.normalize = Normalize(mean, std)
            self.backbone = backbone
            self.controller = stack_units([channels] * 4, kernel=1)
            self.semantic = stack_units([channels] + [HEAD_CHANNELS] * 3, last=num_classes)
            self.proposals = (stack_units([channels] + [HEAD_CHANNELS] * 2, last=1)
                              if proposals else None)

    def hybrid_forward(self, F, x):
        features = self.backbone(self.normalize(x))
        maps = features, self.controller(features), self.semantic(features)
        return maps if self.proposals is None else (*maps, self.proposals(F.BlockGrad(features)))


class PointHead(HybridBlock):
    """The mask of the object at each point (section 3.2, figure 2).

    features (B, C, h, w), query map (B, Q, h, w), points (B, N, 2) -> logits
    (B*N, 1, h, w), image by image, then point by point.
    """

    def __init__(self, channels: int, query_channels: int, coordinates: str, radius: float,
                 stride: int, epsilon: float, output_scale: float, output_shift: float):
        super().__init__()
        self._coordinates = coordinates
        self._output = output_scale, output_shift
        with self.name_scope():
            self.sample = SamplePoints(stride)
            self.coordinates = CoordinateMaps(coordinates, radius, stride)
            self.first = PointConv(channels, channels, COORDINATES[coordinates])
            self.before = nn.HybridSequential()
            self.before.add(nn.Activation('relu'), nn.BatchNorm(in_channels=channels),
                            conv_unit(channels, channels), conv_unit(channels, channels))
            self.adain = AdaIN(channels, query_channels, epsilon)
            self.after = stack_units([channels, channels // 2], last=1)

    def hybrid_forward(self, F, features, query_map, points):
        query = self.sample(query_map, points)
        coordinates = points if self._coordinates == 'none' else self.coordinates(features, points)
        x = self.first(features, coordinates, points)
        x = self.adain(self.before(x), query)
        scale, shift = self._output
        return self.after(x) * scale + shift


class AdaptIS(HybridBlock):
    """Class-agnostic instance masks from points, beside semantics and point proposals.

    Parameters
    ----------
    width : channels of features and heads; 32 in the paper's toy experiments
    num_classes, num_stuff : classes of the semantic branch, stuff first
    coordinates : 'relative' (Relative CoordConv), 'absolute' (CoordConv) or 'none'
    radius : extent of the relative coordinates, in image pixels (42 in the toy network)
    epsilon : of AdaIN; ignored when ``official``
    official : reproduce the official code where it has a flaw (AdaIN without epsilon)
    proposals : whether there is a proposal branch; without it points are drawn at random
    mean, std : of the input, on a scale of 0 to 1

    Raises AdaptisError for an option that makes no sense.

    Called with images (B, 3, H, W) RGB 0..255 and points (B, N, 2), (row, col) in
    pixels, it returns instance logits (B*N, 1, H, W), semantic logits (B, K, H, W)
    and, with the proposal branch, proposal logits at the points (B*N, 1).
    """

    stride = 1
    """Image pixels per pixel of the features and of what is computed from them."""

    def __init__(self, *, width: int = 32, num_classes: int = 2, num_stuff: int = 1,
                 coordinates: str = 'relative', radius: float = 42.0, epsilon: float = 1e-5,
                 official: bool = False, proposals: bool = True,
                 mean: Sequence[float] = (0.5, 0.5, 0.5),
                 std: Sequence[float] = (0.5, 0.5, 0.5)):
        super().__init__()
        _demand(numbers.Integral, 'a whole number', width=width, num_classes=num_classes,
                num_stuff=num_stuff)
        _demand(numbers.Real, 'a number', radius=radius, epsilon=epsilon)
        _demand(bool, 'true or false', official=official, proposals=proposals)
        _check_options(width, num_classes, num_stuff, coordinates, radius, epsilon)
        _check_normalisation(mean, std)
        self.num_classes = num_classes
        self.num_stuff = num_stuff
        self.has_proposals = proposals
        with self.name_scope():
            self.encoder = Encoder(UNet(width), width, num_classes, mean, std,
                                   proposals)
            self.point_head = PointHead(width, width, coordinates, radius, self.stride,
                                        0.0 if official else epsilon,
                                        output_scale=0.2, output_shift=-1.7)
            self.sample_proposals = SamplePoints(self.stride)

    def hybrid_forward(self, F, x, points):
        features, query_map, semantic, *proposals = self.encoder(x)
        instances = self.point_head(features, query_map, points)
        return (instances, semantic, *(self.sample_proposals(p, points) for p in proposals))


def _demand(kind: type, what: str, **options: Any) -> None:
    """Options come from YAML and JSON files, where anything may stand."""
    for name, value in options.items():
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise AdaptisError(f'{name} is {value!r}: it must be {what}.')


def _check_options(width: int, num_classes: int, num_stuff: int, coordinates: str,
                   radius: float, epsilon: float) -> None:
    if width < 2 or width % 2:
        raise AdaptisError(f'width is {width}: it must be an even number of channels, 2 or more.')
    if not 0 <= num_stuff < num_classes:
        raise AdaptisError(f'num_stuff is {num_stuff} of {num_classes} classes: '
                           'there must be at least one class of things.')
    if coordinates not in list(COORDINATES):
        raise AdaptisError(f'coordinates is {coordinates!r}: choose one of {sorted(COORDINATES)}.')
    if not radius > 0:
        raise AdaptisError(f'radius is {radius}: it must be more than 0 pixels.')
    if not epsilon >= 0:
        raise AdaptisError(f'epsilon is {epsilon}: it must be 0 or more.')


def _check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    for name, values in (('mean', mean), ('std', std)):
        if not isinstance(values, (list, tuple)) or len(values) != 3:
            raise AdaptisError(f'{name} is {values!r}: it must be three numbers, for R, G and B.')
        for value in values:
            _demand(numbers.Real, 'three numbers', **{name: value})
    if not min(std) > 0:
        raise AdaptisError(f'std is {std}: it must be more than 0.')
