"""The mask head of CondInst: a tiny network per instance with predicted weights (section 2.2)."""
from __future__ import annotations

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.arguments import check_choice
from panoptic_baselines.condinst.aligned import AlignedUpsample

HybridBlock = mx.gluon.HybridBlock

COORDINATES = ('relative', 'absolute', None)


class DynamicMaskHead(HybridBlock):
    """Computes the masks of N instances of one image at once.

    ``head(features, params, locations, sizes)``: mask features (1, C, h, w); each instance's
    ``num_params`` predicted parameters (N, .), the location (N, 2) where they were predicted, in
    pixels (x, y), and its size of interest (N, 1) -> logits (N, factor * h, factor * w).

    An instance's parameters are the weights (out, in) of all its 1x1 convolutions, then their
    biases.  The inputs of the first layer are the coordinates x, y, then the features.  Relative
    coordinates are location minus pixel, divided by the size of interest; absolute coordinates go
    from -1 to 1 across the map.

    Parameters
    ----------
    in_channels : C; 0 = coordinates are the only input, and only the size of the features matters
    depth, channels : number of layers and width of the network; a ReLU follows all layers but the
        last
    coordinates : 'relative', 'absolute' or None
    stride : stride of the features in pixels
    factor : the factor by which the logits are upsampled
    """

    def __init__(self, in_channels: int = 8, depth: int = 3, channels: int = 8,
                 coordinates: str = 'relative', stride: int = 8, factor: int = 2):
        super().__init__()
        check_choice('coordinates', coordinates, COORDINATES)
        if not in_channels and coordinates is None:
            raise AdaptisError('A mask head needs features, coordinates or both.')
        inputs = in_channels + (2 if coordinates else 0)
        ends = [inputs] + [channels] * (depth - 1) + [1]
        self.shapes: list[tuple[int, int]] = list(zip(ends[1:], ends))
        self.num_params = sum(out * (source + 1) for out, source in self.shapes)
        self.in_channels, self._stride = in_channels, stride
        self.coordinates = coordinates
        with self.name_scope():
            self.upsample = AlignedUpsample(factor)

    def split(self, F, params):
        """Split (N, num_params) into weights (N, out, in) and biases (N, out, 1) of every layer."""
        counts = [out * source for out, source in self.shapes] + [o for o, _ in self.shapes]
        parts, begin = [], 0
        for count in counts:
            parts.append(F.slice_axis(params, axis=1, begin=begin, end=begin + count))
            begin += count
        depth = len(self.shapes)
        weights = [part.reshape((0, out, source))
                   for part, (out, source) in zip(parts, self.shapes)]
        return weights, [F.expand_dims(part, 2) for part in parts[depth:]]

    def forward(self, features, params, locations=None, sizes=None):
        """Run the head; without relative coordinates, its graph lacks the last two inputs."""
        places = (locations, sizes) if self.coordinates == 'relative' else ()
        return super().forward(features, params, *places)

    def hybrid_forward(self, F, features, params, *places):
        weights, biases = self.split(F, params)
        x = self.first(F, features, weights[0], biases[0], *places)
        for weight, bias in zip(weights[1:], biases[1:]):
            x = F.broadcast_add(F.batch_dot(weight, F.relu(x)), bias)
        x = F.reshape_like(x, features, lhs_begin=2, lhs_end=3, rhs_begin=2, rhs_end=4)
        return self.upsample(x).reshape((-3, 0, 0))

    def first(self, F, features, weight, bias, locations=None, sizes=None):
        """Return the output of the first layer (N, out, h * w), before the ReLU.

        The layer is linear, so the location of an instance can move into its bias.  Then only the
        weights differ between instances, and one large matrix product serves all of them.
        """
        grid = self._grid(F, features)
        if self.coordinates == 'relative':
            # weight * (location - pixel) / size = -weight / size * pixel + a constant
            scaled = F.broadcast_div(F.slice_axis(weight, axis=2, begin=0, end=2),
                                     F.expand_dims(sizes, 2))
            bias = bias + F.batch_dot(scaled, F.expand_dims(locations, 2))
            weight = (F.concat(-scaled, F.slice_axis(weight, axis=2, begin=2, end=None), dim=2)
                      if self.in_channels else -scaled)
        flat = F.concat(weight, bias, dim=2)
        return F.reshape_like(F.dot(flat.reshape((-3, 0)), grid), flat,
                              lhs_begin=0, lhs_end=1, rhs_begin=0, rhs_end=2)

    def _grid(self, F, features):
        """Return (channels, h * w): those of x, y, features and ones that the head uses."""
        one = F.ones_like(F.BlockGrad(F.slice_axis(features, axis=1, begin=0, end=1)))
        parts = [] if self.coordinates is None else self._pixels(F, one)
        if self.in_channels:
            parts.append(features)
        return F.concat(*parts, one, dim=1).reshape((-3, -3))

    def _pixels(self, F, one):
        """Return the x and y coordinates of every cell, (1, 1, h, w) each."""
        found = []
        for axis, shape in ((3, (1, 1, 1, -1)), (2, (1, 1, -1, 1))):
            index = F.contrib.arange_like(one, axis=axis)
            if self.coordinates == 'relative':
                index = index * self._stride + self._stride // 2
            else:
                half = F.max(index) / 2
                index = F.broadcast_div(F.broadcast_sub(index, half), half + (half == 0))
            found.append(F.broadcast_mul(index.reshape(shape), one))
        return found
