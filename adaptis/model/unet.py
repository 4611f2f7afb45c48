"""The network of the toy problem (section 6; official toy network)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from adaptis.model.adaptis import AdaptIS, Encoder, PointHead, make_coordinates
from adaptis.model.layers import (
    COORDINATES,
    AdaIN,
    HybridBlock,
    Norm,
    Normalize,
    PointConv,
    batch_norm,
    conv_unit,
    nn,
    stack_units,
)
from adaptis.model.options import check_common, check_normalisation, check_width, make_norm
from adaptis.runtime import mx

MAX_CHANNELS = 512
HEAD_CHANNELS = 32


class ToyAdaptIS(AdaptIS):
    """AdaptIS for the toy problem: a U-Net, and heads at the resolution of the image.

    Parameters
    ----------
    width : channels of features and heads; 32 in the official toy network
    num_classes, num_stuff : classes of the semantic branch, stuff first
    coordinates : 'relative' (Relative CoordConv), 'absolute' (CoordConv) or 'none'
    radius : extent of the relative coordinates, in image pixels
    epsilon : epsilon of AdaIN; ignored if ``official``
    official : reproduce the official code's AdaIN without epsilon
    proposals : whether there is a proposal branch; without it points are drawn at random
    mean, std : normalisation of the input, on a scale of 0 to 1
    norm_layer, norm_kwargs : 'BatchNorm' or 'SyncBatchNorm', and its options

    Raises AdaptisError for an invalid option.
    """

    def __init__(self, *, width: int = 32, num_classes: int = 2, num_stuff: int = 1,
                 coordinates: str = 'relative', radius: float = 42.0, epsilon: float = 1e-5,
                 official: bool = False, proposals: bool = True,
                 mean: Sequence[float] = (0.5, 0.5, 0.5),
                 std: Sequence[float] = (0.5, 0.5, 0.5), norm_layer: str = 'BatchNorm',
                 norm_kwargs: Optional[Mapping[str, Any]] = None):
        super().__init__()
        check_width(width, 2)
        check_common(num_classes, num_stuff, coordinates, radius, epsilon, official, proposals)
        check_normalisation(mean, std)
        norm = make_norm(norm_layer, norm_kwargs)
        head = [width] + [HEAD_CHANNELS] * 3
        with self.name_scope():
            encoder = Encoder(
                Normalize(mean, std), UNet(width, norm=norm),
                stack_units([width] * 4, kernel=1, norm=norm),
                stack_units(head, last=num_classes, norm=norm),
                stack_units(head[:3], last=1, norm=norm) if proposals else None)
            before = nn.HybridSequential()
            before.add(nn.Activation('relu'), norm(width), conv_unit(width, width, norm=norm),
                       conv_unit(width, width, norm=norm))
            point_head = PointHead(
                self.stride, make_coordinates(coordinates, radius, self.stride), None,
                PointConv(width, width, COORDINATES[coordinates]), before,
                AdaIN(width, width, 0.0 if official else epsilon),
                stack_units([width, width // 2], last=1, norm=norm), scale=0.2, shift=-1.7)
            self._assemble(encoder, point_head, num_classes, num_stuff)


class UNet(HybridBlock):
    """Features at full resolution: (B, 3, H, W) -> (B, width, H, W), for any H and W.

    Five levels of ``width * (1, 2, 4, 8, 16)`` channels, at most 512; two 3x3 units per level, 2x2
    max pooling that rounds sizes up, fixed bilinear upsampling, skip connections, and two final
    units with bias.

    Parameters
    ----------
    width : channels at full resolution; 32 in the official toy network
    in_channels : channels of the image
    levels : number of levels, including full resolution; each halves the size of the previous one
    norm : creates the normalisation layers
    """

    def __init__(self, width: int = 32, in_channels: int = 3, levels: int = 5,
                 norm: Norm = batch_norm):
        super().__init__()
        widths = [min(width << i, MAX_CHANNELS) for i in range(levels)]
        with self.name_scope():
            self.image_norm = norm(in_channels)
            self.pool = nn.MaxPool2D(2, 2, ceil_mode=True)
            self.down = nn.HybridSequential()
            for source, target in zip([in_channels] + widths, widths):
                self.down.add(_double_unit(source, target, target, norm))
            self.up = nn.HybridSequential()
            below = widths[-1]
            for level in reversed(range(levels - 1)):
                skip = widths[level]
                self.up.add(UpLevel(below, skip, level > 0, norm))
                below = skip // 2 if level > 0 else skip
            self.final = stack_units([below, width, width], norm=norm)

    def hybrid_forward(self, F, x):
        x = self.image_norm(x)
        skips = []
        for i, level in enumerate(self.down):
            x = level(self.pool(x) if i else x)
            skips.append(x)
        skips.pop()
        for level in self.up:
            x = level(x, skips.pop())
        return self.final(x)


class UpLevel(HybridBlock):
    """Doubles the size and joins the result with the skip connection.

    (B, below, ceil(h / 2), ceil(w / 2)), (B, skip, h, w) -> (B, skip or skip / 2, h, w).
    """

    def __init__(self, below: int, skip: int, halve: bool, norm: Norm):
        super().__init__()
        with self.name_scope():
            self.upsample = _bilinear_upsampling(below, skip)
            self.reduce = conv_unit(skip, skip, kernel=1, bias=False, norm=norm)
            self.relu = nn.Activation('relu')
            self.join = _double_unit(2 * skip, skip, skip // 2 if halve else skip, norm)

    def hybrid_forward(self, F, x, skip):
        x = self.relu(self.reduce(self.upsample(x)))
        if F is not mx.nd or x.shape[2:] != skip.shape[2:]:  # it copies in any case
            x = F.slice_like(x, skip, axes=(2, 3))
        return self.join(F.concat(skip, x, dim=1))


def _double_unit(source: int, middle: int, target: int, norm: Norm) -> HybridBlock:
    units = nn.HybridSequential()
    units.add(conv_unit(middle, source, bias=False, norm=norm),
              conv_unit(target, middle, bias=False, norm=norm))
    return units


def _bilinear_upsampling(source: int, target: int) -> HybridBlock:
    """Fixed transposed convolution; output channel g sums ``source / target`` input channels."""
    layer = nn.Conv2DTranspose(target, 4, strides=2, padding=1, groups=target, use_bias=False,
                               in_channels=source, weight_initializer='bilinear')
    layer.weight.grad_req = 'null'
    return layer
