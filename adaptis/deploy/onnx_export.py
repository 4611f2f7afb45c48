"""Write stages as ONNX models, each for all sizes.

MXNet's own exporter (``mxnet.onnx``) converts the operators one by one, with its own converters and
those of ``onnx_shapes``, ``onnx_layers`` and ``onnx_deformable``.  This module does the rest,
because MXNet's exporter would use the newest opset of the onnx package, which its converters do not
match; give the same name to all uses of a shared layer; lose the order of the outputs; and convert
all weights to Python lists.
"""
from __future__ import annotations

import importlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Union

import numpy as np

from adaptis import __version__
from adaptis.deploy.onnx_half import to_float16
from adaptis.deploy.onnx_simplify import simplify
from adaptis.deploy.onnx_writer import OPSET
from adaptis.deploy.stages import Stage, concrete_shape, trace_symbol
from adaptis.errors import AdaptisError
from adaptis.files import atomic_write
from adaptis.model.graph import node_shapes
from adaptis.runtime import mx

IR_VERSION = 8
"""Version of the file format that matches the opset, so that older runtimes can read it."""

Shapes = list[list[tuple[int, ...]]]


class Tensor(NamedTuple):
    """The name and the type of an output, for MXNet's converters."""

    name: str
    dtype: np.dtype = np.dtype('float32')


def to_onnx(stage: Stage, path: Union[str, os.PathLike], precision: str = 'float32') -> None:
    """Write a stage as a checked ONNX model.

    Inputs, outputs and dynamic dimensions have the names of the stage.  With the ``precision``
    'float16', the model computes in float16 where it is safe (see ``onnx_half``).

    Raises
    ------
    AdaptisError
        If the onnx package is missing, an operator has no converter, or the file cannot be
        written.
    """
    model = onnx_model(stage)
    data = (to_float16(model) if precision == 'float16' else model).SerializeToString()
    with atomic_write(path) as file:
        file.write_bytes(data)


def onnx_model(stage: Stage) -> Any:
    """Return the ``onnx.ModelProto`` of a stage; see ``to_onnx``."""
    onnx = import_onnx()
    symbol = trace_symbol(stage)
    if len(symbol.list_outputs()) != len(stage.outputs):
        raise ValueError(f'The stage {stage.name} returns {len(symbol.list_outputs())} arrays but '
                         f'names {len(stage.outputs)}.')
    with warnings.catch_warnings():   # warnings about names of the onnx package that MXNet uses
        warnings.simplefilter('ignore', DeprecationWarning)
        nodes, tensors, initializers = _convert(stage, symbol)
    heads = json.loads(symbol.tojson())['heads']
    for (number, output, *_), name in zip(heads, stage.outputs):
        nodes.append(onnx.helper.make_node('Identity', [tensors[number][output].name], [name],
                                           name=name))
    nodes, initializers = simplify(nodes, initializers, stage.outputs)
    graph = onnx.helper.make_graph(
        nodes, stage.name,
        [_value(s.name, s.shape, s.dtype) for s in stage.inputs],
        [_value(name, shape, 'float32')
         for name, shape in zip(stage.outputs, _output_shapes(stage, symbol))],
        initializers)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid('', OPSET)], ir_version=IR_VERSION,
        producer_name='adaptis', producer_version=__version__)
    onnx.checker.check_model(model, full_check=True)
    return model


def import_onnx() -> Any:
    """Import the onnx package and register our converters; AdaptisError if that fails."""
    try:
        onnx = importlib.import_module('onnx')
    except ImportError as error:
        raise AdaptisError('The onnx package, which writes ONNX models, cannot be imported '
                           f'({error}): install it (pip install onnx), or use --format mxnet.'
                           ) from error
    for module in ('onnx_layers', 'onnx_deformable'):   # they register the converters
        importlib.import_module(f'adaptis.deploy.{module}')
    return onnx


def _shapes(stage: Stage, symbol: Any, values: Mapping[str, int]) -> Shapes:
    return node_shapes(symbol, {s.name: concrete_shape(s, values) for s in stage.inputs})


def _convert(stage: Stage, symbol: Any) -> tuple[list[Any], list[list[Tensor]], list[Any]]:
    """Return ONNX nodes, the output tensors of every node, and weights and constants."""
    from onnx import numpy_helper  # optional
    described = json.loads(symbol.tojson())['nodes']
    shapes = _shapes(stage, symbol, stage.example)
    parameters = stage.block.collect_params()
    nodes: list[Any] = []
    tensors: list[list[Tensor]] = []
    initializers: list[Any] = []
    for i, node in enumerate(described):
        if node['op'] == 'null':
            if node['name'] in parameters:
                value = _value_of(parameters[node['name']])
                initializers.append(numpy_helper.from_array(value, node['name']))
            tensors.append([Tensor(node['name'])])
            continue
        node['name'] = f'n{i}_{node["op"]}'
        written = _convert_node(
            stage, node, mx_graph=described, weights={}, proc_nodes=nodes, idx=i,
            initializer=initializers, outputs_lookup=tensors, shapes=shapes)
        nodes += written
        tensors.append(_tensors(node['name'], written, len(shapes[i])))
    return nodes, tensors, initializers


def _convert_node(stage: Stage, node: Mapping[str, Any], **context: Any) -> list[Any]:
    """Return the ONNX nodes of one operator."""
    from onnx import NodeProto  # optional
    exporter = mx.onnx.mx2onnx._export_onnx.MXNetGraph
    try:
        written, _ = exporter.convert_layer(node, is_input=False, opset_version=OPSET, **context)
    except (AttributeError, NotImplementedError) as error:   # MXNet's converters also raise both
        raise AdaptisError(f'The stage {stage.name} cannot be converted to ONNX, because there is '
                           f'no converter for its operator {node["op"]} ({error}): use --format '
                           'mxnet.') from error
    return [part for part in written if isinstance(part, NodeProto)]


def _tensors(name: str, written: Sequence[Any], count: int) -> list[Tensor]:
    """Return the outputs of an operator; MXNet's converters number them if there are several."""
    names: set[str] = {output for node in written for output in node.output}
    if name in names:
        return [Tensor(name)]
    return [Tensor(f'{name}{i}') for i in range(count)]


def _value_of(parameter: Any) -> np.ndarray:
    return parameter.data(parameter.list_ctx()[0]).asnumpy()


def _output_shapes(stage: Stage, symbol: Any) -> list[tuple[Any, ...]]:
    """Return the shape of every output: numbers, names of equal input sizes, or None.

    A size is dynamic if it changes when all dynamic sizes are doubled.
    """
    heads = [(number, output) for number, output, *_ in json.loads(symbol.tojson())['heads']]
    small, large = stage.example, {name: 2 * size for name, size in stage.example.items()}
    once, twice = _shapes(stage, symbol, small), _shapes(stage, symbol, large)
    names: dict[tuple[int, int], str] = {}
    for name in small:
        names.setdefault((small[name], large[name]), name)
    return [tuple(a if a == b else names.get((a, b)) for a, b in zip(once[n][o], twice[n][o]))
            for n, o in heads]


def _value(name: str, shape: Sequence[Any], dtype: str) -> Any:
    from onnx import helper  # optional
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)),
                                         list(shape))
