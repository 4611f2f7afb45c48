"""The ONNX converter for convolutions, which writes deformable ones as a graph that CPUs like.

Importing this module registers it with MXNet's exporter.  A ``DeformableConvNorm`` samples all taps
of its kernel and then convolves the samples.  ONNX Runtime's GridSample computes the position and
the weights of a sample again for every channel.  The graph that is written here instead reads whole
feature vectors, which takes a quarter of the time.  It adds up tap by tap, so it holds the samples
of a single tap.  ONNX's own operator DeformConv is newer than the models of this package, and older
versions of ONNX Runtime do not have it on CPUs.
"""
from __future__ import annotations

from typing import NamedTuple, Optional

from adaptis.deploy.onnx_writer import Operator, register_converter


class Samples(NamedTuple):
    """The tensors that a deformable convolution depends on.

    Attributes
    ----------
    image : (B, C, H, W), with zeros at its border
    grid : positions (x, y) from -1 to 1: (B, 2, taps * h, w)
    share : weights of the samples, (B, taps, h, w), if there are any
    taps : number of taps
    """

    image: str
    grid: str
    share: Optional[str]
    taps: int


@register_converter('Convolution')
def _convolution(op: Operator) -> str:
    op.require(layout=('NCHW', 'NCDHW'))
    samples = _samples(op)
    if samples is not None:
        return _deformable(op, samples)
    options = {name: list(op.attribute(ours)) for name, ours in (
        ('kernel_shape', 'kernel'), ('strides', 'stride'), ('dilations', 'dilate'))
        if op.attribute(ours)}
    return op.add('Conv', *op.inputs, group=op.attribute('num_group', 1),
                  pads=2 * list(op.attribute('pad') or [0] * (op.ranks[0] - 2)), **options)


def _samples(op: Operator) -> Optional[Samples]:
    """Return what a convolution's input was sampled from, None if it is no deformable one."""
    if (op.attribute('kernel') != (1, 1) or op.attribute('num_group', 1) != 1
            or not op.attribute('no_bias') or not _is_reshape(op.producer(), (0, -3, 0, 0))):
        return None
    values, share = op.producer().producer(), None
    if values.kind == 'broadcast_mul' and values.producer(1).kind == 'expand_dims':
        values, share = values.producer(), values.producer(1).inputs[0]
    codes = values.attribute('shape', ()) if values.kind == 'Reshape' else ()
    if (*codes[:3], *codes[4:]) != (0, 0, -4, -1, 0):   # splits the samples by tap, codes[3]
        return None
    sampler = values.producer()
    if sampler.kind != 'BilinearSampler' or not _pads_with_zeros(sampler.producer()):
        return None
    return Samples(*sampler.inputs, share, codes[3])


def _is_reshape(op: Operator, shape: tuple[int, ...]) -> bool:
    return op.kind == 'Reshape' and op.attribute('shape') == shape


def _pads_with_zeros(op: Operator) -> bool:
    """Return whether an operator adds a border of zeros, one pixel wide."""
    return (op.kind == 'Pad' and op.attribute('mode') == 'constant'
            and op.attribute('constant_value', 0) == 0
            and op.attribute('pad_width') == (0, 0, 0, 0, 1, 1, 1, 1))


def _deformable(op: Operator, samples: Samples) -> str:
    """Write a sum over the taps: four pixels, times their weights, times the tap's weights."""
    flat = op.add('Reshape', samples.image, op.constant([0, 0, -1]))
    pixels = op.add('Transpose', flat, perm=[0, 2, 1])                       # (B, H * W, C)
    taps = samples.taps
    numbers, weights = (op.add_many('Split', [corners], taps, axis=1)
                        for corners in _corners(op, samples))
    kernel = op.add('Reshape', op.inputs[1], op.constant([0, -1, taps]))
    kernels = op.add_many('Split', [op.add('Transpose', kernel, perm=[2, 1, 0])], taps, axis=0)
    total = None
    for tap in range(taps):
        corners = op.add('GatherND', pixels, numbers[tap], batch_dims=1)     # (B, h, w, 4, C)
        sampled = op.add('MatMul', weights[tap], corners)                    # (B, h, w, 1, C)
        product = op.add('MatMul', sampled, op.add('Squeeze', kernels[tap], op.constant([0])))
        total = product if total is None else op.add('Add', total, product)
    total = op.add('Squeeze', total, op.constant([3]))
    return op.add('Transpose', total, perm=[0, 3, 1, 2])


def _corners(op: Operator, samples: Samples) -> tuple[str, str]:
    """Return the four pixels around each sample, and their weights.

    The pixels are int64 (B, taps * h, w, 4, 1) and count the pixels of the image row by row; the
    weights are float32 (B, taps * h, w, 1, 4).
    """
    far, pixels = _positions(op, samples)
    far_x, far_y = op.add_many('Split', [far], 2, axis=1)
    near_x, near_y = op.add_many('Split', [op.add('Sub', op.number(1), far)], 2, axis=1)
    weights = op.add('Concat', *(op.add('Mul', y, x) for y in (near_y, far_y)
                                 for x in (near_x, far_x)), axis=1)
    if samples.share is not None:
        weights = op.add('Mul', weights, op.add('Reshape', samples.share, op.shape(far_x)))
    x, y = op.add_many('Split', [pixels], 2, axis=1)
    width = op.shape(samples.image, 3, 4)
    steps = op.concat([op.constant([0, 1]), width, op.add('Add', width, op.constant([1]))])
    numbers = op.add('Add', op.add('Add', op.add('Mul', y, width), x),
                     op.add('Reshape', steps, op.constant([4, 1, 1])))
    numbers, weights = (op.add('Transpose', values, perm=[0, 2, 3, 1])
                        for values in (numbers, weights))
    return op.add('Unsqueeze', numbers, op.constant([4])), op.add('Unsqueeze', weights,
                                                                  op.constant([3]))


def _positions(op: Operator, samples: Samples) -> tuple[str, str]:
    """Return how far (x, y) samples are from the pixel before them, and this pixel, int64.

    Both are (B, 2, taps * h, w).  Samples outside of the image move to its border, which is zero.
    """
    one = op.number(1)
    last = op.add('Sub', op.cast(op.concat([op.shape(samples.image, axis, axis + 1)
                                            for axis in (3, 2)]), 'float32'), one)
    last = op.add('Reshape', last, op.constant([2, 1, 1]))
    at = op.add('Mul', op.add('Add', samples.grid, one), op.add('Mul', last, op.number(0.5)))
    at = op.add('Min', op.add('Max', at, op.number(0)), last)
    pixel = op.add('Min', op.add('Floor', at), op.add('Sub', last, one))
    # A position that is not a number may become any pixel, because its weight is not a number.
    return op.add('Sub', at, pixel), op.add('Max', op.cast(pixel, 'int64'), op.constant(0))
