"""The ONNX converter for convolutions, which recognises deformable ones and writes them faster.

Importing this module registers it with MXNet's exporter.  ``DeformableConvNorm`` samples all taps of
the kernel, and then convolves the samples.  On a CPU, ONNX Runtime's GridSample computes positions
and weights again for every channel.  The graph that is written here reads whole feature vectors,
and adds up tap by tap, so that it never holds the samples of more than one tap.  It takes a quarter
of the time.  ONNX has an operator DeformConv since opset 19, but older runtimes do not.
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
    sampler = values.producer() if values.kind == 'Reshape' else values
    if sampler.kind != 'BilinearSampler':
        return None
    taps = values.attribute('shape')[3]
    image = sampler.producer()
    if (not _is_reshape(values, (0, 0, -4, taps, -1, 0)) or image.kind != 'Pad'
            or image.attribute('pad_width') != (0, 0, 0, 0, 1, 1, 1, 1)
            or image.attribute('constant_value', 0) != 0):
        return None
    return Samples(*sampler.inputs, share, taps)


def _is_reshape(op: Operator, shape: tuple[int, ...]) -> bool:
    return op.kind == 'Reshape' and op.attribute('shape') == shape


def _deformable(op: Operator, samples: Samples) -> str:
    """Write the sum over the taps: weight of the tap @ weights of four pixels @ these pixels."""
    flat = op.add('Reshape', samples.image, op.constant([0, 0, -1]))
    pixels = op.add('Transpose', flat, perm=[0, 2, 1])                       # (B, H * W, C)
    taps = samples.taps
    numbers, weights = (op.add_many('Split', [x], taps, axis=1) for x in _corners(op, samples))
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
    """Return the four pixels around each sample and their weights.

    These are int64 (B, taps * h, w, 4, 1), of the image with its pixels in one row, and float32
    (B, taps * h, w, 1, 4).  Positions are moved to the border of the image, which is zero.
    """
    one, column, zero = op.constant([1]), op.constant([2, 1, 1]), op.number(0)
    width = op.shape(samples.image, 3, 4)
    last = op.add('Sub', op.concat([width, op.shape(samples.image, 2, 3)]), one)
    last = op.add('Reshape', op.cast(last, 'float32'), column)
    at = op.add('Mul', op.add('Add', samples.grid, op.number(1)),
                op.add('Mul', last, op.number(0.5)))
    at = op.add('Min', op.add('Max', at, zero), last)                        # (B, 2, taps * h, w)
    first = op.add('Min', op.add('Floor', at), op.add('Sub', last, op.number(1)))
    far = op.add('Sub', at, first)
    far_x, far_y = op.add_many('Split', [far], 2, axis=1)
    near_x, near_y = op.add_many('Split', [op.add('Sub', op.number(1), far)], 2, axis=1)
    weights = op.add('Concat', *(op.add('Mul', y, x) for y in (near_y, far_y)
                                 for x in (near_x, far_x)), axis=1)
    if samples.share is not None:
        weights = op.add('Mul', weights, op.add('Reshape', samples.share, op.shape(far_x)))
    # Positions that are not numbers become some pixel, whose weight is not a number.
    x, y = op.add_many('Split', [op.add('Max', op.cast(first, 'int64'), op.constant(0))], 2, axis=1)
    steps = op.concat([op.constant([0, 1]), width, op.add('Add', width, one)])
    numbers = op.add('Add', op.add('Add', op.add('Mul', y, width), x),
                     op.add('Reshape', steps, op.constant([4, 1, 1])))
    return tuple(op.add('Unsqueeze', op.add('Transpose', values, perm=[0, 2, 3, 1]),
                        op.constant([axis])) for values, axis in ((numbers, 4), (weights, 3)))
