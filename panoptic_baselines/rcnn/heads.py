"""The three heads of Mask R-CNN on a feature pyramid (He et al. 2017)."""
from __future__ import annotations

from adaptis.runtime import mx

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock


class RPNHead(HybridBlock):
    """L levels (B, C, h, w) -> L objectness logits (B, A, h, w), then L deltas (B, 4 * A, h, w).

    All levels share one head: a 3x3 convolution ``conv`` with ReLU, and the 1x1 convolutions
    ``objectness_logits`` and ``anchor_deltas``.  Channels ``4 * a`` to ``4 * a + 3`` of the deltas
    are dx, dy, dw, dh of anchor ``a``.
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
    """RoI features (R, C, 7, 7) -> class logits (R, K + 1), background last, deltas (R, 4 * K).

    Two hidden layers ``fc1`` and ``fc2``, then ``cls_score`` and ``bbox_pred``.
    """

    def __init__(self, in_channels: int, num_classes: int, channels: int = 1024, size: int = 7):
        super().__init__()
        with self.name_scope():
            self.fc1 = nn.Dense(channels, activation='relu', in_units=in_channels * size ** 2)
            self.fc2 = nn.Dense(channels, activation='relu', in_units=channels)
            self.cls_score = nn.Dense(num_classes + 1, in_units=channels)
            self.bbox_pred = nn.Dense(4 * num_classes, in_units=channels)

    def features(self, x):
        """Return the output of the hidden layers: (R, C, 7, 7) -> (R, channels)."""
        return self.fc2(self.fc1(x))

    def hybrid_forward(self, F, x):
        x = self.features(x)
        return self.cls_score(x), self.bbox_pred(x)


class MaskHead(HybridBlock):
    """RoI features (R, C, 14, 14), classes (R,) -> logits (R, 28, 28) of each RoI's own class.

    Four 3x3 convolutions ``mask_fcn1`` to ``mask_fcn4`` and a 2x2 transposed convolution
    ``deconv``, all with ReLU, then the 1x1 convolution ``predictor``, which has one mask per class.
    Inference needs only the mask of the predicted class, and training that of the ground-truth
    class, so the masks of other classes are not returned.
    """

    def __init__(self, in_channels: int, num_classes: int, channels: int = 256):
        super().__init__()
        with self.name_scope():
            for i in range(1, 5):
                setattr(self, f'mask_fcn{i}', nn.Conv2D(
                    channels, 3, padding=1, in_channels=in_channels, activation='relu'))
                in_channels = channels
            self.deconv = SplitDeconv(channels, channels)
            self.predictor = ClassConv(num_classes, channels)

    def hybrid_forward(self, F, x, classes):
        for layer in (self.mask_fcn1, self.mask_fcn2, self.mask_fcn3, self.mask_fcn4):
            x = layer(x)
        return self.predictor(F.Activation(self.deconv(x), 'relu'), classes)


class SplitDeconv(HybridBlock):
    """Transposed 2x2 convolution of stride 2 that returns its output in four parts.

    (R, C, h, w) -> (R, 4 * channels, h, w): part ``2 * dy + dx`` holds the channels of the pixels
    (2 * y + dy, 2 * x + dx).  Every output pixel depends on one input pixel, so this is a 1x1
    convolution, which is three times as fast on a CPU.  The weight has the layout of a transposed
    convolution, (C, channels, 2, 2).
    """

    def __init__(self, channels: int, in_channels: int):
        super().__init__()
        self._channels = channels
        with self.name_scope():
            self.weight = self.params.get('weight', shape=(in_channels, channels, 2, 2))
            self.bias = self.params.get('bias', shape=(channels,), init='zeros')

    def hybrid_forward(self, F, x, weight, bias):
        weight = F.transpose(weight, (2, 3, 1, 0)).reshape((-3, -2)).reshape((-3, 0, 1, 1))
        return F.Convolution(x, weight, F.tile(bias, (4,)), kernel=(1, 1),
                             num_filter=4 * self._channels)


class ClassConv(HybridBlock):
    """1x1 convolution that returns one output channel for each item of a batch.

    Parts of a ``SplitDeconv`` (R, 4 * C, h, w) and classes (R,) -> (R, 2 * h, 2 * w).
    """

    def __init__(self, num_classes: int, in_channels: int):
        super().__init__()
        self._num_classes = num_classes
        with self.name_scope():
            self.weight = self.params.get('weight', shape=(num_classes, in_channels, 1, 1))
            self.bias = self.params.get('bias', shape=(num_classes,), init='zeros')

    def hybrid_forward(self, F, x, classes, weight, bias):
        # Computing all classes first is faster than reordering that many channels.
        x = F.Convolution(x, F.tile(weight, (4, 1, 1, 1)), F.tile(bias, (4,)), kernel=(1, 1),
                          num_filter=4 * self._num_classes, num_group=4)
        x = x.reshape((0, -4, 4, -1, -2)).reshape((-3, -2))
        chosen = F.repeat(F.one_hot(classes, self._num_classes), repeats=4, axis=0)
        mask = F.batch_dot(F.expand_dims(chosen, 1), x.reshape((0, 0, -1)))
        mask = F.reshape_like(mask, F.slice_axis(x, axis=1, begin=0, end=1))
        mask = mask.reshape((-4, -1, 4, -2)).reshape((0, -4, 2, 2, -3, 0))
        return F.transpose(mask, (0, 3, 1, 4, 2)).reshape((0, -3, -3))
