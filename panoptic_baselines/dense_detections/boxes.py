"""A box at every pixel, and masks from these boxes, without parameters (Hou et al., section 3.2).

All maps are on the levelness grid: stride 4, twice the size of p3.
"""
from __future__ import annotations

from adaptis.runtime import mx
from panoptic_baselines.arguments import check_choice
from panoptic_baselines.dense_detections.interpolate import resize_like
from panoptic_baselines.dense_detections.masks import GRID_STRIDE

HybridBlock = mx.gluon.HybridBlock

LOCATION_MEASURES = ('giou', 'iou')


def dense_boxes(F, distances, levelness):
    """Return the box of every pixel, from the most likely level there (equation 14).

    Parameters
    ----------
    distances : of each of L levels (B, 4, h, w), to left, top, right, bottom in pixels
    levelness : (B, L, H, W), a score for each level

    Returns (B, 4, H, W): x0, y0, x1, y1 around the pixel, not clipped to the image.
    """
    chosen = F.transpose(F.one_hot(F.argmax(levelness, axis=1), len(distances)), (0, 3, 1, 2))
    distances = F.stack(*(resize_like(F, x, levelness) for x in distances), axis=1)
    distances = F.sum(F.broadcast_mul(distances, F.expand_dims(chosen, 2)), axis=1)
    return _boxes_around(F, distances, _locations(F, levelness))


def level_boxes(F, distances, like):
    """Return the boxes that all levels predict at every pixel (equation A21).

    ``distances`` of L levels are as in ``dense_boxes``; ``like`` is (B, any, H, W).  Returns
    (B, 4 * L, H, W): x0, y0, x1, y1 of the first level, then of the next.
    """
    points = _locations(F, like)
    return F.concat(*(_boxes_around(F, resize_like(F, x, like), points) for x in distances), dim=1)


def _boxes_around(F, distances, points):
    left_top, right_bottom = F.split(distances, num_outputs=2, axis=1)
    return F.concat(F.broadcast_sub(points, left_top), F.broadcast_add(right_bottom, points), dim=1)


def _locations(F, like):
    """Return (1, 2, H, W): the image coordinates x and y of the grid's pixels."""
    one = F.BlockGrad(F.slice(like, begin=(0, 0, None, None), end=(1, 1, None, None))) * 0
    x, y = (F.contrib.arange_like(one, axis=axis) * GRID_STRIDE + GRID_STRIDE // 2
            for axis in (3, 2))
    return F.concat(F.broadcast_add(one, x.reshape((1, 1, 1, -1))),
                    F.broadcast_add(one, y.reshape((1, 1, -1, 1))), dim=1)


def location_probability(F, dense, queries, kind='giou'):
    """Return how well the box of every pixel fits every query: (4, P), (N, 4) -> (N, P).

    'iou' is equation 6.  'giou' is the official code's (I + 1) / (U + 1) - (G - U) / G, where G is
    the area that encloses both; it also tells how far disjoint boxes are apart.
    """
    left, top, right, bottom = F.split(dense, num_outputs=4, axis=0)
    own_left, own_top, own_right, own_bottom = F.split(queries, num_outputs=4, axis=1)
    width, height = right - left, bottom - top
    own_width, own_height = own_right - own_left, own_bottom - own_top
    # How far a pixel's box extends beyond the query; the box that encloses both extends beyond
    # the query by the same length.
    out_x = _beyond(F, left, right, own_left, own_right)
    out_y = _beyond(F, top, bottom, own_top, own_bottom)
    common = (F.Activation(F.broadcast_sub(width, out_x), 'relu')
              * F.Activation(F.broadcast_sub(height, out_y), 'relu'))
    union = F.broadcast_add(own_width * own_height, width * height) - common
    if kind == 'iou':
        return common / F.maximum(union, 1e-7)
    hull = F.broadcast_add(out_x, own_width) * F.broadcast_add(out_y, own_height) + 1e-7
    return (common + 1) / (union + 1) + union / hull - 1


def best_location_probability(F, dense, queries, kind='giou', levels=1):
    """Return the location probability of the level that fits each query best (A22 and A23).

    Boxes (4 * L, P) of L = ``levels`` (see ``level_boxes``) and queries (N, 4) -> (N, P).
    """
    best = None
    for i in range(levels):
        one = F.slice_axis(dense, axis=0, begin=4 * i, end=4 * i + 4)
        found = location_probability(F, one, queries, kind)
        best = found if best is None else F.maximum(best, found)
    return best


def _beyond(F, low, high, own_low, own_high):
    return (F.Activation(F.broadcast_sub(high, own_high), 'relu')
            + F.Activation(F.broadcast_sub(own_low, low), 'relu'))


class MaskBuilder(HybridBlock):
    """Mask probabilities of all queries at once, without parameters (equations 5 and 6).

    Boxes of all pixels (4 * L, H, W), thing probabilities (K, H, W), queries (N, 4) and their
    classes (N,) -> (N, H, W).  ``kind`` selects the location probability, 'giou' or 'iou'.
    ``levels`` is L: 1, or the number of levels of a network without levelness.

    Raises AdaptisError for an unknown kind.
    """

    def __init__(self, kind: str = 'giou', levels: int = 1):
        super().__init__()
        check_choice('kind', kind, LOCATION_MEASURES)
        self._kind, self._levels = kind, levels

    def hybrid_forward(self, F, boxes, things, queries, classes):
        location = best_location_probability(F, boxes.reshape((0, -1)), queries, self._kind,
                                             self._levels)
        likely = F.take(things, classes, axis=0)
        return F.reshape_like(location, likely) * likely
