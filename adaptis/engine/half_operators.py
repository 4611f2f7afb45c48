"""Which operators compute in half precision, and the casts that this needs.

With MXNet's own lists (``mxnet.contrib.amp``), some operators of these networks fail or lose
digits: a normalisation with a half-precision scale, a coordinate of more than 11 bits, a sum over
all pixels.  MXNet's wrappers cannot be removed, they cast every input of the operators in a graph
even if it already has the type, and a cached graph keeps its original precision.  So the lists here
are shorter and work the other way round: **every operator that is not listed computes in float32**.
The same rule applies to called operators (``wrap_operator``) and to graphs (``mixed_graph``), so a
network computes the same with and without ``hybridize``.

These operators deliberately stay in float32:

- sums over pixels or rows: ``sum``, ``mean``, ``dot``, ``batch_dot``, ``cumsum``, and with them the
  sums of AdaIN, of GroupNorm, of the affinity and of the losses.  The largest float16 is 65,504,
  less than the sum of 256 x 256 pixels of value 1; a bfloat16 has 8 bits, so adding 1 to 256
  changes nothing.
- ``BatchNorm`` sums and scales in float32 internally; only its maps may be in half precision.
  ``SyncBatchNorm``, ``LayerNorm``, ``InstanceNorm`` and ``L2Normalization`` get float32.
- exponentials, logarithms, powers, divisions and roots: ``softmax``, ``sigmoid``, ``exp``, ``log``,
  ``softrelu``.  They overflow early (exp(12) in float16), or the loss needs their small values.
- coordinates, boxes, indices and everything that uses them for sampling: ``arange_like``,
``ROIAlign``,
  ``BilinearResize2D``, ``DeformableConvolution``, ``take``, ``pick``, ``topk``.  A column above
  2048 does not fit a float16.
- average pooling, which is a sum.
- operators with several inputs that need one type, such as ``where`` or ``broadcast_like``.
"""
from __future__ import annotations

import ast
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple

import numpy as np

from adaptis.runtime import mx

BFLOAT16 = np.dtype([('bfloat16', np.uint16)])
"""MXNet's representation of the type, which NumPy does not have."""

HALF: dict[str, frozenset[str]] = {
    'float16': frozenset({'Convolution', 'Deconvolution', 'FullyConnected'}),
    'bfloat16': frozenset({'Convolution', 'FullyConnected'})}
"""Sums of few products, which tensor cores accumulate in float32.  They account for all of the
speed-up.  On the CPU, MXNet has no transposed convolution in bfloat16, and convolutions with a
stride stay in float32 (see ``_has_stride``)."""

KEEPS: dict[str, frozenset[str]] = {
    'float16': frozenset({
        'BatchNorm', 'Activation', 'relu', 'Pooling', 'Dropout', 'UpSampling', 'Pad', 'pad',
        'Reshape', 'reshape', 'Flatten', 'flatten', 'transpose', 'SwapAxis', 'swapaxes',
        'expand_dims', 'squeeze', 'slice_axis', 'SliceChannel', 'split', 'BlockGrad',
        'stop_gradient', '_copy', 'identity', '_copyto'}),
    'bfloat16': frozenset()}
"""These keep the type of their first input and get the others in float32.  They lie between the
convolutions of a backbone, where casts around each of them would cost the time and memory that half
precision saves.  On the CPU some of them do not support bfloat16, so they get float32 there."""

JOINS: dict[str, frozenset[str]] = {
    'float16': frozenset({'elemwise_add', 'broadcast_add', 'broadcast_plus', '_plus', '_Plus',
                          '_add', 'add_n', 'ElementWiseSum', 'Concat', 'concat'}),
    'bfloat16': frozenset()}
"""Half precision if all inputs are, else float32: residuals and concatenations."""

UNTOUCHED = frozenset({'Cast', 'cast', 'amp_cast', 'amp_multicast'})

_IN_FLOAT32 = {'Activation': {'softrelu'}, 'Pooling': {'avg', 'sum', 'lp'}}


class Types(NamedTuple):
    """Whether each input must be in half precision, and whether the outputs are."""

    inputs: Sequence[bool]
    output: bool


def operator_types(name: str, parameters: Mapping[Any, Any], halves: Sequence[bool],
                   half: str) -> Types:
    """Return the types of an operator.

    Parameters
    ----------
    parameters : parameters of the operator, by name or position
    halves : whether each of its inputs is in half precision now
    half : 'float16' or 'bfloat16'
    """
    count = len(halves)
    if name in UNTOUCHED:
        return Types(halves, False)
    if name in HALF[half] and not (half == 'bfloat16' and _has_stride(parameters)):
        return Types([True] * count, True)
    if name in KEEPS[half] and count and not _is_kept_in_float32(name, parameters):
        return Types([halves[0]] + [False] * (count - 1), halves[0])
    if name in JOINS[half] and count and all(halves):
        return Types(halves, True)
    return Types([False] * count, False)


def _has_stride(parameters: Mapping[Any, Any]) -> bool:
    """Return whether a convolution has a stride.

    In bfloat16, oneDNN returns uninitialised memory as the gradient of its weight if a map is one
    pixel wide, as the last level of a pyramid can be.
    """
    stride = parameters.get('stride') or ()
    return max(ast.literal_eval(stride) if isinstance(stride, str) else stride, default=1) > 1


def _is_kept_in_float32(name: str, parameters: Mapping[Any, Any]) -> bool:
    return any(str(value) in _IN_FLOAT32.get(name, ()) for value in parameters.values())


def wrap_operator(function: Callable[..., Any], name: str, half: str) -> Callable[..., Any]:
    """Return an operator of ``mx.nd`` that casts its inputs first."""
    computes_half = name in HALF[half]

    @functools.wraps(function)
    def mixed(*args: Any, **kwargs: Any) -> Any:
        places: list[tuple[Any, Any]] = [(values, key) for values, keys in (
            (args, range(len(args))), (kwargs, kwargs)) for key in keys
            if key != 'out' and isinstance(values[key], mx.nd.NDArray)]
        halves = [is_half(values[key]) for values, key in places]
        if not (computes_half or any(halves)):
            return function(*args, **kwargs)
        new_args, new_kwargs = list(args), dict(kwargs)
        wanted = operator_types(name, _parameters(args, kwargs), halves, half).inputs
        for (values, key), wants in zip(places, wanted):
            target: Any = new_args if values is args else new_kwargs
            target[key] = cast_array(values[key], half if wants else 'float32')
        return function(*new_args, **new_kwargs)
    return mixed


def _parameters(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[Any, Any]:
    """Return those arguments of a call that are not arrays, by position or name."""
    return {key: value for key, value in (*enumerate(args), *kwargs.items())
            if not isinstance(value, mx.nd.NDArray)}


def mixed_graph(symbol: Any, half: str) -> Any:
    """Return a float32 graph with the casts of mixed precision; inputs and outputs are float32."""
    graph = json.loads(symbol.tojson())
    writer = _GraphWriter(half)
    for node in graph['nodes']:
        writer.add(node)
    heads = [writer.cast(writer.find(head), False) for head in graph['heads']]
    variables = [i for i, node in enumerate(writer.nodes) if node['op'] == 'null']
    return mx.sym.load_json(json.dumps({
        'nodes': writer.nodes, 'arg_nodes': variables, 'heads': heads,
        'attrs': graph.get('attrs', {})}))


class _GraphWriter:
    """Copies the nodes of a graph in topological order and inserts casts between them."""

    def __init__(self, half: str):
        self.nodes: list[dict[str, Any]] = []
        self._half = half
        self._new: list[int] = []
        self._halves: set[int] = set()
        self._casts: dict[tuple[int, int, bool], list[int]] = {}

    def find(self, entry: Sequence[int]) -> list[int]:
        """Return the place in the new graph of an output of a node in the old graph."""
        return [self._new[entry[0]], *entry[1:]]

    def add(self, node: dict[str, Any]) -> None:
        """Copy a node; its inputs are cast to the type in which it computes."""
        sources = [self.find(entry) for entry in node['inputs']]
        types = operator_types(node['op'], node.get('attrs', {}),
                               [source[0] in self._halves for source in sources], self._half)
        inputs = [self.cast(source, wants) for source, wants in zip(sources, types.inputs)]
        self.nodes.append({**node, 'inputs': inputs})
        self._new.append(len(self.nodes) - 1)
        if types.output:
            self._halves.add(len(self.nodes) - 1)

    def cast(self, source: list[int], wants_half: bool) -> list[int]:
        """Return a source in the wanted type; it is cast only once for all its readers."""
        if (source[0] in self._halves) == wants_half:
            return source
        key = source[0], source[1], wants_half
        if key not in self._casts:
            name = f'{self.nodes[source[0]]["name"]}_{source[1]}_cast_{len(self.nodes)}'
            self.nodes.append({'op': 'amp_cast', 'name': name, 'inputs': [source], 'attrs': {
                'dtype': self._half if wants_half else 'float32'}})
            self._casts[key] = [len(self.nodes) - 1, 0, 0]
        return self._casts[key]


def is_half(array: Any) -> bool:
    """Return whether an NDArray has the type float16 or bfloat16."""
    return array.dtype == np.float16 or array.dtype == BFLOAT16


def cast_array(array: Any, dtype: str) -> Any:
    """Return a float array cast to 'float32' or a half type; other arrays are unchanged."""
    wanted = BFLOAT16 if dtype == 'bfloat16' else np.dtype(dtype)
    if array.dtype == wanted or not (array.dtype == np.float32 or is_half(array)):
        return array
    return mx.nd.amp_cast(array, dtype=wanted)
