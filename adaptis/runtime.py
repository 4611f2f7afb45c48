"""Makes MXNet importable on today's Python."""
from __future__ import annotations

import importlib


def __getattr__(name: str):
    if name not in ('mx', 'gluoncv'):
        raise AttributeError(name)
    import numpy as np
    if 'bool' not in np.__dict__:
        np.bool = bool
    return importlib.import_module('mxnet' if name == 'mx' else name)
