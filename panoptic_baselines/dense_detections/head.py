"""The head of dense detections (Hou et al. 2020, section 4.2 and figure 3)."""
from __future__ import annotations

import math

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.dense_detections.interpolate import PyramidConv, resize_like
from panoptic_baselines.fcos.head import PRIOR_BIAS, Scale, Tower

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock

LEVELS = 5
GROUP = 8
"""Channels per group of the towers' group normalisation."""
MAX_OFFSET = 10000.0


class DenseHead(HybridBlock):
    """p3, ..., p7 (B, C, h, w) -> a flat list of maps.

    Class logits (B, num_things, h, w) of each level, distances (B, 4, h, w) in pixels, centerness
    logits (B, 1, h, w), semantic logits (B, num_semantic, H, W) at ``semantic_stride``, and
    levelness logits (B, 6, H, W) at stride 4, background first.

    Parameters
    ----------
    in_channels, num_things, num_semantic : see above
    class_channels, box_channels : widths of the two towers, multiples of 8
    two_towers : whether there is a ``class_tower`` beside ``box_tower``
    levelness : whether there are levelness logits
    semantic_stride : 8 or 4
    """

    def __init__(self, in_channels: int, num_things: int, num_semantic: int,
                 class_channels: int = 128, box_channels: int = 256, two_towers: bool = True,
                 levelness: bool = True, semantic_stride: int = 8):
        super().__init__()
        self._semantic_stride = semantic_stride
        if not two_towers:
            class_channels = box_channels
        with self.name_scope():
            self.class_tower = _tower(class_channels, in_channels) if two_towers else None
            self.box_tower = _tower(box_channels, in_channels)
            # The official code puts this bias on the semantic logits, which have no focal loss.
            self.class_logits = nn.Conv2D(num_things, 3, padding=1, in_channels=class_channels,
                                          bias_initializer=mx.init.Constant(PRIOR_BIAS))
            self.box_offsets = nn.Conv2D(4, 3, padding=1, in_channels=box_channels)
            self.centerness = nn.Conv2D(1, 3, padding=1, in_channels=box_channels)
            self.scales = nn.HybridSequential()
            self.scales.add(*(Scale() for _ in range(LEVELS)))
            self.semantic = nn.Conv2D(num_semantic, 3, padding=1,
                                      in_channels=LEVELS * class_channels)
            self.levelness = PyramidConv(1 + LEVELS, box_channels, LEVELS) if levelness else None

    def towers(self, *features):
        """Return the last features of the class tower and of the box tower, for every level."""
        boxes = [self.box_tower(x) for x in features]
        return ([self.class_tower(x) for x in features] if self.class_tower else boxes), boxes

    def distances(self, F, raw):
        """Convert the outputs of ``box_offsets`` of every level to distances in pixels."""
        return [F.exp(F.minimum(scale(x), math.log(MAX_OFFSET)))
                for scale, x in zip(self.scales, raw)]

    def hybrid_forward(self, F, *features):
        classes, boxes = self.towers(*features)
        grid = levelness_grid(F, features[0])
        like = features[0] if self._semantic_stride == 8 else grid
        joint = [x if i == 0 and like is not grid else resize_like(F, x, like)
                 for i, x in enumerate(classes)]
        outputs = [*(self.class_logits(x) for x in classes),
                   *self.distances(F, [self.box_offsets(x) for x in boxes]),
                   *(self.centerness(x) for x in boxes),
                   self.semantic(F.concat(*joint, dim=1))]
        if self.levelness is not None:
            outputs.append(self.levelness(grid, *boxes))
        return outputs


def levelness_grid(F, p3):
    """Return zeros (B, 1, 2 * h, 2 * w), the size of the levelness grid."""
    one = F.BlockGrad(F.slice_axis(p3, axis=1, begin=0, end=1)) * 0
    return F.UpSampling(one, scale=2, sample_type='nearest')


def _tower(channels: int, in_channels: int) -> HybridBlock:
    if channels % GROUP:
        raise AdaptisError(f'A tower of {channels} channels cannot be normalised in groups of '
                           f'{GROUP}: choose a multiple of {GROUP}.')
    return Tower(channels, in_channels, num_groups=channels // GROUP)
