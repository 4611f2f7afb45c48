"""The three heads of Mask R-CNN on a feature pyramid (He et al. 2017), as dense networks."""
from __future__ import annotations

from adaptis.runtime import mx

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock


class RPNHead(HybridBlock):
    """L levels (B, C, h, w) -> L objectness logits (B, A, h, w), then L deltas (B, 4 * A, h, w).

    One head for all levels: 3x3 ``conv`` and ReLU, 1x1 ``objectness_logits`` and
    ``anchor_deltas``.  Delta channel ``4 * a + (dx, dy, dw, dh)``.
    """

    def __init__(self, in_channels: int, num_anchors: int = 3):
        super().__init__()
        with self.name_scope():
            self.conv = nn.Conv2D(in_channels, 3, padding=1, in_channels=in_channels,
                                  activation='relu')
            self.objectness_logits = nn.Conv2D(num_anchors, 1, in_channels=in_channels)
            self.anchor_deltas = nn.Conv2D(4 * num_anchors, 1, in_channels=in_channels)

    def hybrid_forward(self, F, *features):
        hidden = [self.conv(x) for x in features]
        return ([self.objectness_logits(x) for x in hidden]
                + [self.anchor_deltas(x) for x in hidden])


class BoxHead(HybridBlock):
    """RoI features (R, C, 7, 7) -> class logits (R, K + 1), background last; deltas (R, 4 * K).

    Two hidden layers ``fc1``, ``fc2``, then ``cls_score`` and ``bbox_pred``.  ``features`` stops
    before the last two.
    """

    def __init__(self, in_channels: int, num_classes: int, channels: int = 1024, size: int = 7):
        super().__init__()
        with self.name_scope():
            self.fc1 = nn.Dense(channels, activation='relu', in_units=in_channels * size ** 2)
            self.fc2 = nn.Dense(channels, activation='relu', in_units=channels)
            self.cls_score = nn.Dense(num_classes + 1, in_units=channels)
            self.bbox_pred = nn.Dense(4 * num_classes, in_units=channels)

    def features(self, x):
        """(R, C, 7, 7) -> (R, channels)."""
        return self.fc2(self.fc1(x))

    def hybrid_forward(self, F, x):
        x = self.features(x)
        return self.cls_score(x), self.bbox_pred(x)


class MaskHead(HybridBlock):
    """RoI features (R, C, 14, 14) -> mask logits (R, K, 28, 28), one mask per class.

    Four 3x3 convolutions ``mask_fcn1`` to ``mask_fcn4``, a 2x2 ``deconv``, all with ReLU, and
    the 1x1 ``predictor``.
    """

    def __init__(self, in_channels: int, num_classes: int, channels: int = 256):
        super().__init__()
        with self.name_scope():
            for i in range(1, 5):
                setattr(self, f'mask_fcn{i}', nn.Conv2D(
                    channels, 3, padding=1, in_channels=in_channels, activation='relu'))
                in_channels = channels
            self.deconv = nn.Conv2DTranspose(channels, 2, 2, in_channels=channels,
                                             activation='relu')
            self.predictor = nn.Conv2D(num_classes, 1, in_channels=channels)

    def hybrid_forward(self, F, x):
        for layer in (self.mask_fcn1, self.mask_fcn2, self.mask_fcn3, self.mask_fcn4):
            x = layer(x)
        return self.predictor(self.deconv(x))
