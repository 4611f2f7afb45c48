"""ONNX converters for operators that reshape, slice or create arrays.

Importing this module registers them with MXNet's exporter for opset 16; ``onnx_layers`` contains
the converters of operators that compute, ``onnx_deformable`` that of convolutions.  MXNet's own
converters are used for pooling, dense layers, activations and the arithmetic of two arrays.  For
the operators in this module, MXNet has no converter, or one that does not support all of MXNet's
shape codes or axes, or that needs parts of the onnx package that newer versions lack.  No converter
depends on a size.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np

from adaptis.deploy.onnx_writer import Operator, register_converter

_LAST = np.iinfo(np.int64).max
Dimension = Union[int, tuple[int, ...]]
"""A size in a new shape: a number, -1 for the rest, or the input axes whose product it is."""


# -- shapes -------------------------------------------------------------------------------------

@register_converter('Reshape', 'reshape')
def _reshape(op: Operator) -> str:
    op.require(reverse=(False,))
    x, = op.inputs
    return op.add('Reshape', x, _new_shape(op, new_dimensions(op.attribute('shape'), op.ranks[0])))


def new_dimensions(codes: Sequence[int], rank: int) -> list[Dimension]:
    """Return the meaning of MXNet's codes for a reshape: 0, -1, -2, -3, -4 and sizes."""
    dimensions: list[Dimension] = []
    axis, rest = 0, list(codes)
    while rest:
        code = rest.pop(0)
        if code == -2:
            dimensions += [(i,) for i in range(axis, rank)]
            axis = rank
        elif code == -3:
            dimensions.append((axis, axis + 1))
            axis += 2
        elif code == -4:
            parts = rest.pop(0), rest.pop(0)
            dimensions += [(axis,) if part == -1 and 1 in parts else part for part in parts]
            axis += 1
        else:
            dimensions.append((axis,) if code == 0 else code)
            axis += 1
    if -1 not in dimensions:
        products = [i for i, d in enumerate(dimensions) if isinstance(d, tuple) and len(d) > 1]
        if products:
            dimensions[products[0]] = -1
    return dimensions


def _new_shape(op: Operator, dimensions: Sequence[Dimension]) -> str:
    """Return the name of a shape vector for the first input."""
    x = op.inputs[0]
    if dimensions.count(-1) > 1:
        raise NotImplementedError(f'Reshape to {op.attribute("shape")}')
    parts: list[str] = []
    numbers: list[int] = []
    for i, dimension in enumerate(dimensions):
        if not isinstance(dimension, tuple) or dimension == (i,):
            numbers.append(0 if isinstance(dimension, tuple) else dimension)   # 0 keeps the size
            continue
        if numbers:
            parts.append(op.constant(numbers))
            numbers = []
        sizes = op.shape(x, dimension[0], dimension[-1] + 1)
        parts.append(sizes if len(dimension) == 1 else op.add('ReduceProd', sizes, keepdims=1))
    return op.concat(parts + [op.constant(numbers)] * bool(numbers))


@register_converter('reshape_like')
def _reshape_like(op: Operator) -> str:
    x, like = op.inputs
    begin, end, like_begin, like_end = (
        _limit(op.attribute(f'{side}_{which}'), rank, rank if which == 'end' else 0)
        for side, rank in zip(('lhs', 'rhs'), op.ranks) for which in ('begin', 'end'))
    parts = [op.shape(x, 0, begin)] * bool(begin)
    parts.append(op.shape(like, like_begin, like_end))
    parts += [op.shape(x, end)] * (end < op.ranks[0])
    return op.add('Reshape', x, op.concat(parts))


def _limit(value: Optional[int], rank: int, default: int) -> int:
    if value is None:
        return default
    return value + rank if value < 0 else value


@register_converter('expand_dims')
def _expand_dims(op: Operator) -> str:
    axis = op.axis(op.attribute('axis'), op.ranks[0] + 1)
    return op.add('Unsqueeze', op.inputs[0], op.constant([axis]))


@register_converter('squeeze')
def _squeeze(op: Operator) -> str:
    axes = axes_of(op)
    return op.add('Squeeze', op.inputs[0], *([] if axes is None else [op.constant(axes)]))


@register_converter('stack')
def _stack(op: Operator) -> str:
    axis = op.axis(op.attribute('axis', 0), op.ranks[0] + 1)
    axes = op.constant([axis])
    return op.add('Concat', *(op.add('Unsqueeze', x, axes) for x in op.inputs), axis=axis)


@register_converter('broadcast_like')
def _broadcast_like(op: Operator) -> str:
    x, like = op.inputs
    ours, theirs = (op.attribute(f'{side}_axes') for side in ('lhs', 'rhs'))
    if not ours:
        return op.add('Expand', x, op.shape(like))
    other = {op.axis(a): op.axis(b, op.ranks[1]) for a, b in zip(ours, theirs)}
    one = op.constant([1])   # expanding to 1 keeps a size
    sizes = [op.shape(like, other[i], other[i] + 1) if i in other else one
             for i in range(op.ranks[0])]
    return op.add('Expand', x, op.concat(sizes))


@register_converter('tile')
def _tile(op: Operator) -> str:
    x, reps = op.inputs[0], op.attribute('reps')
    missing = len(reps) - op.ranks[0]
    if missing > 0:
        x = op.add('Unsqueeze', x, op.constant(range(missing)))
    return op.add('Tile', x, op.constant([1] * max(0, -missing) + list(reps)))


@register_converter('repeat')
def _repeat(op: Operator) -> str:
    x, axis, repeats = op.inputs[0], op.attribute('axis'), op.attribute('repeats')
    if axis is None:
        x, axis, rank = op.add('Reshape', x, op.constant([-1])), 0, 1
    else:
        axis, rank = op.axis(axis), op.ranks[0]
    shape = op.concat([op.shape(x, 0, axis)] * bool(axis) + [op.constant([-1])]
                      + [op.shape(x, axis + 1)] * (axis + 1 < rank))
    x = op.add('Unsqueeze', x, op.constant([axis + 1]))
    copies = [repeats if i == axis + 1 else 1 for i in range(rank + 1)]
    return op.add('Reshape', op.add('Tile', x, op.constant(copies)), shape)


# -- parts --------------------------------------------------------------------------------------

@register_converter('slice_axis')
def _slice_axis(op: Operator) -> str:
    return _slice(op, [op.axis(op.attribute('axis'))], [op.attribute('begin')],
                  [op.attribute('end')], [None])


@register_converter('slice')
def _slice_axes(op: Operator) -> str:
    begins, ends = op.attribute('begin'), op.attribute('end')
    steps = op.attribute('step') or [None] * len(begins)
    return _slice(op, range(len(begins)), begins, ends, steps)


@register_converter('reverse', 'flip')
def _reverse(op: Operator) -> str:
    axes = axes_of(op)
    count = len(axes)
    return _slice(op, axes, [-1] * count, [-_LAST] * count, [-1] * count)


def _slice(op: Operator, axes: Sequence[int], begins: Sequence[Any], ends: Sequence[Any],
           steps: Sequence[Any]) -> str:
    """Slice some axes; None means the whole range, and axes that are not sliced are omitted."""
    limits = []
    for axis, begin, end, step in zip(axes, begins, ends, steps):
        step = 1 if step is None else step
        if begin is None:
            begin = 0 if step > 0 else -1
        if end is None:
            end = _LAST if step > 0 else -_LAST
        if (begin, end, step) != (0, _LAST, 1):
            limits.append((begin, end, axis, step))
    if not limits:
        return op.inputs[0]
    return op.add('Slice', op.inputs[0], *(op.constant(values) for values in zip(*limits)))


@register_converter('slice_like')
def _slice_like(op: Operator) -> str:
    x, like = op.inputs
    axes = [op.axis(a) for a in op.attribute('axes') or range(op.ranks[1])]
    sizes = op.concat([op.shape(like, axis, axis + 1) for axis in axes])
    return op.add('Slice', x, op.constant([0] * len(axes)), sizes, op.constant(axes))


@register_converter('Crop')
def _crop(op: Operator) -> str:
    x, *like = op.inputs
    size = op.shape(like[0], 2, 4) if like else op.constant(op.attribute('h_w'))
    if op.attribute('center_crop', False):
        begin = op.add('Div', op.add('Sub', op.shape(x, 2, 4), size), op.constant(2))
    else:
        begin = op.constant(op.attribute('offset', (0, 0)))
    return op.add('Slice', x, begin, op.add('Add', begin, size), op.constant([2, 3]))


@register_converter('SliceChannel', 'split')
def _split(op: Operator) -> list[str]:
    axis, count = op.axis(op.attribute('axis', 1)), op.attribute('num_outputs')
    parts = op.add_many('Split', op.inputs, count, axis=axis)
    if op.attribute('squeeze_axis', False):
        parts = [op.add('Squeeze', part, op.constant([axis])) for part in parts]
    return parts


@register_converter('take')
def _take(op: Operator) -> str:
    op.require(mode=('clip',))
    x, indices = op.inputs
    axis = op.axis(op.attribute('axis', 0))
    last = op.add('Sub', op.shape(x, axis, axis + 1), op.constant([1]))
    indices = op.add('Min', op.add('Max', op.cast(indices, 'int64'), op.constant([0])), last)
    if op.ranks[1] == 0:
        indices = op.add('Squeeze', indices)
    return op.add('Gather', x, indices, axis=axis)


@register_converter('one_hot')
def _one_hot(op: Operator) -> str:
    op.require(dtype=('float32',))
    values = op.constant([op.attribute('off_value', 0), op.attribute('on_value', 1)], 'float32')
    return op.add('OneHot', op.cast(op.inputs[0], 'int64'), op.constant(op.attribute('depth')),
                  values, axis=-1)


@register_converter('Pad', 'pad')
def _pad(op: Operator) -> str:
    widths = op.attribute('pad_width')
    inputs = [op.inputs[0], op.constant([*widths[::2], *widths[1::2]])]
    mode = op.attribute('mode')
    if mode == 'constant':
        inputs.append(op.number(op.attribute('constant_value', 0)))
    return op.add('Pad', *inputs, mode=mode)


# -- new arrays ---------------------------------------------------------------------------------

@register_converter('_contrib_arange_like')
def _arange_like(op: Operator) -> str:
    op.require(repeat=(1,))
    x, axis = op.inputs[0], op.attribute('axis')
    if axis is None:
        count = op.add('Size', x)
    else:
        axis = op.axis(axis)
        count = op.add('Squeeze', op.shape(x, axis, axis + 1))
    values = op.cast(op.add('Range', op.constant(0), count, op.constant(1)), 'float32')
    start, step = op.attribute('start', 0), op.attribute('step', 1)
    if step != 1:
        values = op.add('Mul', values, op.number(step))
    if start != 0:
        values = op.add('Add', values, op.number(start))
    return values if axis is not None else op.add('Reshape', values, op.shape(x))


@register_converter('ones_like')
def _ones_like(op: Operator) -> str:
    return filled_like(op, op.inputs[0], 1.0)


@register_converter('zeros_like')
def _zeros_like(op: Operator) -> str:
    return filled_like(op, op.inputs[0], 0.0)


# -- shared with onnx_layers ---------------------------------------------------------------------

def axes_of(op: Operator) -> Optional[list[int]]:
    """Return the axes, counted from the front; None for all axes."""
    axis = op.attribute('axis')
    if axis is None or axis == ():
        return None
    return [op.axis(a) for a in (axis if isinstance(axis, tuple) else (axis,))]


def filled_like(op: Operator, x: str, value: float) -> str:
    """Return an array of ``x``'s shape that is filled with a value."""
    from onnx import numpy_helper  # optional
    return op.add('ConstantOfShape', op.shape(x),
                  value=numpy_helper.from_array(np.array([value], np.float32)))
