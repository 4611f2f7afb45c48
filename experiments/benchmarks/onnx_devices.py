"""ONNX Runtime on the CPU and, if there is one, on a GPU: each stage, and a complete image.

    python -m experiments.benchmarks onnx_devices [--size HxW] [--points N] [--device cpu gpu]

The network is the AdaptIS that ships, as models in float32 and in float16.  *kept* keeps arrays on
the device between stages, as predictors do on a GPU.  *copied* passes every array as NumPy, as
predictors do on a CPU.  A row has the seconds of each stage (with N points), of the masks of five
batches of N points on one image, and of a complete image with its panoptic map.  It also has the
difference of its mask probabilities from those of float32 on the CPU.  On a CPU, ONNX Runtime
computes float16 models in float32.
"""
from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import numpy as np

from adaptis.deploy.backends import OnnxRunner, run_stage
from adaptis.errors import AdaptisError
from adaptis.inference.encoded import ImageEncoder
from adaptis.inference.predictor import Predictor
from adaptis.loading import load_predictor
from experiments.benchmarks import timing
from experiments.benchmarks.measures import (
    Size,
    add_record_arguments,
    conditions,
    keep_record,
    parse_size,
)

Row = dict[str, float]

PRECISIONS = 'float32', 'float16'
DEVICES = 'cpu', 'gpu'
BATCHES, RUNS = 5, 5
REFERENCE = 'cpu, float32, copied'


def measure(devices: Sequence[str], size: Size, points: int) -> dict[str, Row]:
    """Return a row for each device, precision, and way of passing arrays."""
    from adaptis.deploy.export import export  # loads MXNet
    with tempfile.TemporaryDirectory() as folder:
        exports = {precision: export(load_predictor(), Path(folder) / precision, 'onnx',
                                     precision=precision) for precision in PRECISIONS}
        predictors = {f'{device}, {precision}, {"kept" if kept else "copied"}':
                      open_predictor(where, device, kept) for device in devices
                      for precision, where in exports.items() for kept in (False, True)}
        return _times(predictors, size, points)


def open_predictor(folder: Path, device: str, kept: bool) -> Any:
    """Return the predictor of an export; ``kept`` = keep arrays on the device."""
    predictor = Predictor.from_export(folder, 'onnxruntime', device)
    predictor.net.runner.keeps_arrays = kept
    return predictor


def has_gpu() -> bool:
    """Return whether ONNX Runtime is built for CUDA; this does not test whether CUDA works."""
    import onnxruntime  # optional
    return 'CUDAExecutionProvider' in onnxruntime.get_available_providers()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``onnx_devices``."""
    parser.add_argument('--size', type=parse_size, metavar='HxW', default=(96, 96))
    parser.add_argument('--points', type=int, default=8, help='points per batch; default: 8')
    parser.add_argument('--device', nargs='+', choices=DEVICES,
                        help='default: cpu, and gpu if ONNX Runtime is built for CUDA')
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Print a table, and write the record if asked to."""
    if args.points < 1:
        raise AdaptisError('--points must be at least 1.')
    before, devices = conditions(), args.device or DEVICES[:1 + has_gpu()]
    for device in devices:
        OnnxRunner({}, {}, device)   # reports a device that cannot be used before anything is timed
    if 'gpu' not in devices:
        print('No GPU is measured, because ONNX Runtime computes only on the CPU here.')
    rows = measure(['cpu', *(device for device in devices if device != 'cpu')], args.size,
                   args.points)
    for name, row in rows.items():
        print(f'{name:24}' + '  '.join(f'{key} {value:.4g}' for key, value in row.items()))
    keep_record(args, rows, before, size=args.size, points=args.points)


def _times(predictors: dict[str, Any], size: Size, points: int) -> dict[str, Row]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    where = (rng.random((BATCHES * points, 2)) * size).astype(np.float32)
    stages, masks = {}, {}
    for name, predictor in predictors.items():
        stages.update({(name, stage): call
                       for stage, call in _stage_calls(predictor, image, where[:points]).items()})
        encoded = ImageEncoder(predictor.net, predictor.settings.replace(batch_size=points))(image)
        masks[name] = encoded.masks_at(where)
        stages[name, 'masks'] = lambda encoded=encoded: encoded.masks_at(where)
        stages[name, 'picture'] = lambda p=predictor: p.set_image(image).panoptic()
    times = timing.alternate(stages, RUNS)
    return {name: {**{f'{task}, s': times[found, task] for found, task in times if found == name},
                   'difference': float(np.abs(masks[name] - masks[REFERENCE]).max())}
            for name in predictors}


def _stage_calls(predictor: Any, image: np.ndarray,
                 points: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Return a call for each stage, whose inputs are where the previous stages left them."""
    runner, calls = predictor.net.runner, {}
    values = {'image': image.transpose(2, 0, 1)[None].astype(np.float32), 'points': points[None]}
    for stage in runner.stages:
        calls[stage] = lambda stage=stage: run_stage(runner, stage, values)
        values.update(calls[stage]())
    return calls
