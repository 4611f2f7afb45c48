"""CondInst (Tian et al. 2022): FCOS, and a small network per instance that predicts its mask.

The network ``CondInst`` has three graphs.  Each is hybridized once and then runs at any size::

    encoder                  everything dense, as one graph
      backbone               ResNet: stem.conv1, res2 ... res5 (layers/resnet.py), or DLA-34
      fpn                    lateral3 ... lateral5, output3 ... output5, p6, p7 (layers/fpn.py),
                             or repeat0, repeat1, ... (layers/bifpn.py)
      head                   share_tower, cls_tower, bbox_tower, cls_logits, bbox_pred, ctrness,
                             controller, scales (fcos/head.py)
      mask_branch            refine, tower (condinst/mask_branch.py)
      semantic_head          p2 ... p5, predictor (layers/semantic.py), if requested
    mask_head                has no parameters of its own (condinst/mask_head.py)
    things_head              seg_head, logits (condinst/mask_branch.py), only for training

``panoptic_baselines.condinst.convert`` translates official names into ours; the arrays stay the
same.  Images are RGB here, and the network reverses their channels itself.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.arguments import check_choice, check_counts, check_numbers
from panoptic_baselines.base_network import BaseNetwork
from panoptic_baselines.condinst.inference import (  # noqa: F401  (to_instances is part of it)
    CondInstInference,
    Maps,
    to_instances,
)
from panoptic_baselines.condinst.mask_branch import MaskBranch, ThingsHead
from panoptic_baselines.condinst.mask_head import DynamicMaskHead
from panoptic_baselines.condinst.semantic_head import PlainSemanticHead
from panoptic_baselines.fcos.head import FCOSHead
from panoptic_baselines.initializers import set_initializers
from panoptic_baselines.layers.backbones import make_backbone
from panoptic_baselines.layers.bifpn import BiFPN
from panoptic_baselines.layers.fpn import FPN
from panoptic_baselines.layers.image_encoder import ImageEncoder
from panoptic_baselines.layers.semantic import SemanticHead

HybridBlock = mx.gluon.HybridBlock

STRIDES = (8, 16, 32, 64, 128)
SIZES = (64, 128, 256, 512, 1024)


class CondInst(CondInstInference, BaseNetwork):
    """CondInst, with or without a semantic branch.

    Parameters
    ----------
    backbone : see ``make_backbone``
    num_things, num_stuff : numbers of thing and stuff classes; without the semantic branch,
        ``num_stuff`` may be 0
    semantic : whether the network has a semantic branch for panoptic results (section 2.5); its
        first class stands for all things, and the stuff classes follow
    things : whether to train with an auxiliary semantic task (section 2.3)
    levels : number of pyramid levels: 5 (p3 to p7), or 3 without the coarsest two (real time,
        section 3.7)
    fpn_channels : width of the pyramid and of the heads
    bifpn_repeats : number of passes of a ``BiFPN`` over its levels; 0 = a plain FPN
    head_depth : number of convolutions in each tower; may be 0
    share_depth : number of convolutions that both towers share, before these
    head_norm : norm of the towers: 'GroupNorm', or 'BatchNorm' or 'SyncBatchNorm' (one per level)
    mask_channels : C_bottom, the width of the mask features (table 2); 0 = no mask branch, so that
        masks depend only on coordinates
    branch_channels : width of the mask branch and of the auxiliary branch
    mask_depth, mask_width : number of layers and width of the mask head (table 1)
    coordinates : input coordinates of the mask head: 'relative', 'absolute' or None (table 3)
    mask_factor : factor by which mask logits are upsampled: 1, 2 or 4 (table 4)
    semantic_channels, semantic_join : see ``SemanticHead``; 'plain' gives the paper's
        ``PlainSemanticHead``
    deformable_stages, deformable_interval, modulated : see ``ResNet``
    mean, std : RGB mean and standard deviation of the image; by default those of the backbone's
        ImageNet weights
    norm_layer, norm_kwargs : norm of the backbone; ``num_devices`` applies to every 'SyncBatchNorm'
    fpn_norm : norm of a BiFPN
    branch_norm : norm of the mask branch and the auxiliary branch

    Images are (B, 3, H, W), RGB, 0..255, where H and W are multiples of 32.  Padding has the colour
    ``mean``.  Raises AdaptisError for an invalid argument.
    """

    def __init__(self, *, backbone: str = 'resnet50', num_things: int = 80, num_stuff: int = 53,
                 semantic: bool = False, things: bool = False, levels: int = 5,
                 fpn_channels: int = 256, bifpn_repeats: int = 0, head_depth: int = 4,
                 share_depth: int = 0, head_norm: str = 'GroupNorm',
                 mask_channels: int = 8, branch_channels: int = 128,
                 mask_depth: int = 3, mask_width: int = 8,
                 coordinates: Optional[str] = 'relative', mask_factor: int = 2,
                 semantic_channels: int = 128, semantic_join: str = 'sum',
                 deformable_stages: Sequence[int] = (), deformable_interval: int = 1,
                 modulated: bool = True,
                 mean: Optional[Sequence[float]] = None, std: Optional[Sequence[float]] = None,
                 norm_layer: Union[str, type] = 'FrozenBatchNorm',
                 norm_kwargs: Optional[Mapping[str, Any]] = None,
                 fpn_norm: str = 'BatchNorm', branch_norm: str = 'BatchNorm'):
        super().__init__()
        if not isinstance(norm_kwargs or {}, Mapping):
            raise AdaptisError(f'norm_kwargs is {norm_kwargs!r} but must be a dictionary.')
        sync = {k: v for k, v in (norm_kwargs or {}).items() if k == 'num_devices'}
        others = {k: v for k, v in (norm_kwargs or {}).items() if k != 'num_devices'}

        def norm(layer, **options):
            return dict(norm_layer=layer, norm_kwargs={
                **options, **(sync if layer == 'SyncBatchNorm' else {})})
        net = make_backbone(backbone, **norm(norm_layer, **others),
                            deformable_stages=deformable_stages,
                            deformable_interval=deformable_interval, modulated=modulated)
        if semantic or num_stuff != 0:   # a pure detector needs no stuff
            check_counts(num_stuff=num_stuff)
        check_counts(num_things=num_things, fpn_channels=fpn_channels,
                     branch_channels=branch_channels, mask_depth=mask_depth,
                     mask_width=mask_width, semantic_channels=semantic_channels)
        check_counts(**{name: value for name, value in (
            ('mask_channels', mask_channels), ('bifpn_repeats', bifpn_repeats),
            ('head_depth', head_depth), ('share_depth', share_depth)) if value != 0})
        check_choice('levels', levels, (3, 5))
        check_choice('mask_factor', mask_factor, (1, 2, 4))
        check_choice('semantic', semantic, (False, True))
        check_choice('things', things, (False, True))
        self.num_things, self.num_stuff = num_things, num_stuff
        self.mean = check_numbers('mean', net.mean if mean is None else mean, 3)
        self.std = check_numbers('std', net.std if std is None else std, 3, positive=True)
        self.strides, self.sizes = STRIDES[:levels], SIZES[:levels]
        self.mask_stride = STRIDES[0] // mask_factor
        with self.name_scope():
            self.mask_head = DynamicMaskHead(mask_channels, mask_depth, mask_width, coordinates,
                                             STRIDES[0], mask_factor)
            self.encoder = Encoder(
                net, _pyramid(fpn_channels, net.channels[0 if semantic else 1:], levels,
                              bifpn_repeats, norm(fpn_norm)),
                FCOSHead(num_things, self.mask_head.num_params, fpn_channels, levels, head_depth,
                         share_depth, **norm(head_norm)),
                MaskBranch(fpn_channels, mask_channels, branch_channels, **norm(branch_norm))
                if mask_channels else None,
                _semantic_head(fpn_channels, 1 + num_stuff, semantic_channels, semantic_join)
                if semantic else None, self.mean, self.std)
            self.things_head = ThingsHead(num_things, fpn_channels, branch_channels,
                                          **norm(branch_norm)) if things else None
        set_initializers(self)

    @property
    def has_semantic(self) -> bool:
        """Whether the network has a semantic branch."""
        return self.encoder.semantic_head is not None

    def forward(self, x: Any) -> Maps:
        """Run the dense part on images (B, 3, H, W) and return its outputs by name."""
        outputs = self.encoder(x)
        maps = self.to_maps(outputs)
        if self.things_head is not None and mx.autograd.is_training():
            maps = maps._replace(things=self.things_head(outputs[0]))
        return maps


class Encoder(ImageEncoder):
    """The dense part of the network as one graph.

    Images -> flat list: p3, mask features (without a mask branch, one channel of p3), the outputs
    of the head, and semantic logits (if there is a semantic branch).
    """

    def __init__(self, backbone: HybridBlock, fpn: HybridBlock, head: HybridBlock,
                 mask_branch: Optional[HybridBlock], semantic_head: Optional[HybridBlock],
                 mean: Sequence[float], std: Sequence[float]):
        super().__init__(mean, std)
        with self.name_scope():
            self.backbone, self.fpn, self.head = backbone, fpn, head
            self.mask_branch, self.semantic_head = mask_branch, semantic_head

    def hybrid_forward(self, F, x):
        features = self.backbone(self.normalize(F, x))
        if self.semantic_head is None:
            pyramid = self.fpn(*features[1:])
        else:
            p2, *pyramid = self.fpn(*features)
        masks = (F.slice_axis(pyramid[0], axis=1, begin=0, end=1) if self.mask_branch is None
                 else self.mask_branch(*pyramid[:3]))
        outputs = [pyramid[0], masks, *self.head(*pyramid)]
        if self.semantic_head is not None:
            outputs.append(self.semantic_head(p2, *pyramid[:3]))
        return outputs


def _pyramid(channels: int, in_channels: Sequence[int], levels: int, repeats: int,
             norm: Mapping[str, Any]) -> HybridBlock:
    if repeats:
        return BiFPN(channels, in_channels, repeats, levels - 3, **norm)
    return FPN(channels, in_channels, 'p6p7' if levels == 5 else None)


def _semantic_head(in_channels: int, num_classes: int, channels: int, join: str) -> HybridBlock:
    if join == 'plain':
        return PlainSemanticHead(in_channels, num_classes)
    return SemanticHead(in_channels, num_classes, channels, join)
