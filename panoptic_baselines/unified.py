"""Unifying Training and Inference for Panoptic Segmentation (Li, Qi, Torr 2020).

There is no official code; section numbers are the paper's.  The network ``Unified`` has graphs
that are hybridized once for every size, and between them, in NumPy, the detector's decisions::

    encoder                  everything dense, one graph
      backbone               ResNet: stem.conv1, res2 ... res5 (layers/resnet.py)
      squeeze                squeeze-and-excitation of res5's features: fc1, fc2
      fpn                    lateral2 ... lateral5, output2 ... output5 (layers/fpn.py)
      rpn                    conv, objectness_logits, anchor_deltas (layers/rcnn.py)
      semantic_head          conv1, conv2, predictor (layers/decoder.py)
      affinity_head          the same: what tells which pixels are alike
    box_head, mask_head      see Panoptic FPN
    potential                detections and classes -> channels (layers/potential.py)
    affinity                 phi0, phi1: channels -> logits (layers/affinity.py)

A pixel belongs to the channel with the highest logit, in training and at inference.
"""
from __future__ import annotations

from typing import Any, List, Mapping, NamedTuple, Optional, Sequence, Union

from scipy.special import expit

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.arguments import demand_choice, demand_counts, demand_numbers
from panoptic_baselines.initializers import choose_initializers
from panoptic_baselines.layers.affinity import Affinity
from panoptic_baselines.layers.boxes import Size
from panoptic_baselines.layers.decoder import Decoder
from panoptic_baselines.layers.fpn import FPN
from panoptic_baselines.layers.image_encoder import ImageEncoder
from panoptic_baselines.layers.potential import Potential
from panoptic_baselines.layers.proposals import Detections
from panoptic_baselines.layers.rcnn import BoxHead, MaskHead, RPNHead
from panoptic_baselines.layers.resnet import ResNet, get_recipe
from panoptic_baselines.layers.squeeze import SqueezeExcitation
from panoptic_baselines.predictor import finite
from panoptic_baselines.settings import UNIFIED_PRESETS, UnifiedSettings
from panoptic_baselines.two_stage import (
    NUM_LEVELS,
    SEMANTIC_STRIDE,
    TwoStage,
    keep_sure,
)
from panoptic_baselines.unified_predictor import Channels, Found, Masks

HybridBlock = mx.gluon.HybridBlock


class Maps(NamedTuple):
    """Outputs of the dense part for a batch; the last is None of a network without affinity.

    ``features`` p2, ..., p6, what the RoI heads pool from; ``rpn_logits`` (B, A, h, w) and
    ``rpn_deltas`` (B, 4 * A, h, w) per level; ``semantic`` logits (B, stuff + things, H/4, W/4);
    ``affinity``, the features Q (B, C, H/4, W/4).
    """

    features: List[Any]
    rpn_logits: List[Any]
    rpn_deltas: List[Any]
    semantic: Any
    affinity: Optional[Any]


class Unified(TwoStage):
    """The network.  Models A and B of table 1 have no masks, C and D do; B and D have affinity.

    Parameters
    ----------
    backbone : see ``PanopticFPN``
    num_things, num_stuff : classes of the two kinds; the semantic branch has all, stuff first
    masks : whether there is a mask head
    affinity : whether there is the dense instance affinity head (section 3.4.2)
    potential : how masks, classes and scores make potentials: 'A', 'B' (Cityscapes), 'C' (COCO)
        or 'boxes', for which masks do not matter; without a mask head they all mean the last one,
        but 'A', which makes no sense then
    damp_masks : whether in 'C' the score multiplies the mask, too (equation 2 can be read either
        way)
    squeeze : whether there is squeeze-and-excitation before the pyramid (section 3.1)
    deformable : whether the convolutions of the semantic and the affinity branch are
    fpn_channels, box_channels, mask_channels : widths
    semantic_channels : width of the semantic and the affinity branch
    affinity_channels : of the features Q
    activation : of the affinity, after phi0 and phi1
    anchor_sizes : side of the square anchor of each of p2, ..., p6, in pixels
    mean, std : of the image, RGB; by default those of the backbone's ImageNet weights
    norm_layer, norm_kwargs : of the backbone

    Images are (B, 3, H, W), RGB, 0..255, H and W multiples of 32; padding has the colour ``mean``.
    Raises AdaptisError for an argument that makes no sense.
    """

    presets, divisor = UNIFIED_PRESETS, 32
    has_instances = has_semantic = True
    merge_things = False

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
        recipe = get_recipe(backbone)
        demand_counts(num_things=num_things, num_stuff=num_stuff, fpn_channels=fpn_channels,
                      semantic_channels=semantic_channels, affinity_channels=affinity_channels,
                      box_channels=box_channels, mask_channels=mask_channels)
        for name, value in (('masks', masks), ('affinity', affinity), ('damp_masks', damp_masks),
                            ('squeeze', squeeze), ('deformable', deformable)):
            demand_choice(name, value, (False, True))
        if potential == 'A' and not masks:
            raise AdaptisError('The potential "A" needs masks, but the network has none.')
        self.num_things, self.num_stuff = num_things, num_stuff
        self.mean = demand_numbers('mean', recipe.mean if mean is None else mean, 3)
        self.std = demand_numbers('std', recipe.std if std is None else std, 3, positive=True)
        self.anchor_sizes = demand_numbers('anchor_sizes', anchor_sizes, NUM_LEVELS, positive=True)
        with self.name_scope():
            self.potential = Potential(num_stuff, potential, damp_masks, SEMANTIC_STRIDE)
            if not masks:
                self.potential = Potential(num_stuff, 'boxes', stride=SEMANTIC_STRIDE)
            self.affinity = Affinity(affinity_channels, activation) if affinity else None
            self.encoder = Encoder(
                ResNet(recipe, norm_layer, norm_kwargs), fpn_channels, squeeze,
                Decoder(fpn_channels, num_stuff + num_things, semantic_channels, deformable),
                Decoder(fpn_channels, affinity_channels, semantic_channels, deformable)
                if affinity else None, self.mean, self.std)
            self.box_head = BoxHead(fpn_channels, num_things, box_channels)
            self.mask_head = MaskHead(fpn_channels, num_things, mask_channels) if masks else None
        choose_initializers(self)

    @property
    def has_masks(self) -> bool:
        """Whether there is a mask head."""
        return self.mask_head is not None

    def backbone_params(self) -> Any:
        """The part that starts from ImageNet."""
        return self.encoder.backbone.collect_params()

    def forward(self, x: Any) -> Maps:
        """Everything dense of images (B, 3, H, W)."""
        outputs = self.encoder(x)
        affinity = outputs.pop() if self.affinity is not None else None
        semantic = outputs.pop()
        return Maps(outputs[:NUM_LEVELS], outputs[NUM_LEVELS:2 * NUM_LEVELS],
                    outputs[2 * NUM_LEVELS:], semantic, affinity)

    def panoptic_logits(self, maps: Maps, index: int, size: Size, boxes: Any, classes: Any,
                        scores: Any, masks: Any = None) -> Any:
        """Logits of image ``index`` of a batch: (1, D + stuff, ceil(H/4), ceil(W/4)).

        First the channels of the D detections, then those of stuff.  Differentiable in the maps,
        the scores and the masks.

        Parameters
        ----------
        size : (H, W) of the image without its padding, which takes no part
        boxes : (D, 4) in pixels of the network's input, D may be 0
        classes : (D,), counted among the things
        scores : (D,)
        masks : (D, m, m), probabilities of a network with masks

        The arrays may be NumPy's or MXNet's.
        """
        height, width = (-(-side // SEMANTIC_STRIDE) for side in size)
        where = dict(begin=(index, 0, 0, 0), end=(index + 1, None, height, width))
        potentials = self.potentials(mx.nd.softmax(mx.nd.slice(maps.semantic, **where), axis=1),
                                     boxes, classes, scores, masks)
        if self.affinity is None:
            return potentials
        return self.affinity(mx.nd.slice(maps.affinity, **where), potentials)

    def potentials(self, probabilities: Any, boxes: Any, classes: Any, scores: Any,
                   masks: Any = None) -> Any:
        """What ``Potential`` makes of one image; there may be no detections, which it cannot do."""
        if not len(boxes):
            return mx.nd.slice_axis(probabilities, axis=1, begin=0, end=self.num_stuff)
        ctx = probabilities.context
        arrays = [a if isinstance(a, mx.nd.NDArray) else mx.nd.array(a, ctx, 'float32')
                  for a in (boxes, classes, scores, masks) if a is not None]
        return self.potential(probabilities, *arrays)

    def segment(self, x: Any, sizes: Sequence[Size], output_sizes: Sequence[Size],
                settings: UnifiedSettings, min_score: Optional[float] = 0.0) -> List[Found]:
        """See ``panoptic_baselines.predictor.Network``."""
        maps = self(x)
        found = [Found(*parts) for parts in zip(finite(maps.semantic, 'class logits'), sizes,
                                                output_sizes)]
        if min_score is None:
            return found
        self.demand_masks(settings)
        unified = settings.merge == 'unified'
        least = min(min_score, settings.instance_score) if unified else min_score
        detections = [keep_sure(each, least) for each in self.detect(maps, sizes, settings)]
        if self.has_masks:
            for image, seen, masks in zip(found, detections, self.mask_logits(maps, detections)):
                image.masks = Masks(seen, masks, settings.mask_threshold)
        if unified:
            for i, (image, seen) in enumerate(zip(found, detections)):
                self._decide(maps, i, image, seen, settings.instance_score)
        return found

    def demand_masks(self, settings: UnifiedSettings) -> None:
        """AdaptisError if the settings need masks and there is no mask head."""
        if settings.merge == 'heuristic' and not self.has_masks:
            raise AdaptisError('The heuristic joins masks, and this network has none: '
                               'set merge to unified.')

    def _decide(self, maps: Maps, index: int, image: Found, seen: Detections,
                instance_score: float) -> None:
        """Add the panoptic logits of an image, with channels for the detections above a score."""
        count = int((seen.scores > instance_score).sum())   # these come first
        sure = Detections(*(part[:count] for part in seen))
        masks = expit(image.masks.logits[:count]) if image.masks else None
        logits = self.panoptic_logits(maps, index, image.size, sure.boxes, sure.classes,
                                      sure.scores, masks)
        image.channels = Channels(sure, finite(logits, 'panoptic logits')[0])


class Encoder(ImageEncoder):
    """The dense part of a network as one graph.

    Images -> flat list: p2, ..., p6, five RPN logits and five RPN deltas, semantic logits, and
    affinity features unless there is no such branch.
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

    def hybrid_forward(self, F, x):
        *features, top = self.backbone(self.normalize(F, x))
        if self.squeeze is not None:
            top = self.squeeze(top)
        features = self.fpn(*features, top)
        outputs = [*features, *self.rpn(*features), self.semantic_head(*features[:4])]
        if self.affinity_head is not None:
            outputs.append(self.affinity_head(*features[:4]))
        return outputs
