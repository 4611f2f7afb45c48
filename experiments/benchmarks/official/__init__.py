"""Time official programs beside ours; each runs in a separate process, with the same inputs.

``worker.py`` builds a program with random weights and writes them.  Our network loads them through
``adaptis convert``, so both compute with the same weights.
"""
from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.files import PathLike
from adaptis.registry import find_converter
from experiments.benchmarks.comparison import Spent

WORKER = Path(__file__).with_name('worker.py')

REPOSITORIES = {'adaptis': ('saic-vul/adaptis', 'c202708'),
                'detectron2': ('facebookresearch/detectron2', '02b5c4e2'),
                'AdelaiDet': ('aim-uofa/AdelaiDet', '3672122'),
                'realtime_panoptic': ('TRI-ML/realtime_panoptic', '97ee036'),
                'panopticapi': ('cocodataset/panopticapi', '7bb4655')}
"""Maps the folder of a clone to its GitHub repository and the commit that is expected."""
PYTORCH = ('panoptic_fpn', 'condinst', 'dense_detections')
"""Programs that need an interpreter with PyTorch; it cannot be the one with MXNet and GluonCV."""

_CLONES = '\n'.join(f'    gh repo clone {repository} {folder} && git -C {folder} checkout {commit}'
                    for folder, (repository, commit) in REPOSITORIES.items())

SETUP = f"""`--official DIR` times the authors' own programs in the same run, if their repositories
are in DIR. This repository contains none of their code. With GitHub's command line:

    mkdir DIR && cd DIR
{_CLONES}
    python -m venv env && env/bin/python -m pip install torch torchvision
    env/bin/python -m pip install --no-build-isolation -e detectron2 -e AdelaiDet

Then, in this repository:

    OMP_NUM_THREADS=1 python -m experiments.benchmarks --official DIR \\
        --official-python DIR/env/bin/python

Programs that need PyTorch run in that interpreter; AdaptIS and panopticapi run in the one of this
library. If something is missing, a sentence beside the row says what, and our program is timed
alone. An official program runs in a separate process and takes turns with ours. Its weights are
random; our network gets the same weights through `adaptis convert`, and the same images.

**These adapters were tested only with small stand-ins of the official modules**, which have the
same names and take the same arguments, because no clone could be fetched where they were written.
The adapter of panopticapi was also tested with the copy of its code in the package
`panopticapi-lite` 0.2.0. If an adapter does not fit, its row says why."""


class Program:
    """A running official program; calling it runs it once and returns the time.

    Parameters
    ----------
    clones : the folder with the repositories
    name : name of the program in ``worker.py``
    inputs : returns the arrays that it reads, by name; it may write files to the folder it gets
    seed : seed of its weights
    python : the interpreter for programs that need PyTorch

    Raises AdaptisError if the program cannot be built.
    """

    def __init__(self, clones: PathLike, name: str, inputs: Callable[[Path], Mapping[str, Any]],
                 seed: int = 0, python: str = sys.executable):
        if not Path(clones).is_dir():
            raise AdaptisError(f'There is no folder {clones} with official repositories.')
        self._stack = contextlib.ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        np.savez(self.folder / 'inputs.npz', **inputs(self.folder))
        try:
            self._process = subprocess.Popen(
                [python if name in PYTORCH else sys.executable, str(WORKER),
                 str(Path(clones).resolve()), name, str(self.folder), str(seed)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError as error:
            self._stack.close()
            raise AdaptisError(f'{python} cannot be run: {error.strerror}.') from error
        try:
            self._weights: Optional[str] = self._answer()['weights']
        except AdaptisError:
            self.close()
            raise

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __call__(self) -> Spent:
        """Run the program once; AdaptisError if it fails."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write('\n')
            stdin.flush()
        except OSError as error:
            raise AdaptisError('The official program has exited.') from error
        answer = self._answer()
        return Spent(answer['clock'], answer['cpu'])

    def checkpoint(self, num_stuff: Optional[int] = None) -> Path:
        """Return the program's weights as a checkpoint of this project (loads MXNet)."""
        source, target = self.folder / str(self._weights), self.folder / 'converted.params'
        find_converter(source)(source, target, num_stuff)
        return target

    def close(self) -> None:
        """End the process and remove its files."""
        self._process.kill()
        self._process.communicate()
        self._stack.close()

    def _answer(self) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None
        line = stdout.readline()
        if not line:
            raise AdaptisError('The official program has exited without a message.')
        answer = json.loads(line)
        if 'error' in answer:
            raise AdaptisError(answer['error'])
        return answer
