"""The device that the tests run on."""
from __future__ import annotations

from adaptis.runtime import mx


def ctx_option() -> list[str]:
    """Return ``--ctx`` and the name of MXNet's current context, for a command."""
    context = mx.current_context()
    return ['--ctx', f'{context.device_type}:{context.device_id}']
