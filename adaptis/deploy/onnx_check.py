"""Whether an ONNX model computes what the network does."""
from __future__ import annotations

import os
from typing import Dict, Sequence, Union

import numpy as np

from adaptis.deploy.stages import Stage
from adaptis.errors import AdaptisError
from adaptis.runtime import mx


def differences(stage: Stage, path: Union[str, os.PathLike],
                arrays: Sequence[np.ndarray]) -> Dict[str, float]:
    """The largest absolute difference of every output from the stage's own; inf if sizes differ.

    ``arrays`` are inputs of any size that the stage takes.  The model runs by ONNX Runtime on the
    CPU; AdaptisError if that is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise AdaptisError(f'An ONNX model is checked by ONNX Runtime, which cannot be imported '
                           f'({error}): pip install onnxruntime.') from error
    session = onnxruntime.InferenceSession(os.fspath(path), providers=['CPUExecutionProvider'])
    found = session.run(list(stage.outputs), dict(zip((s.name for s in stage.inputs), arrays)))
    expected = stage.block(*map(mx.nd.array, arrays))
    if not isinstance(expected, (list, tuple)):
        expected = [expected]
    return {name: _difference(theirs, ours.asnumpy())
            for name, theirs, ours in zip(stage.outputs, found, expected)}


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max(initial=0)) if a.shape == b.shape else float('inf')
