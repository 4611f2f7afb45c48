"""Mixed precision for training, with a state that can be saved.

Parameters, optimizer and losses stay float32.  ``half_operators`` says which operators compute in
half precision.  They do so only inside ``half_precision``, so validation and evaluation compute in
float32.  This also holds for a hybridized network, which has a cached graph for each precision.
"""
from __future__ import annotations

import contextlib
import importlib
import types
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from adaptis.engine.half_operators import cast_array, mixed_graph, wrap_operator
from adaptis.errors import AdaptisError
from adaptis.runtime import mx

_MODULES = (mx.nd, mx.nd.op, mx.nd._internal, mx.nd.contrib, mx.nd.linalg)
_PREFIXES = {mx.nd.contrib: '_contrib_', mx.nd.linalg: '_linalg_'}

# The module of an operator, its name, and its plain and mixed versions.
_Operator = tuple[types.ModuleType, str, Any, Any]
_operators: list[_Operator] = []


class _Now:
    """The half type in which operators currently compute; None outside ``half_precision``."""

    enabled: Optional[str] = None
    active: Optional[str] = None


def enable_mixed_precision(contexts: list[Any]) -> str:
    """Enable mixed precision and return the half type; call it once, before networks are made.

    The type is float16 on GPUs and bfloat16 on the CPU.

    Raises AdaptisError if the device cannot compute with it.
    """
    dtype = 'float16' if contexts[0].device_type == 'gpu' else 'bfloat16'
    _operators[:] = [
        (module, name, plain, wrap_operator(plain, _PREFIXES.get(module, '') + name, dtype))
        for module in _MODULES for name, plain in _generated_operators(module)]
    _Now.enabled = dtype
    mx.nd.CachedOp = _CachedGraph   # Gluon uses this class whenever it caches a graph
    try:
        with half_precision():
            _try_out(contexts[0])
    except mx.MXNetError as error:
        raise AdaptisError(f'{contexts[0]} cannot compute in {dtype} ({_first_line(error)}): set '
                           'precision to float32.') from error
    return dtype


@contextlib.contextmanager
def half_precision() -> Iterator[None]:
    """Compute in mixed precision inside the block if it is enabled, and in float32 afterwards."""
    for module, name, _, mixed in _operators:
        setattr(module, name, mixed)
    _Now.active = _Now.enabled
    try:
        yield
    finally:
        _Now.active = None
        for module, name, plain, _ in _operators:
            setattr(module, name, plain)


class _CachedGraph:
    """What a hybridized block runs: an MXNet graph for each precision, created on first use."""

    def __init__(self, symbol: Any, flags: Any = ()):
        self._symbol, self._flags = symbol, flags
        self._made: dict[Optional[str], Any] = {}

    def __call__(self, *arrays: Any, **options: Any) -> Any:
        half = _Now.active
        if half not in self._made:
            symbol = self._symbol if half is None else mixed_graph(self._symbol, half)
            self._made[half] = _CACHED_OP(symbol, self._flags)
        # Half arrays come only from operators that were called outside of a graph.
        return self._made[half](*(cast_array(a, 'float32') for a in arrays), **options)


_CACHED_OP = mx.nd.CachedOp


def attach_loss_scaler(trainer: Any, state: Mapping[str, float]) -> None:
    """Make a trainer scale its loss, starting from ``state``, to keep small gradients."""
    scaler = _amp().loss_scaler.LossScaler()
    trainer._amp_loss_scaler, trainer._amp_original_scale = scaler, trainer._scale
    scaler._loss_scale = state.get('scale', scaler._loss_scale)
    scaler._next_loss_scale = state.get('next', scaler._next_loss_scale)
    scaler._unskipped = int(state.get('unskipped', 0))


def scaler_state(trainer: Any) -> dict[str, float]:
    """Return the state for ``attach_loss_scaler``; empty without mixed precision.

    'updates' can be fewer than the steps, because updates whose gradients overflow are skipped.
    """
    scaler = getattr(trainer, '_amp_loss_scaler', None)
    if scaler is None:
        return {}
    return {'scale': scaler._loss_scale, 'next': scaler._next_loss_scale,
            'unskipped': scaler._unskipped, 'updates': trainer.optimizer.num_update}


def scale_loss(loss: Any, trainer: Any) -> Any:
    """Return the scaled loss, whose gradient is computed; call it while recording."""
    if getattr(trainer, '_amp_loss_scaler', None) is None:
        return loss
    with _amp().scale_loss(loss, trainer) as result:
        return result


def reset_weight_layouts(net: Any) -> None:
    """Convert a network's parameters back to plain arrays after it predicted on the CPU.

    Predictions leave weights in oneDNN's layouts, and MXNet cannot cast some of these to bfloat16.
    """
    for parameter in net.collect_params().values():
        contexts = parameter.list_ctx()
        if contexts[0].device_type == 'cpu':
            plain = mx.nd.array(parameter.data(contexts[0]).asnumpy(), dtype=parameter.dtype)
            with mx.autograd.pause():
                parameter._init_impl(plain, contexts)


def _amp() -> Any:
    return importlib.import_module(f'{mx.__name__}.contrib.amp')


def _generated_operators(module: types.ModuleType) -> list[tuple[str, Any]]:
    """Return the operators of a module by name: the functions that MXNet generates at import."""
    return [(name, value) for name, value in vars(module).items()
            if isinstance(value, types.FunctionType)
            and value.__code__.co_filename == '<string>']


def _try_out(context: Any) -> None:
    image, weight = (mx.nd.ones((1, 8, 4, 4), ctx=context), mx.nd.ones((8, 8, 3, 3), ctx=context))
    weight.attach_grad()
    with mx.autograd.record():
        result = mx.nd.Convolution(image, weight, kernel=(3, 3), num_filter=8, no_bias=True)
        total = result.astype('float32').sum()
    total.backward()
    weight.grad.wait_to_read()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][:200]
