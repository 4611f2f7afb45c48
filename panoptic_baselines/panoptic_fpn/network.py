r"""Panoptic FPN (Kirillov et al. 2019) with Mask R-CNN, and each of its branches alone.

The network ``PanopticFPN`` has three graphs.  Each is hybridized once and then runs at any size::

    encoder                  everything dense, as one graph
      backbone               ResNet: stem.conv1, res2 ... res5 (layers/resnet.py)
      fpn                    lateral2 ... lateral5, output2 ... output5 (layers/fpn.py)
      rpn                    conv, objectness_logits, anchor_deltas (rcnn/heads.py)
      semantic_head          p2 ... p5, predictor (layers/semantic.py)
    box_head                 fc1, fc2, cls_score, bbox_pred (rcnn/heads.py)
    mask_head                mask_fcn1 ... mask_fcn4, deconv, predictor (rcnn/heads.py);
                             net.mask_head(pooled, classes) returns only the mask of that class
    semantic_encoder         if the branches are separate: a second encoder, which has the
                             semantic_head instead of the first one

A convolution with a norm is one layer: ``conv1.weight``, ``conv1.norm.gamma``, ``.norm.beta``,
``.norm.running_mean``, ``.norm.running_var``.  ``panoptic_fpn/convert.py`` translates official
names into ours::

    backbone.bottom_up.       -> encoder.backbone.
    backbone.fpn_(lateral|output)N.  -> encoder.fpn.\1N.
    proposal_generator.rpn_head.     -> encoder.rpn.
    sem_seg_head.             -> encoder.semantic_head.
    roi_heads.box_head. and roi_heads.box_predictor.  -> box_head.
    roi_heads.mask_head.      -> mask_head.
    .norm.weight, .norm.bias  -> .norm.gamma, .norm.beta

The arrays stay the same: even the input channels of ``stem.conv1`` keep the official order (BGR).
Images are RGB here, and the network reverses their channels itself.  Between the graphs, NumPy
selects proposals from the RPN's outputs, pools features and selects detections
(rcnn/inference.py).
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.arguments import check_choice, check_counts, check_numbers
from panoptic_baselines.base_network import BaseNetwork
from panoptic_baselines.initializers import set_initializers
from panoptic_baselines.layers.fpn import FPN
from panoptic_baselines.layers.image_encoder import ImageEncoder
from panoptic_baselines.layers.resnet import ResNet, get_resnet_spec
from panoptic_baselines.layers.semantic import SemanticHead
from panoptic_baselines.panoptic_fpn.inference import Maps, PanopticFPNInference
from panoptic_baselines.rcnn.heads import BoxHead, MaskHead, RPNHead
from panoptic_baselines.rcnn.inference import NUM_LEVELS

HybridBlock = mx.gluon.HybridBlock


class PanopticFPN(PanopticFPNInference, BaseNetwork):
    """Panoptic FPN, or one of its two branches alone.

    Parameters
    ----------
    backbone : 'resnet18', 34, 50, 101, 152, 'resnext101_32x8d', 'resnext152_32x8d'
    num_things, num_stuff : numbers of thing and stuff classes; ``num_stuff`` may be 0 without the
        semantic branch, and ``num_things`` without the instance branch
    instances, semantic : which of the two branches the network has (at least one)
    merge_things : whether the first class of the semantic branch stands for all things, followed by
        the stuff classes (section 3.1); if False, each class has its own, stuff first (for Semantic
        FPN alone)
    fpn_channels : width of the pyramid
    grouped_fpn : whether each branch sees only its own half of these channels (table 3d)
    separate : whether each branch has its own backbone and pyramid, like two networks whose results
        are merged (table 3a); ``panoptic_fpn.join`` creates such a network from a trained Mask
        R-CNN and a trained Semantic FPN
    semantic_channels : width of the semantic branch (table 1c)
    semantic_join : 'sum' or 'concat' of its levels (table 1d)
    box_channels, mask_channels : widths of the RoI heads
    anchor_sizes : side of the square anchor of each of p2, ..., p6, in pixels
    mean, std : RGB mean and standard deviation of the image; by default those of the backbone's
        ImageNet weights
    norm_layer, norm_kwargs : norm of the backbone

    Images are (B, 3, H, W), RGB, 0..255, where H and W are multiples of 32.  Padding has the colour
    ``mean``.  Raises AdaptisError for an invalid argument.
    """

    def __init__(self, *, backbone: str = 'resnet50', num_things: int = 80, num_stuff: int = 53,
                 instances: bool = True, semantic: bool = True, merge_things: bool = True,
                 fpn_channels: int = 256, grouped_fpn: bool = False, separate: bool = False,
                 semantic_channels: int = 128, semantic_join: str = 'sum',
                 box_channels: int = 1024, mask_channels: int = 256,
                 anchor_sizes: Sequence[float] = (32, 64, 128, 256, 512),
                 mean: Optional[Sequence[float]] = None, std: Optional[Sequence[float]] = None,
                 norm_layer: Union[str, type] = 'FrozenBatchNorm',
                 norm_kwargs: Optional[Mapping[str, Any]] = None):
        super().__init__()
        spec = get_resnet_spec(backbone)
        if not instances and not semantic:
            raise AdaptisError('A network needs instances, semantic or both.')
        if semantic or num_stuff != 0:   # a pure detector needs no stuff
            check_counts(num_stuff=num_stuff)
        if instances or num_things != 0:
            check_counts(num_things=num_things)
        check_counts(fpn_channels=fpn_channels,
                     semantic_channels=semantic_channels, box_channels=box_channels,
                     mask_channels=mask_channels)
        if grouped_fpn and fpn_channels % 2:
            raise AdaptisError(f'fpn_channels is {fpn_channels}, but two branches share them: '
                               'choose an even number.')
        check_choice('separate', separate, (True, False))
        if separate and (grouped_fpn or not (instances and semantic)):
            raise AdaptisError('separate needs a network with both branches and without '
                               'grouped_fpn: set instances and semantic to true and grouped_fpn '
                               'to false, or separate to false.')
        check_numbers('anchor_sizes', anchor_sizes, NUM_LEVELS, positive=True)
        self.num_things, self.num_stuff = num_things, num_stuff
        self.merge_things = merge_things
        self.num_semantic = num_stuff + (1 if merge_things else num_things)
        self.mean = check_numbers('mean', spec.mean if mean is None else mean, 3)
        self.std = check_numbers('std', spec.std if std is None else std, 3, positive=True)
        self.anchor_sizes = tuple(anchor_sizes)
        self.roi_channels = width = fpn_channels // 2 if grouped_fpn else fpn_channels
        with self.name_scope():
            head = SemanticHead(width, self.num_semantic, semantic_channels,
                                semantic_join) if semantic else None
            self.encoder = Encoder(
                ResNet(spec, norm_layer, norm_kwargs), fpn_channels, grouped_fpn,
                RPNHead(width) if instances else None, None if separate else head,
                self.mean, self.std)
            self.semantic_encoder = Encoder(
                ResNet(spec, norm_layer, norm_kwargs), fpn_channels, False, None, head,
                self.mean, self.std) if separate else None
            self.box_head = BoxHead(width, num_things, box_channels) if instances else None
            self.mask_head = MaskHead(width, num_things, mask_channels) if instances else None
        set_initializers(self)

    @property
    def has_instances(self) -> bool:
        """Whether the network has a Mask R-CNN."""
        return self.box_head is not None

    @property
    def has_semantic(self) -> bool:
        """Whether the network has a semantic branch."""
        return self.is_separate or self.encoder.semantic_head is not None

    @property
    def is_separate(self) -> bool:
        """Whether each branch has its own backbone and pyramid."""
        return self.semantic_encoder is not None

    @property
    def backbones(self) -> list[Any]:
        """The backbones, which start from ImageNet weights."""
        encoders = [self.encoder, self.semantic_encoder] if self.is_separate else [self.encoder]
        return [encoder.backbone for encoder in encoders]

    def forward(self, x: Any) -> Maps:
        """Run the dense part on images (B, 3, H, W) and return its outputs by name."""
        outputs = self.encoder(x)
        if self.is_separate:
            outputs = [*outputs, self.semantic_encoder(x)[-1]]
        return self.to_maps(outputs)


class Encoder(ImageEncoder):
    """The dense part of the network as one graph.

    Images -> flat list: p2, ..., p6 of the instance branch, five RPN logits and five RPN deltas (if
    there is an instance branch), semantic logits (if there is a semantic branch).
    """

    def __init__(self, backbone: ResNet, channels: int, grouped: bool,
                 rpn: Optional[HybridBlock], semantic_head: Optional[HybridBlock],
                 mean: Sequence[float], std: Sequence[float]):
        super().__init__(mean, std)
        self._half = channels // 2 if grouped else None
        with self.name_scope():
            self.backbone = backbone
            self.fpn = FPN(channels, backbone.channels)
            self.rpn = rpn
            self.semantic_head = semantic_head

    def hybrid_forward(self, F, x):
        features = self.fpn(*self.backbone(self.normalize(F, x)))
        ours, theirs = features, features
        if self._half:
            ours = [F.slice_axis(f, axis=1, begin=0, end=self._half) for f in features]
            theirs = [F.slice_axis(f, axis=1, begin=self._half, end=None) for f in features]
        outputs = list(ours)
        if self.rpn is not None:
            outputs += self.rpn(*ours)
        if self.semantic_head is not None:
            outputs.append(self.semantic_head(*theirs[:4]))
        return outputs
