"""The dynamic potential head: a channel for each detection and each stuff class.

Li, Qi, Torr 2020, section 3.4.1 and appendix A.3.
"""
from __future__ import annotations

from adaptis.runtime import mx
from panoptic_baselines.arguments import check_choice
from panoptic_baselines.layers.softmax import channel_softmax

HybridBlock = mx.gluon.HybridBlock

VARIANTS = ('boxes', 'A', 'B', 'C')


class ClassProbabilities(HybridBlock):
    """Class logits (B, K, h, w) -> probabilities."""

    def hybrid_forward(self, F, logits):
        return channel_softmax(F, logits)


class Potential(HybridBlock):
    """Class probabilities and detections of one image -> (1, D + stuff, h, w), without parameters.

    The channel of detection k, with class c, score s and mask M, is 0 outside its box.  Inside the
    box, where V(c) is the probability of its class, it is

    ======= =============== ======================
    variant                 without masks
    ======= =============== ======================
    boxes   s V(c)
    A       V(c) + M        not defined
    B       s V(c) M        s V(c)
    C       s (V(c) + M)    s V(c)
    ======= =============== ======================

    The channels of stuff follow; they are V(c) everywhere.  The result is differentiable in V, s
    and M.

    Parameters
    ----------
    num_stuff : number of stuff classes, which precede the thing classes
    variant : 'boxes' (equation 1), or 'A', 'B', 'C' (equation 2)
    damp_masks : if False, variant C is s V(c) + M
    stride : stride of V, in pixels of the image

    Inputs
    ------
    probabilities (1, stuff + things, h, w); boxes (D, 4), (x0, y0, x1, y1) in pixels of the
    image; classes (D,), 0 = the first thing class; scores (D,); masks (D, m, m), probabilities that
    fill the boxes, not needed for 'boxes'.  D is at least 1.
    Raises AdaptisError for an unknown variant.
    """

    def __init__(self, num_stuff: int, variant: str = 'B', damp_masks: bool = True,
                 stride: int = 4):
        super().__init__()
        check_choice('potential', variant, VARIANTS)
        self._num_stuff, self._stride = num_stuff, stride
        self._variant, self._damp_masks = variant, damp_masks
        self.uses_scores, self.uses_masks = variant != 'A', variant != 'boxes'

    def __call__(self, probabilities, boxes, classes, scores, masks=None):
        # A graph must not have inputs that it does not use.
        used = [scores] * self.uses_scores + [masks] * self.uses_masks
        return super().__call__(probabilities, boxes, classes, *used)

    def hybrid_forward(self, F, probabilities, boxes, classes, *used):
        rows, columns = (self._centres(F, probabilities, axis) for axis in (2, 3))
        things = F.take(probabilities.reshape((-3, -2)), classes + self._num_stuff)
        if self._variant == 'A':
            values = things + paste(F, *used, boxes, rows, columns)
        else:
            scores, *masks = used
            masks = [paste(F, *masks, boxes, rows, columns)] if masks else []
            values = self._damped(F, things, scores.reshape((-1, 1, 1)), *masks)
        values = F.expand_dims(values * self._inside(F, boxes, rows, columns), axis=0)
        stuff = F.slice_axis(probabilities, axis=1, begin=0, end=self._num_stuff)
        return F.concat(values, stuff, dim=1)

    def _damped(self, F, things, scores, masks=None):
        if self._variant == 'boxes':
            return F.broadcast_mul(things, scores)
        if self._variant == 'B':
            return F.broadcast_mul(things * masks, scores)
        if self._damp_masks:
            return F.broadcast_mul(things + masks, scores)
        return F.broadcast_mul(things, scores) + masks

    def _centres(self, F, x, axis):
        """Return (h,) or (w,): the image coordinates of the centres of V's pixels."""
        return (F.contrib.arange_like(F.BlockGrad(x), axis=axis) + 0.5) * self._stride

    def _inside(self, F, boxes, rows, columns):
        """Return (D, h, w): 1 for pixels whose centre lies in the box, else 0."""
        x0, y0, x1, y1 = F.split(F.BlockGrad(boxes), num_outputs=4, axis=1)
        y, x = rows.reshape((1, -1)), columns.reshape((1, -1))
        tall = F.broadcast_greater_equal(y, y0) * F.broadcast_lesser(y, y1)
        wide = F.broadcast_greater_equal(x, x0) * F.broadcast_lesser(x, x1)
        return F.broadcast_mul(F.expand_dims(tall, axis=2), F.expand_dims(wide, axis=1))


def paste(F, masks, boxes, rows, columns):
    """Paste masks (D, m, m) that fill boxes (D, 4) -> (D, h, w) at pixels with given centres.

    The centres are ``rows`` (h,) and ``columns`` (w,).  Values are interpolated bilinearly between
    the centres of the masks' cells, which are padded with zeros.
    """
    x0, y0, x1, y1 = F.split(F.BlockGrad(boxes), num_outputs=4, axis=1)
    tall = _weights(F, masks, y0, y1, rows, axis=1)
    wide = _weights(F, masks, x0, x1, columns, axis=2)
    return F.batch_dot(F.batch_dot(tall, masks), wide, transpose_b=True)


def _weights(F, masks, low, high, centres, axis):
    """Return (D, n, m): the weight of each of a mask's cells in n pixels along one axis."""
    cells = F.contrib.arange_like(F.BlockGrad(masks), axis=axis).reshape((1, 1, -1))
    # An empty box does not contain the centre of a pixel; this only avoids dividing by 0.
    length = F.broadcast_div(F.maximum(high - low, 1e-6), F.max(cells).reshape((1, 1)) + 1)
    at = F.broadcast_div(F.broadcast_sub(centres.reshape((1, -1)), low), length) - 0.5
    return F.relu(1 - F.abs(F.broadcast_sub(F.expand_dims(at, axis=2), cells)))
