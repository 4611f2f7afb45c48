"""U-Net feature extractor of the toy problem (section 6; official toy network)."""
from __future__ import annotations

from adaptis.model.layers import HybridBlock, conv_unit, nn, stack_units

MAX_CHANNELS = 512


class UNet(HybridBlock):
    """Features at full resolution: (B, 3, H, W) -> (B, width, H, W), for any H and W.

    Five levels of ``width * (1, 2, 4, 8, 16)`` channels, at most 512; two 3x3
    units per level, 2x2 max pooling that rounds sizes up, fixed bilinear
    upsampling, skip connections, and two final units with bias.

    Parameters
    ----------
    width : channels at full resolution; 32 in the paper
    in_channels : of the image
    levels : full resolution included; each halves the size of the one before
    """

    def __init__(self, width: int = 32, in_channels: int = 3, levels: int = 5):
        super().__init__()
        widths = [min(width << i, MAX_CHANNELS) for i in range(levels)]
        with self.name_scope():
            self.image_norm = nn.BatchNorm(in_channels=in_channels)
            self.pool = nn.MaxPool2D(2, 2, ceil_mode=True)
            self.down = nn.HybridSequential()
            for source, target in zip([in_channels] + widths, widths):
                self.down.add(_double_unit(source, target, target))
            self.up = nn.HybridSequential()
            below = widths[-1]
            for level in reversed(range(levels - 1)):
                skip = widths[level]
                self.up.add(UpLevel(below, skip, halve=level > 0))
                below = skip // 2 if level > 0 else skip
            self.final = stack_units([below, width, width])

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
    """Twice the size, joined with the skip connection.

    (B, below, ceil(h / 2), ceil(w / 2)), (B, skip, h, w) -> (B, skip or skip / 2, h, w).
    """

    def __init__(self, below: int, skip: int, halve: bool):
        super().__init__()
        with self.name_scope():
            self.upsample = _bilinear_upsampling(below, skip)
            self.reduce = conv_unit(skip, skip, kernel=1, bias=False)
            self.relu = nn.Activation('relu')
            self.join = _double_unit(2 * skip, skip, skip // 2 if halve else skip)

    def hybrid_forward(self, F, x, skip):
        x = self.relu(self.reduce(self.upsample(x)))
        x = F.slice_like(x, skip, axes=(2, 3))
        return self.join(F.concat(skip, x, dim=1))


def _double_unit(source: int, middle: int, target: int) -> HybridBlock:
    units = nn.HybridSequential()
    units.add(conv_unit(middle, source, bias=False), conv_unit(target, middle, bias=False))
    return units


def _bilinear_upsampling(source: int, target: int) -> HybridBlock:
    """Fixed transposed convolution; output channel g sums ``source / target`` input channels."""
    layer = nn.Conv2DTranspose(target, 4, strides=2, padding=1, groups=target, use_bias=False,
                               in_channels=source, weight_initializer='bilinear')
    layer.weight.grad_req = 'null'
    return layer
