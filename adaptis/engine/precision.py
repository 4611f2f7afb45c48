"""Mixed precision by MXNet's ``contrib.amp``, with a state that can be saved.

Parameters, optimizer and losses stay float32.  Convolutions, dense layers and, on GPUs, whatever
MXNet lists as safe compute in half precision.  For this, MXNet replaces its own operators for the
whole process and for good.  Here the replacements are active only inside ``half_precision``, so
validation and evaluation compute in float32.
"""
from __future__ import annotations

import contextlib
import importlib
import types
from collections.abc import Iterator, Mapping
from typing import Any

from adaptis.errors import AdaptisError
from adaptis.runtime import mx

# The module of an operator, its name, and its two versions: plain and mixed.
_Operator = tuple[types.ModuleType, str, Any, Any]
_operators: list[_Operator] = []


def enable_mixed_precision(contexts: list[Any]) -> str:
    """Enable mixed precision and return the half type; call it once, before networks are made.

    The type is float16 on GPUs and bfloat16 on the CPU.

    Raises AdaptisError if the device cannot compute with it.
    """
    amp, modules = _amp(), _operator_modules()
    plain = {module: dict(vars(module)) for module in modules}
    dtype = 'float16' if contexts[0].device_type == 'gpu' else 'bfloat16'
    if dtype == 'float16':
        amp.init(dtype)
    else:
        amp.init(dtype, fp32_ops=_float32_on_cpu(amp))
    _operators.extend((module, name, plain[module][name], value) for module in modules
                      for name, value in vars(module).items()
                      if plain[module].get(name, value) is not value)
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
    try:
        yield
    finally:
        for module, name, plain, _ in _operators:
            setattr(module, name, plain)


def attach_loss_scaler(trainer: Any, state: Mapping[str, float]) -> None:
    """Make a trainer scale its loss, starting from ``state``, so that small gradients survive."""
    _amp().init_trainer(trainer)
    scaler = trainer._amp_loss_scaler
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
    """Return the loss whose gradient is computed; call it while recording."""
    if getattr(trainer, '_amp_loss_scaler', None) is None:
        return loss
    with _amp().scale_loss(loss, trainer) as result:
        return result


def reset_weight_layouts(net: Any) -> None:
    """Convert a network's parameters back to plain arrays after it predicted on the CPU.

    Predictions leave weights in oneDNN's layouts, and MXNet cannot cast some of them to bfloat16.
    """
    for parameter in net.collect_params().values():
        contexts = parameter.list_ctx()
        if contexts[0].device_type == 'cpu':
            plain = mx.nd.array(parameter.data(contexts[0]).asnumpy(), dtype=parameter.dtype)
            with mx.autograd.pause():
                parameter._init_impl(plain, contexts)


def _amp() -> Any:
    return importlib.import_module(f'{mx.__name__}.contrib.amp')


def _operator_modules() -> list[types.ModuleType]:
    """Return the modules that hold MXNet's operators: ``nd``, ``sym`` and their submodules."""
    inside = [value for parent in (mx.nd, mx.sym) for value in vars(parent).values()
              if isinstance(value, types.ModuleType)
              and value.__name__.startswith(f'{parent.__name__}.')]
    return list(dict.fromkeys([mx.nd, mx.sym, *inside]))


def _float32_on_cpu(amp: Any) -> list[str]:
    """Return operators to keep in float32, including those that MXNet lets take any type.

    With bfloat16 beside float32 some of those fail (``concat``), contrary to MXNet's list.
    """
    half = amp.amp.bfloat16
    either = [name for name in amp.list_lp16_fp32_ops(half) if not name.startswith('_')
              and all(hasattr(module, name) for module in (mx.nd, mx.sym))]
    return sorted({*amp.list_fp32_ops(half), *either})


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
