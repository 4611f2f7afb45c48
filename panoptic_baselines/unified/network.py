"""Unifying Training and Inference for Panoptic Segmentation (Li, Qi, Torr 2020).

There is no official code; section numbers are the paper's.  The network ``Unified`` consists of
graphs that are hybridized once and then run at any size.  Between them, NumPy makes the detector's
decisions::

    encoder                  everything dense, as one graph
      backbone               ResNet: stem.conv1, res2 ... res5 (layers/resnet.py)
      squeeze                squeeze-and-excitation of res5's features: fc1, fc2
      fpn                    lateral2 ... lateral5, output2 ... output5 (layers/fpn.py)
      rpn                    conv, objectness_logits, anchor_deltas (rcnn/heads.py)
      semantic_head          conv1, conv2, predictor (unified/decoder.py)
      affinity_head          the same layers, for the affinity features Q
    box_head, mask_head      see Panoptic FPN
    probabilities            softmax of the semantic logits
    potential                detections and classes -> channels (unified/potential.py)
    affinity                 phi0, phi1: channels -> logits (unified/affinity.py)

A pixel belongs to the channel with the highest logit, in training and at inference.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.arguments import check_choice, check_counts, check_numbers
from panoptic_baselines.base_network import BaseNetwork
from panoptic_baselines.initializers import set_initializers
from panoptic_baselines.layers.deformable import samples_in_numpy
from panoptic_baselines.layers.fpn import FPN
from panoptic_baselines.layers.image_encoder import ImageEncoder
from panoptic_baselines.layers.resnet import ResNet, get_resnet_spec
from panoptic_baselines.layers.upsample import SEMANTIC_STRIDE
from panoptic_baselines.rcnn.heads import BoxHead, MaskHead, RPNHead
from panoptic_baselines.rcnn.inference import NUM_LEVELS
from panoptic_baselines.unified.affinity import Affinity
from panoptic_baselines.unified.decoder import Decoder
from panoptic_baselines.unified.inference import Maps, UnifiedInference
from panoptic_baselines.unified.potential import ClassProbabilities, Potential
from panoptic_baselines.unified.squeeze import SqueezeExcitation


class Unified(UnifiedInference, BaseNetwork):
    """The unified network.  In table 1, models C and D have masks, and B and D have affinity.

    Parameters
    ----------
    backbone : see ``PanopticFPN``
    num_things, num_stuff : numbers of thing and stuff classes; the semantic branch has all of them,
        stuff first
    masks : whether the network has a mask head
    affinity : whether the network has the dense instance affinity head (section 3.4.2)
    potential : how masks, classes and scores are combined into potentials: 'A', 'B' (Cityscapes),
        'C' (COCO), or 'boxes', which ignores masks.  Without a mask head, 'B' and 'C' mean 'boxes',
        and 'A' is an error
    damp_masks : whether the score also multiplies the mask in 'C' (equation 2 allows both readings)
    squeeze : whether squeeze-and-excitation precedes the pyramid (section 3.1)
    deformable : whether the semantic and the affinity branch have deformable convolutions
    fpn_channels, box_channels, mask_channels : widths of the pyramid and of the RoI heads
    semantic_channels : width of the semantic and the affinity branch
    affinity_channels : number of channels of the features Q
    activation : activation of the affinity head after phi0 and phi1
    anchor_sizes : side of the square anchor of each of p2, ..., p6, in pixels
    mean, std : RGB mean and standard deviation of the image; by default those of the backbone's
        ImageNet weights
    norm_layer, norm_kwargs : norm of the backbone

    Images are (B, 3, H, W), RGB, 0..255, where H and W are multiples of 32.  Padding has the colour
    ``mean``.  Raises AdaptisError for an invalid argument.
    """

    def __init__(self, *, backbone: str = 'resnet50', num_things: int = 80, num_stuff: int = 53,
                 masks: bool = True, affinity: bool = True, potential: str = 'B',
                 damp_masks: bool = True, squeeze: bool = True, deformable: bool = True,
                 fpn_channels: int = 256, semantic_channels: int = 128,
                 affinity_channels: int = 128, activation: str = 'relu',
                 box_channels: int = 1024, mask_channels: int = 256,
                 anchor_sizes: Sequence[float] = (32, 64, 128, 256, 512),
                 mean: Optional[Sequence[float]] = None, std: Optional[Sequence[float]] = None,
                 norm_layer: Union[str, type] = 'FrozenBatchNorm',
                 norm_kwargs: Optional[Mapping[str, Any]] = None):
        super().__init__()
        spec = get_resnet_spec(backbone)
        check_counts(num_things=num_things, num_stuff=num_stuff, fpn_channels=fpn_channels,
                     semantic_channels=semantic_channels, affinity_channels=affinity_channels,
                     box_channels=box_channels, mask_channels=mask_channels)
        for name, value in (('masks', masks), ('affinity', affinity), ('damp_masks', damp_masks),
                            ('squeeze', squeeze), ('deformable', deformable)):
            check_choice(name, value, (False, True))
        if potential == 'A' and not masks:
            raise AdaptisError('The potential "A" needs masks: set masks to true.')
        self.num_things, self.num_stuff = num_things, num_stuff
        self.mean = check_numbers('mean', spec.mean if mean is None else mean, 3)
        self.std = check_numbers('std', spec.std if std is None else std, 3, positive=True)
        self.anchor_sizes = check_numbers('anchor_sizes', anchor_sizes, NUM_LEVELS, positive=True)
        self.roi_channels = fpn_channels
        with self.name_scope():
            self.probabilities = ClassProbabilities()
            self.potential = Potential(num_stuff, potential, damp_masks, SEMANTIC_STRIDE)
            if not masks:
                self.potential = Potential(num_stuff, 'boxes', stride=SEMANTIC_STRIDE)
            self.affinity = Affinity(affinity_channels, activation) if affinity else None
            self.encoder = Encoder(
                ResNet(spec, norm_layer, norm_kwargs), fpn_channels, squeeze,
                Decoder(fpn_channels, num_stuff + num_things, semantic_channels, deformable),
                Decoder(fpn_channels, affinity_channels, semantic_channels, deformable)
                if affinity else None, self.mean, self.std)
            self.box_head = BoxHead(fpn_channels, num_things, box_channels)
            self.mask_head = MaskHead(fpn_channels, num_things, mask_channels) if masks else None
        set_initializers(self)

    @property
    def has_masks(self) -> bool:
        """Whether the network has a mask head."""
        return self.mask_head is not None

    @property
    def has_affinity(self) -> bool:
        """Whether the network has the dense instance affinity head."""
        return self.affinity is not None

    def forward(self, x: Any) -> Maps:
        """Run the dense part on images (B, 3, H, W) and return its outputs by name."""
        return self.to_maps(self.encoder(x))


class Encoder(ImageEncoder):
    """The dense part of the network as one graph.

    Images -> flat list: p2, ..., p6, five RPN logits and five RPN deltas, semantic logits, and
    affinity features (if there is an affinity head).
    """

    def __init__(self, backbone: ResNet, channels: int, squeeze: bool, semantic_head: Decoder,
                 affinity_head: Optional[Decoder], mean: Sequence[float], std: Sequence[float]):
        super().__init__(mean, std)
        with self.name_scope():
            self.backbone = backbone
            self.squeeze = SqueezeExcitation(backbone.channels[-1]) if squeeze else None
            self.fpn = FPN(channels, backbone.channels)
            self.rpn = RPNHead(channels)
            self.semantic_head = semantic_head
            self.affinity_head = affinity_head

    def forward(self, x):
        """Run the dense part, as one graph unless a decoder has to run outside of a graph."""
        if self.semantic_head.deformable and samples_in_numpy(x):
            return self.hybrid_forward(mx.nd, x)
        return super().forward(x)

    def hybrid_forward(self, F, x):
        *features, top = self.backbone(self.normalize(F, x))
        if self.squeeze is not None:
            top = self.squeeze(top)
        features = self.fpn(*features, top)
        outputs = [*features, *self.rpn(*features), self.semantic_head(*features[:4])]
        if self.affinity_head is not None:
            outputs.append(self.affinity_head(*features[:4]))
        return outputs
