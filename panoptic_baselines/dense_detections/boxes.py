"""A box at every pixel, and masks made of them without parameters (Hou et al. 2020, section 3.2).

Maps lie on the levelness grid: stride 4, twice the size of p3.
"""
from __future__ import annotations

from adaptis.runtime import mx
from panoptic_baselines.arguments import check_choice
from panoptic_baselines.dense_detections.interpolate import resize_like
from panoptic_baselines.dense_detections.masks import GRID_STRIDE

HybridBlock = mx.gluon.HybridBlock

LOCATION_MEASURES = ('giou', 'iou')


def dense_boxes(F, distances, levelness):
    """Return the box of every pixel, from the level that is likeliest there (equation 14).

    Parameters
    ----------
    distances : of L levels (B, 4, h, w), to left, top, right, bottom in pixels
    levelness : (B, L, H, W), the higher the likelier

    Returns (B, 4, H, W): x0, y0, x1, y1 around the pixel, not clipped to the image.
    """
    chosen = F.transpose(F.one_hot(F.argmax(levelness, axis=1), len(distances)), (0, 3, 1, 2))
    distances = F.stack(*(resize_like(F, x, levelness) for x in distances), axis=1)
    distances = F.sum(F.broadcast_mul(distances, F.expand_dims(chosen, 2)), axis=1)
    left_top, right_bottom = F.split(distances, num_outputs=2, axis=1)
    points = _locations(F, levelness)
    return F.concat(F.broadcast_sub(points, left_top), F.broadcast_add(right_bottom, points),
                    dim=1)


def _locations(F, like):
    """Return (1, 2, H, W): x and y of the grid's pixels in the image."""
    one = F.BlockGrad(F.slice(like, begin=(0, 0, None, None), end=(1, 1, None, None))) * 0
    x, y = (F.contrib.arange_like(one, axis=axis) * GRID_STRIDE + GRID_STRIDE // 2
            for axis in (3, 2))
    return F.concat(F.broadcast_add(one, x.reshape((1, 1, 1, -1))),
                    F.broadcast_add(one, y.reshape((1, 1, -1, 1))), dim=1)


def location_probability(F, dense, queries, kind='giou'):
    """Return how well the box of every pixel fits every query: (4, P), (N, 4) -> (N, P).

    'iou' is equation 6.  'giou' is the official code's (I + 1) / (U + 1) - (G - U) / G, where G is
    the area that encloses both; it distinguishes the distances of boxes that are apart.
    """
    left, top, right, bottom = F.split(dense, num_outputs=4, axis=0)
    own_left, own_top, own_right, own_bottom = F.split(queries, num_outputs=4, axis=1)
    width, height = right - left, bottom - top
    own_width, own_height = own_right - own_left, own_bottom - own_top
    # The length by which a pixel's box exceeds its common part with the query; the box that
    # encloses both exceeds the query by the same length.
    out_x = _beyond(F, left, right, own_left, own_right)
    out_y = _beyond(F, top, bottom, own_top, own_bottom)
    common = (F.Activation(F.broadcast_sub(width, out_x), 'relu')
              * F.Activation(F.broadcast_sub(height, out_y), 'relu'))
    union = F.broadcast_add(own_width * own_height, width * height) - common
    if kind == 'iou':
        return common / F.maximum(union, 1e-7)
    hull = F.broadcast_add(out_x, own_width) * F.broadcast_add(out_y, own_height) + 1e-7
    return (common + 1) / (union + 1) + union / hull - 1


def _beyond(F, low, high, own_low, own_high):
    return (F.Activation(F.broadcast_sub(high, own_high), 'relu')
            + F.Activation(F.broadcast_sub(own_low, low), 'relu'))


class MaskBuilder(HybridBlock):
    """Mask probabilities of all queries at once, without parameters (equations 5 and 6).

    Boxes of all pixels (4, H, W), thing probabilities (K, H, W), queries (N, 4) and their classes
    (N,) -> (N, H, W).  ``kind`` of the location probability is 'giou' or 'iou'.

    Raises AdaptisError for another kind.
    """

    def __init__(self, kind: str = 'giou'):
        super().__init__()
        check_choice('kind', kind, LOCATION_MEASURES)
        self._kind = kind

    def hybrid_forward(self, F, boxes, things, queries, classes):
        location = location_probability(F, boxes.reshape((0, -1)), queries, self._kind)
        likely = F.take(things, classes, axis=0)
        return F.reshape_like(location, likely) * likely
