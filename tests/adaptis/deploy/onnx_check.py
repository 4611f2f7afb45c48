"""Check that an ONNX model computes the same as the network."""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, Union

import numpy as np

from adaptis.deploy.stages import Stage
from adaptis.runtime import mx


class Difference(NamedTuple):
    """The largest absolute difference (inf if the sizes differ), and the largest absolute value."""

    absolute: float
    largest: float

    @property
    def relative(self) -> float:
        """Of values up to 1 the difference itself, of larger ones its share of the largest."""
        return self.absolute / max(self.largest, 1.0)


def differences(stage: Stage, path: Union[str, os.PathLike],
                arrays: Sequence[np.ndarray]) -> dict[str, Difference]:
    """How far every output of a model, run by ONNX Runtime on the CPU, is from the stage's own.

    ``arrays`` are inputs of any size that the stage takes.
    """
    import onnxruntime  # here, as tests are skipped where it is missing
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1   # threads that wait for each other are slow on a busy machine
    session = onnxruntime.InferenceSession(os.fspath(path), options,
                                           providers=['CPUExecutionProvider'])
    found = session.run(list(stage.outputs), dict(zip((s.name for s in stage.inputs), arrays)))
    expected = stage.block(*map(mx.nd.array, arrays))
    if not isinstance(expected, (list, tuple)):
        expected = [expected]
    return {name: _difference(theirs, ours.asnumpy())
            for name, theirs, ours in zip(stage.outputs, found, expected)}


def _difference(found: np.ndarray, expected: np.ndarray) -> Difference:
    same_size = found.shape == expected.shape
    return Difference(float(np.abs(found - expected).max(initial=0)) if same_size else float('inf'),
                      float(np.abs(expected).max(initial=0)))
