"""ONNX converters for operators that compute: arithmetic, sums, products, layers.

Importing this module registers them with MXNet's exporter for opset 16.  MXNet's own converters for
these operators do not work.  They guess the side of a scalar from the name of the node; support
only products of matrices; lack resizing with ``like``, means over axes, aligned RoIAlign, fixed
gamma or synchronised normalisation; or need parts of the onnx package that newer versions lack.
"""
from __future__ import annotations

from typing import Any, Optional

from adaptis.deploy.onnx_shapes import axes_of, filled_like
from adaptis.deploy.onnx_writer import Operator, register_converter

# -- arithmetic ---------------------------------------------------------------------------------

def _with_scalar(kind: str, scalar_first: bool = False) -> Any:
    def convert(op: Operator) -> str:
        operands = [op.inputs[0], op.number(op.attribute('scalar', 1.0))]
        return op.add(kind, *reversed(operands) if scalar_first else operands)
    return convert


for _name, _kind in (('plus', 'Add'), ('minus', 'Sub'), ('mul', 'Mul'), ('div', 'Div'),
                     ('power', 'Pow'), ('maximum', 'Max'), ('minimum', 'Min')):
    register_converter(f'_{_name}_scalar')(_with_scalar(_kind))
for _name, _kind in (('rminus', 'Sub'), ('rdiv', 'Div'), ('rpower', 'Pow')):
    register_converter(f'_{_name}_scalar')(_with_scalar(_kind, scalar_first=True))


def _comparison(kind: str, negated: bool = False) -> Any:
    """Convert a comparison; MXNet's comparisons return the numbers 0 and 1."""
    def convert(op: Operator) -> str:
        operands = op.inputs if len(op.inputs) == 2 else [
            op.inputs[0], op.number(op.attribute('scalar', 1.0))]
        found = op.add(kind, *operands)
        return op.cast(op.add('Not', found) if negated else found, 'float32')
    return convert


for _name, _kind in (('equal', 'Equal'), ('greater', 'Greater'), ('lesser', 'Less'),
                     ('greater_equal', 'GreaterOrEqual'), ('lesser_equal', 'LessOrEqual')):
    register_converter(f'broadcast_{_name}', f'_{_name}', f'_{_name}_scalar')(_comparison(_kind))
register_converter('broadcast_not_equal', '_not_equal', '_not_equal_scalar')(
    _comparison('Equal', negated=True))


def _of_two(kind: str) -> Any:
    return lambda op: op.add(kind, *op.inputs)


for _name, _kind in (('maximum', 'Max'), ('minimum', 'Min')):
    register_converter(f'broadcast_{_name}', f'_{_name}')(_of_two(_kind))


@register_converter('square')
def _square(op: Operator) -> str:
    return op.add('Mul', op.inputs[0], op.inputs[0])


@register_converter('rsqrt')
def _rsqrt(op: Operator) -> str:
    return op.add('Reciprocal', op.add('Sqrt', op.inputs[0]))


@register_converter('clip')
def _clip(op: Operator) -> str:
    return op.add('Clip', op.inputs[0],
                  *(op.number(op.attribute(name)) for name in ('a_min', 'a_max')))


@register_converter('softmax')
def _softmax(op: Operator) -> str:
    """Convert a softmax; a transposition for MXNet's fast softmax is moved after it.

    Over axes other than the last one, ONNX Runtime's softmax takes four times as long as its parts.
    """
    op.require(use_length=(False,), temperature=(1,), dtype=('float32',))
    axis, x, order = op.axis(op.attribute('axis', -1)), op.inputs[0], None
    if op.producer().kind == 'transpose' and op.producer().attribute('axes'):
        (x, *_), order = op.producer().inputs, op.producer().attribute('axes')
        axis = order[axis]
    if axis == op.ranks[0] - 1:
        found = op.add('Softmax', x, axis=axis)
    else:
        growth = op.add('Exp', op.add('Sub', x, op.add('ReduceMax', x, axes=[axis], keepdims=1)))
        total = op.add('ReduceSum', growth, op.constant([axis]), keepdims=1)
        found = op.add('Div', growth, total)
    return found if order is None else op.add('Transpose', found, perm=list(order))


# -- sums and products --------------------------------------------------------------------------

def _reduction(kind: str, axes_are_an_input: bool = False) -> Any:
    def convert(op: Operator) -> str:
        op.require(exclude=(False,))
        axes, keepdims = axes_of(op), bool(op.attribute('keepdims', False))
        inputs, options = list(op.inputs), {}
        if axes is not None and axes_are_an_input:
            inputs.append(op.constant(axes))
        elif axes is not None:
            options['axes'] = axes
        result = op.add(kind, *inputs, keepdims=int(keepdims), **options)
        if keepdims or (axes is not None and len(axes) < op.ranks[0]):
            return result
        return op.add('Reshape', result, op.constant([1]))   # MXNet has no arrays without axes
    return convert


register_converter('sum', 'sum_axis')(_reduction('ReduceSum', axes_are_an_input=True))
for _name, _kind in (('max', 'Max'), ('min', 'Min'), ('mean', 'Mean'), ('prod', 'Prod')):
    register_converter(_name)(_reduction(f'Reduce{_kind}'))


@register_converter('argmax')
def _argmax(op: Operator) -> str:
    if op.attribute('axis') is None:
        raise NotImplementedError('argmax over all axes')
    found = op.add('ArgMax', op.inputs[0], axis=op.axis(op.attribute('axis')),
                   keepdims=int(op.attribute('keepdims', False)))
    return op.cast(found, 'float32')


@register_converter('dot')
def _dot(op: Operator) -> str:
    """Convert a product: the axes of the left array except its last, then those of the right.

    The right one must be a vector or a matrix.
    """
    (left, right), (left_rank, right_rank) = op.inputs, op.ranks
    if left_rank == 2 and right_rank == 1 and op.producer(1).kind == 'ones_like':
        return _row_sums(op, left, op.producer(0))
    transposed = [op.attribute(f'transpose_{which}', False) for which in 'ab']
    if right_rank > 2 or (transposed[0] and left_rank > 2):
        raise NotImplementedError(f'dot of {left_rank} and {right_rank} dimensions')
    if transposed[0] and left_rank == 2:
        left = op.add('Transpose', left, perm=[1, 0])
    if transposed[1] and right_rank == 2:
        right = op.add('Transpose', right, perm=[1, 0])
    product = op.add('MatMul', left, right)
    return op.add('Reshape', product, op.constant([1])) if left_rank == right_rank == 1 else product


@register_converter('batch_dot')
def _batch_dot(op: Operator) -> str:
    transposed = [bool(op.attribute(f'transpose_{which}', False)) for which in 'ab']
    return op.add('MatMul', *(op.add('Transpose', x, perm=[0, 2, 1]) if swapped else x
                              for x, swapped in zip(op.inputs, transposed)))


@register_converter('_linalg_gemm')
def _gemm(op: Operator) -> str:
    """Convert alpha * A B + beta * C; if B is a row of ones, A is added to every column of C."""
    op.require(transpose_a=(False,), transpose_b=(False,), axis=(-2,))
    column, row, total = op.inputs
    alpha, beta = op.attribute('alpha', 1), op.attribute('beta', 1)
    if not _is_row_of_ones(op.producer(1)):
        column = op.add('MatMul', column, row)
    if beta != 1:
        total = op.add('Mul', total, op.number(beta))
    if abs(alpha) != 1:
        column = op.add('Mul', column, op.number(abs(alpha)))
    return op.add('Add' if alpha > 0 else 'Sub', total, column)


def _is_row_of_ones(producer: Operator) -> bool:
    """Return whether an operator creates an array (1, n) of ones."""
    return (producer.kind == 'expand_dims' and producer.attribute('axis') == 0
            and producer.ranks == [1] and producer.producer().kind == 'ones_like')


def _row_sums(op: Operator, rows: str, producer: Operator) -> str:
    """Sum over the last axis, in two steps if the rows were images.

    ONNX Runtime adds numbers one after the other, which loses precision in long rows: with a single
    step, masks of AdaptIS differ by up to 4e-4.
    """
    while producer.kind in ('broadcast_sub', 'square', 'expand_dims', '_linalg_gemm'):
        producer = producer.producer(2 if producer.kind == '_linalg_gemm' else 0)
    if producer.kind not in ('Reshape', 'reshape'):
        return op.add('ReduceSum', rows, op.constant([-1]), keepdims=0)
    width = op.shape(producer.inputs[0], producer.ranks[0] - 1)
    rows = op.add('Reshape', rows, op.concat([op.constant([0, -1]), width]))
    rows = op.add('ReduceSum', rows, op.constant([2]), keepdims=0)
    return op.add('ReduceSum', rows, op.constant([1]), keepdims=0)


# -- layers -------------------------------------------------------------------------------------

@register_converter('BatchNorm', '_contrib_SyncBatchNorm')
def _batch_norm(op: Operator) -> str:
    """Convert batch normalisation with stored statistics, as in inference."""
    op.require(axis=(1,))
    x, gamma, *others = op.inputs
    if op.attribute('fix_gamma', True):
        gamma = filled_like(op, gamma, 1.0)
    return op.add('BatchNormalization', x, gamma, *others, epsilon=op.attribute('eps', 1e-3))


@register_converter('UpSampling')
def _up_sampling(op: Operator) -> str:
    op.require(sample_type=('nearest',), num_args=(1,))
    scale = op.attribute('scale')
    return _resize(op, 'nearest', 'asymmetric', scale, nearest_mode='floor')


@register_converter('_contrib_BilinearResize2D')
def _bilinear_resize(op: Operator) -> str:
    op.require(mode=('size', 'like'))
    how = 'align_corners' if op.attribute('align_corners', True) else 'half_pixel'
    scales = op.attribute('scale_height'), op.attribute('scale_width')
    if op.attribute('mode') == 'like':
        return _resize(op, 'linear', how, size=op.shape(op.inputs[1], 2, 4))
    if None not in scales:
        return _resize(op, 'linear', how, *scales)
    size = [op.attribute('height'), op.attribute('width')]
    return _resize(op, 'linear', how, size=op.constant(size))


def _resize(op: Operator, mode: str, how: str, scale: float = 1,
            scale_width: Optional[float] = None, size: Optional[str] = None,
            **options: Any) -> str:
    """Resize by scale factors of height and width, or to a size."""
    x = op.inputs[0]
    if size is None:
        factors = [1, 1, scale, scale if scale_width is None else scale_width]
        more = ['', op.constant(factors, 'float32')]
    else:
        more = ['', '', op.concat([op.shape(x, 0, 2), size])]
    return op.add('Resize', x, *more, mode=mode, coordinate_transformation_mode=how, **options)


@register_converter('BilinearSampler')
def _bilinear_sampler(op: Operator) -> str:
    x, grid = op.inputs
    return op.add('GridSample', x, op.add('Transpose', grid, perm=[0, 2, 3, 1]), mode='bilinear',
                  padding_mode='zeros', align_corners=1)


@register_converter('_contrib_ROIAlign')
def _roi_align(op: Operator) -> str:
    """Convert RoIAlign, but not MXNet's zeros for an image index of -1, which ONNX lacks."""
    op.require(position_sensitive=(False,))
    x, rois = op.inputs
    axis = op.constant([1])
    boxes = op.add('Slice', rois, op.constant([1]), op.constant([5]), axis)
    images = op.add('Slice', rois, op.constant([0]), op.constant([1]), axis)
    height, width = op.attribute('pooled_size')
    return op.add(
        'RoiAlign', x, boxes, op.cast(op.add('Squeeze', images, axis), 'int64'), mode='avg',
        coordinate_transformation_mode=('half_pixel' if op.attribute('aligned', False)
                                        else 'output_half_pixel'),
        output_height=height, output_width=width, spatial_scale=op.attribute('spatial_scale'),
        sampling_ratio=max(op.attribute('sample_ratio', -1), 0))
