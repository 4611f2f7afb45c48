"""Losses of AdaptIS and their running statistics.

Every loss returns one value per sample, shape (B,).  Labels of the sigmoid losses are 1 (object),
0 (not) and -1 (ignore); labels of the softmax losses are class indices and -1.
"""
from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Callable, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.runtime import mx

Loss = mx.gluon.loss.Loss
SAMPLE = dict(axis=0, exclude=True)


class NormalizedFocalLossSigmoid(Loss):
    """Normalised focal loss for masks (AdaptIS, appendix A; official code for the factor).

    The focal weights (1 - p)^gamma are scaled so that their mean over a sample is one.  No gradient
    flows through the scale.

    Parameters
    ----------
    alpha : weight of object pixels; the others have 1 - alpha
    size_average : divide by the number of pixels that are not ignored; otherwise sum, multiplied by
        ``scale``

    Attributes
    ----------
    k_sum : running mean of the scale (0.9 old + 0.1 new) over samples without ignored pixels
    """

    def __init__(self, alpha: float = 0.5, gamma: float = 2.0, eps: float = 1e-12,
                 size_average: bool = True, scale: float = 1.0, ignore_label: int = -1):
        super().__init__(weight=None, batch_axis=0)
        self._alpha, self._gamma, self._eps = alpha, gamma, eps
        self._size_average, self._scale, self._ignore = size_average, scale, ignore_label
        self._running = _RunningScale()

    def hybrid_forward(self, F, pred, label):
        pred, label = F.flatten(pred), F.flatten(label)
        ones = _ones_like_sample(F, pred)
        pixels = F.sum(ones)
        valid = label != self._ignore
        objects = (label > 0) * valid
        # Factors without gradient instead of ``where``: an ignored pixel gets p = 1.
        p = F.sigmoid(pred) * (2 * objects - valid) + (1 - objects)
        beta = _power(F, 1 - p, self._gamma)
        seen = F.dot(valid, ones)
        scale = F.BlockGrad(F.broadcast_div(pixels, F.dot(beta, ones) + self._eps))
        if F is mx.nd:
            self._running.update(scale, F.broadcast_equal(seen, pixels))
        alpha = (2 * self._alpha - 1) * objects + (1 - self._alpha) * valid
        loss = -alpha * (beta * F.log(F.minimum(p + self._eps, 1)))
        loss = F.dot(loss, ones) * scale
        if self._size_average:
            return loss / (seen + self._eps)
        return loss * self._scale

    @property
    def k_sum(self) -> float:
        """The running scale."""
        return self._running.value


class NormalizedFocalLossSoftmax(Loss):
    """Normalised focal loss for semantic classes: (B, K, H, W), (B, H, W) -> (B,)."""

    def __init__(self, gamma: float = 1.0, eps: float = 1e-10, ignore_label: int = -1):
        super().__init__(weight=None, batch_axis=0)
        self._gamma, self._eps, self._ignore = gamma, eps, ignore_label
        self._running = _RunningScale()

    def hybrid_forward(self, F, pred, label):
        valid = label != self._ignore
        p = F.pick(F.softmax(pred, axis=1), label, axis=1, mode='clip')
        p = F.where(valid, p, F.ones_like(p))
        beta = _power(F, 1 - p, self._gamma)
        count = F.sum(valid, **SAMPLE)
        scale = F.BlockGrad(count / (F.sum(beta, **SAMPLE) + self._eps))
        if F is mx.nd:
            self._running.update(scale, mx.nd.ones_like(scale))
        loss = -valid * (beta * F.log(F.minimum(p + self._eps, 1)))
        return F.sum(loss, **SAMPLE) * scale / (count + self._eps)

    @property
    def k_sum(self) -> float:
        """The running mean of the scale over all samples."""
        return self._running.value


def _ones_like_sample(F, maps):
    """Return (size,) ones for (B, size): a product with them is a sum per sample.

    It takes a third of the time of ``sum`` on a CPU.
    """
    return F.ones_like(F.BlockGrad(F.slice_axis(maps, axis=0, begin=0, end=1)).reshape((-1,)))


def _power(F, base, exponent: float):
    """Return ``base ** exponent``, ten times as fast on a CPU for exponents that need no power."""
    if exponent == 1:
        return base
    return F.square(base) if exponent == 2 else base ** exponent


class _RunningScale:
    """Running mean (0.9 old + 0.1 new), computed without blocking when the device is ready."""

    def __init__(self) -> None:
        self._value = mx.nd.zeros((1,), ctx=mx.cpu())

    def update(self, scale: Any, chosen: Any) -> None:
        """Add the mean of ``scale`` (B,) over the ``chosen`` (B,) samples, if there are any."""
        with mx.autograd.pause():
            count = chosen.sum()
            mean = (scale * chosen).sum() / mx.nd.maximum(count, 1)
            share = (count > 0) * 0.1
            mean, share = (value.as_in_context(mx.cpu()) for value in (mean, share))
            self._value = self._value * (1 - share) + mean * share

    @property
    def value(self) -> float:
        return float(self._value.asscalar())


class FocalLoss(Loss):
    """Focal loss (Lin et al. 2017), divided by the number of object pixels.

    ``official=True`` divides by that number even if it is 0, as the official code does; a sample
    without an object then yields about 1e10.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0, eps: float = 1e-9,
                 official: bool = False, ignore_label: int = -1):
        super().__init__(weight=None, batch_axis=0)
        self._alpha, self._gamma, self._eps = alpha, gamma, eps
        self._least = 0.0 if official else 1.0
        self._ignore = ignore_label

    def hybrid_forward(self, F, pred, label):
        positive = label == 1
        valid = label != self._ignore
        probability = F.sigmoid(pred)
        p = F.where(positive, probability, 1 - probability)
        p = F.where(valid, p, F.ones_like(p))
        alpha = self._alpha * positive + (1 - self._alpha) * (1 - positive)
        loss = -alpha * valid * (1 - p) ** self._gamma * F.log(
            F.minimum(p + self._eps, F.ones_like(p)))
        count = F.maximum(F.sum(positive, **SAMPLE), F.ones_like(F.sum(p, **SAMPLE)) * self._least)
        return F.sum(loss, **SAMPLE) / (count + self._eps)


class SigmoidBinaryCrossEntropy(Loss):
    """Binary cross-entropy with soft labels; ignored entries are 0 but are included in the mean."""

    def __init__(self, from_sigmoid: bool = False, ignore_label: int = -1):
        super().__init__(weight=None, batch_axis=0)
        self._from_sigmoid, self._ignore = from_sigmoid, ignore_label

    def hybrid_forward(self, F, pred, label):
        valid = label != self._ignore
        label = F.where(valid, label, F.zeros_like(label))
        if self._from_sigmoid:
            loss = -(F.log(pred + 1e-12) * label + F.log(1 - pred + 1e-12) * (1 - label))
        else:
            loss = F.relu(pred) - pred * label + F.Activation(-F.abs(pred), act_type='softrelu')
        return F.mean(F.where(valid, loss, F.zeros_like(loss)), **SAMPLE)


class SoftmaxCrossEntropy(Loss):
    """Cross-entropy over classes: (B, K, H, W), (B, H, W) -> (B,), mean over labelled pixels.

    ``official=True`` reproduces the official code: the value is the mean over all pixels, but the
    gradient is that of its output layer, divided by the labelled pixels of the whole batch (without
    ``size_average``, by all pixels of one image), and multiplied by ``grad_scale``.
    """

    def __init__(self, ignore_label: int = -1, official: bool = False, size_average: bool = True,
                 grad_scale: float = 1.0):
        super().__init__(weight=None, batch_axis=0)
        self._ignore, self._official = ignore_label, official
        self._size_average, self._grad_scale = size_average, grad_scale

    def hybrid_forward(self, F, pred, label):
        valid = label != self._ignore
        log_p = F.pick(F.log_softmax(pred, axis=1), label, axis=1, mode='clip')
        total = F.sum(-log_p * valid, **SAMPLE)
        if not self._official:
            return total / F.maximum(F.sum(valid, **SAMPLE), F.ones_like(total))
        pixels = F.sum(F.ones_like(label), **SAMPLE)
        value = F.BlockGrad(total / pixels)
        count = F.sum(valid) if self._size_average else F.mean(pixels)
        follow = F.broadcast_div(total, count) * self._grad_scale
        return value + follow - F.BlockGrad(follow)


class AdaptiveIoU:
    """Running IoU of masks at an adaptive threshold (official training metric).

    ``update`` evaluates the threshold and one step below and above it.  The threshold then moves by
    1 % of the difference towards the best of the three.
    """

    def __init__(self, init_thresh: float = 0.4, step: float = 0.025, momentum: float = 0.99,
                 iou_momentum: float = 0.9):
        self.threshold, self.ema = init_thresh, 0.0
        self._step, self._momentum, self._iou_momentum = step, momentum, iou_momentum
        self._sum, self._count = 0.0, 0

    def update(self, probabilities: np.ndarray, labels: np.ndarray) -> None:
        """Update with ``probabilities`` and ``labels`` (1, 0, -1), both of shape (P, ...)."""
        if not (labels > 0).any():
            return
        best_iou, best = -1.0, self.threshold
        for threshold in (self.threshold, self.threshold - self._step,
                          self.threshold + self._step):
            iou = mask_iou(probabilities > threshold, labels)
            iou = iou[iou >= 0]
            mean = float(iou.mean()) if iou.size else 0.0
            if mean > best_iou:
                best_iou, best = mean, threshold
        self.threshold = self._momentum * self.threshold + (1 - self._momentum) * best
        self.ema = self._iou_momentum * self.ema + (1 - self._iou_momentum) * best_iou
        self._sum += best_iou
        self._count += 1

    def epoch_value(self) -> float:
        """Return the mean over all updates."""
        return self._sum / max(self._count, 1)

    def state(self) -> dict[str, float]:
        """Return the state for ``load_state``."""
        return {'threshold': self.threshold, 'ema': self.ema, 'sum': self._sum,
                'count': self._count}

    def load_state(self, state: dict[str, float]) -> None:
        """Restore what ``state`` returned."""
        self.threshold, self.ema = state['threshold'], state['ema']
        self._sum, self._count = state['sum'], state['count']


def mask_iou(masks: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the IoU of boolean masks (P, ...) with labels > 0, without ignored pixels.

    The result has the shape (P,); it is -1 where both are empty.
    """
    masks = (masks & (labels != -1)).reshape(len(masks), -1)
    objects = (labels > 0).reshape(len(labels), -1)
    both = np.count_nonzero(masks & objects, axis=1)
    either = np.count_nonzero(masks | objects, axis=1)
    return np.where(either > 0, both / np.maximum(either, 1), -1.0)


PROPOSAL_LABELS = ('soft', 'hard')
GOOD_SHARE = 0.2
"""Fraction of the points of an image that the paper labels 1."""


class ProposalsIoULoss:
    """Loss of the point proposal branch (AdaptIS, section 5).

    The masks predicted at the points of an image are scored against their objects.  The scores
    define labels, on which the branch is trained with binary cross-entropy.

    Parameters
    ----------
    bad_percentile : percentage of an image's points that count as bad; for soft labels
    official : raise ValueError for an image whose scores are all 0 or less, as the official code
        does; otherwise such an image is ignored
    kind : 'soft', as in the official code: points with a bad score from IoU and confidence get the
        label 0, good ones 0.7 to 1; 'hard', as in the paper: the 20 % of points with the highest
        IoU get the label 1, all others 0
    """

    def __init__(self, bad_percentile: float = 30, init_iou_thresh: float = 0.35,
                 official: bool = False, kind: str = 'soft'):
        if kind not in PROPOSAL_LABELS:
            raise AdaptisError(f'The proposal labels "{kind}" are unknown: choose from '
                               f'{", ".join(PROPOSAL_LABELS)}.')
        self.iou = AdaptiveIoU(init_iou_thresh)
        self._percentile, self._official, self._kind = bad_percentile, official, kind
        self._bce = SigmoidBinaryCrossEntropy()

    def __call__(self, proposals: Any, instances: Any, labels: Any, batch_size: int) -> Any:
        """(B*N, 1) logits, (B*N, 1, H, W) instance logits and labels -> loss (B*N,)."""
        quality = self.labels(mx.nd.sigmoid(instances).asnumpy(), labels.asnumpy(), batch_size)
        target = mx.nd.array(quality.reshape(-1, 1), ctx=proposals.context)
        return self._bce(proposals, target)

    def labels(self, probabilities: np.ndarray, masks: np.ndarray, batch_size: int) -> np.ndarray:
        """Return the labels of the points, (B, N) in {-1, 0} or [0.7, 1]; -1 = ignore."""
        self.iou.update(probabilities, masks)
        iou = mask_iou(probabilities > self.iou.threshold, masks)
        if self._kind == 'hard':
            return np.stack([_label_best(image) for image in iou.reshape(batch_size, -1)])
        flat, truth = (a.reshape(len(a), -1) for a in (probabilities, masks))
        inside = (flat * truth).sum(axis=1) / np.maximum(truth.sum(axis=1), 1)
        images = zip(iou.reshape(batch_size, -1), (iou * inside).reshape(batch_size, -1))
        return np.stack([self._label_image(*image) for image in images]).astype(np.float32)

    def _label_image(self, iou: np.ndarray, score: np.ndarray) -> np.ndarray:
        if (iou < 0).any():
            return np.full(len(iou), -1.0)
        spread = np.ptp(iou) > 0.1
        threshold = (0.95 * np.percentile(score, self._percentile) if spread
                     else 0.99 * score.min())
        good = score > threshold
        if not good.any():
            if self._official:
                raise ValueError('no point of the image scores above the threshold')
            return np.full(len(iou), -1.0)
        low, high = _range(score[good])
        label = np.ones(len(score))
        if high - low > 1e-3:
            label = 0.7 + 0.3 * (score - low) / (high - low)
        return np.where(good, label, 0.0)


def _label_best(iou: np.ndarray) -> np.ndarray:
    """Return 1 for the best fifth of an image's points and 0 for the others; -1 without an IoU."""
    if (iou < 0).any():
        return np.full(len(iou), -1.0, np.float32)
    best = np.argsort(-iou, kind='stable')[:max(1, round(GOOD_SHARE * len(iou)))]
    return np.isin(np.arange(len(iou)), best).astype(np.float32)


def _range(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


INSTANCE_LOSSES: dict[str, Callable[..., Loss]] = {
    'normalized_focal': NormalizedFocalLossSigmoid,
    'focal': FocalLoss,
    'bce': SigmoidBinaryCrossEntropy,
}
SEMANTIC_LOSSES: dict[str, Callable[..., Loss]] = {
    'normalized_focal': NormalizedFocalLossSoftmax,
    'cross_entropy': SoftmaxCrossEntropy,
}


def make_loss(table: Mapping[str, Callable[..., Loss]], name: str, what: str,
              **strengths: Optional[float]) -> Loss:
    """Return a loss by name; ``strengths`` (alpha, gamma) that are None keep the loss's default.

    Raises AdaptisError, with ``what`` as the type of the loss, if the loss is unknown or does not
    have such a strength.
    """
    if not isinstance(name, str) or name not in table:
        raise AdaptisError(f'There is no {what} loss "{name}": choose one of {sorted(table)}.')
    given = {key: value for key, value in strengths.items() if value is not None}
    for key in given:
        if key not in inspect.signature(table[name]).parameters:
            raise AdaptisError(f'The {what} loss "{name}" has no {key}: set {what}_{key} to null.')
    return table[name](**given)
