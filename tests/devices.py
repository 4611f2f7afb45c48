"""The device that the tests run on."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from adaptis.runtime import context_name, get_context, mx


def ctx_option() -> list[str]:
    """Return ``--ctx`` and the name of MXNet's current context, for a command."""
    return ['--ctx', context_name(mx.current_context())]


@contextlib.contextmanager
def on_device(name: str) -> Iterator[None]:
    """Make a context the current one, and refuse operators on several as ``separated`` does."""
    with separated(), get_context(name):
        yield


@contextlib.contextmanager
def separated() -> Iterator[None]:
    """Refuse operators whose arrays lie on several contexts.

    GPUs refuse them anyway.  Among the contexts of the CPU only hybridized blocks do.
    """
    register = mx.nd.register
    invoke = register._imperative_invoke

    def checked(handle: Any, arrays: Any, *rest: Any) -> Any:
        contexts = {array.context for array in arrays}
        if len(contexts) > 1:
            raise mx.MXNetError(f'an operator has arrays on {sorted(map(str, contexts))}')
        return invoke(handle, arrays, *rest)

    register._imperative_invoke = checked
    try:
        yield
    finally:
        register._imperative_invoke = invoke
