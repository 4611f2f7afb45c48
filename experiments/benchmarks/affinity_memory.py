"""How the memory and time of the dense instance affinity grow with the size of the image.

    python -m experiments.benchmarks affinity_memory [--size 512x1024 ...] [--channels 153]

*linear* is what the network does, ``Psi + phi0(Q) (phi1(Q)^T Psi)``.  *explicit* first computes the
matrix of all pairs of pixels, phi0 phi1^T (skipped if the matrix alone is larger than 2 GiB).
"training" rows are a training step, forward and backward.  Every row runs in its own process.
*rise* is the increase in memory during the call, not counting the inputs Q (128 channels) and Psi.
Pixels are those of the feature map, at a quarter of the image's height and width.
"""
from __future__ import annotations

import argparse
import time
from typing import Any, Callable

import numpy as np

from experiments.benchmarks.comparison import Comparison, Form, Setting
from experiments.benchmarks.measures import (
    Size,
    add_record_arguments,
    conditions,
    keep_record,
    parse_size,
)
from experiments.benchmarks.process import alone, peak_mib

Row = dict[str, float]

SIZES: tuple[Size, ...] = ((128, 256), (256, 512), (512, 1024), (800, 1300), (1024, 2048))
FEATURES, STRIDE = 128, 4
CHANNELS = 153
"""Detections and stuff together: 100 + 53."""
MOST_BYTES = 2 * 2 ** 30


def measure(form: str, size: Size, channels: int, training: bool) -> Row:
    """Measure memory and time of one variant, 'linear' or 'explicit', at ``size`` (H, W)."""
    from adaptis.runtime import mx  # loads MXNet
    mx.random.seed(0)
    head = _make_head()
    small, real = (_make_inputs(shape, channels) for shape in ((32, 32), size))
    _run(form, head, small, training)   # loads what is needed
    before = peak_mib()
    began = time.perf_counter()
    _run(form, head, real, training)
    seconds = time.perf_counter() - began
    rise = peak_mib() - before
    pixels = real[0].shape[2] * real[0].shape[3]
    return {'pixels': pixels, 'rise, MiB': rise, 'rise per pixel, KiB': rise * 1024 / pixels,
            'time, s': seconds}


def largest_difference(size: Size = (64, 96), channels: int = 20) -> float:
    """Return the difference of the two variants on a small image, relative to the largest value."""
    head, inputs = _make_head(), _make_inputs(size, channels)
    found = [FORMS[form](head, *inputs).asnumpy() for form in ('linear', 'explicit')]
    return float(np.abs(found[0] - found[1]).max() / np.abs(found[1]).max())


def linear(head: Any, features: Any, potentials: Any) -> Any:
    """Compute the affinity like the network."""
    return head(features, potentials)


def explicit(head: Any, features: Any, potentials: Any) -> Any:
    """Compute the affinity with the matrix of all pairs of pixels."""
    from adaptis.runtime import mx  # loads MXNet
    ours, theirs = (phi(features).reshape((0, 0, -1)) for phi in (head.phi0, head.phi1))
    pairs = mx.nd.batch_dot(ours, theirs, transpose_a=True)
    added = mx.nd.batch_dot(potentials.reshape((0, 0, -1)), pairs, transpose_b=True)
    return potentials + added.reshape_like(potentials)


FORMS: dict[str, Callable[..., Any]] = {'explicit': explicit, 'linear': linear}


def compare(setting: Setting) -> dict[str, Form]:
    """Return both variants."""
    from adaptis.runtime import mx  # loads MXNet
    mx.random.seed(0)
    head, inputs = _make_head(), _make_inputs(COMPARED[setting.quick], CHANNELS)
    return {name: lambda form=form: form(head, *inputs) for name, form in FORMS.items()}


COMPARED: dict[bool, Size] = {True: (128, 128), False: (128, 256)}
COMPARISONS = (Comparison('Dense instance affinity', {
    quick: f'random features and {CHANNELS} potentials, of an image of {height}x{width}'
    for quick, (height, width) in COMPARED.items()}, compare, 'explicit'),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``affinity_memory``."""
    parser.add_argument('--size', nargs='+', type=parse_size, metavar='HxW', default=SIZES)
    parser.add_argument('--channels', type=int, default=CHANNELS,
                        help=f'number of detections plus stuff classes; default: {CHANNELS}')
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Print a table, and write the record if asked to."""
    before, rows = conditions(), {}
    for form, size, training in [(form, size, training) for form in FORMS for size in args.size
                                 for training in (False, True) if form == 'linear' or _fits(size)]:
        name = f'{form} {size[0]}x{size[1]}{" training" * training}'
        rows[name] = alone(measure, form, size, args.channels, training)
        print(f'{name:28}' + '  '.join(f'{key} {value:.4g}' for key, value in rows[name].items()),
              flush=True)
    print(f'largest relative difference on a small image: {largest_difference():.2g}')
    keep_record(args, rows, before, channels=args.channels)


def _run(form: str, head: Any, inputs: list[Any], training: bool) -> None:
    from adaptis.runtime import mx  # loads MXNet
    if not training:
        FORMS[form](head, *inputs).wait_to_read()
        return
    for array in inputs:
        array.attach_grad()
    with mx.autograd.record():
        found = FORMS[form](head, *inputs)
    found.backward()
    mx.nd.waitall()


def _make_head() -> Any:
    from adaptis.runtime import mx  # loads MXNet
    from panoptic_baselines.unified.affinity import Affinity  # loads MXNet
    head = Affinity(FEATURES)
    head.initialize(mx.init.Normal(0.1))
    head.hybridize()
    return head


def _make_inputs(size: Size, channels: int) -> list[Any]:
    from adaptis.runtime import mx  # loads MXNet
    height, width = (-(-side // STRIDE) for side in size)
    return [mx.nd.random.uniform(shape=(1, count, height, width)) for count in (FEATURES, channels)]


def _fits(size: Size) -> bool:
    """Return whether the matrix of all pairs of pixels of an image fits."""
    pixels = -(-size[0] // STRIDE) * -(-size[1] // STRIDE)
    return 4 * pixels ** 2 <= MOST_BYTES
