"""Time and memory of imperative, hybridized and exported networks.

    python -m experiments.benchmarks forms

The networks are those of :mod:`experiments.benchmarks.ports`, with random weights and the maximum
number of detections, and the AdaptIS that ships, on drawn toy images.
"""
from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from adaptis.inference.predictor import Predictor
from adaptis.loading import load_predictor
from experiments.benchmarks import timing
from experiments.benchmarks.measures import add_record_arguments, run_measures
from experiments.benchmarks.ports import PORTS, Port, make_image, make_predictor
from experiments.benchmarks.process import alone, peak_mib
from toy_data import ToySettings, render

ADAPTIS = 'adaptis (shipped)'
SYSTEMS = (ADAPTIS, *(port.name for port in PORTS))
FLAGS: dict[str, Optional[dict[str, bool]]] = {
    'imperative': None, 'hybridized': {}, 'static': {'static_alloc': True, 'static_shape': True}}
EXPORTED = ('mxnet', 'onnxruntime')
FORMS = (*FLAGS, *(f'exported, {backend}' for backend in EXPORTED))
SIZE = 256, 320
RUNS = 3


def forms(systems: Sequence[str] = SYSTEMS) -> dict[str, Any]:
    """Time from image to panoptic result, and the peak memory, of each variant.

    The input is 256x320 for the ports, and 4 toy images of 96x96 for AdaptIS.  Memory is that of a
    process that loads the network and segments twice.
    """
    result: dict[str, Any] = {}
    for system in systems:
        with tempfile.TemporaryDirectory() as folder:
            alone(_export, system, folder)   # this process stays small while memory is measured
            for form in FORMS:
                result[f'{system}, {form}, peak MiB'] = alone(_peak, system, form, folder)
            result.update(alone(_times, system, folder))
    return result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``forms``."""
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Print the figures, and write the record if asked to."""
    run_measures({'forms': forms}, args)


def _times(system: str, folder: str) -> dict[str, Any]:
    images = _images(system)
    predictors = {form: _open(system, form, folder) for form in FORMS}
    times = timing.alternate({f'{system}, {form}, s': lambda p=p: [_segment(p, i) for i in images]
                              for form, p in predictors.items()}, RUNS)
    maps = {form: np.stack([_segment(p, i) for i in images]) for form, p in predictors.items()}
    return {name: seconds / len(images) for name, seconds in times.items()} | {
        f'{system}, {form}, pixels as hybridized': float(np.mean(found == maps['hybridized']))
        for form, found in maps.items()}


def _export(system: str, folder: str) -> None:
    from adaptis.deploy.export import export  # loads MXNet
    predictor = _open(system, 'hybridized', folder)
    _segment(predictor, _images(system)[0])   # shapes of parameters are known from now on
    export(predictor, Path(folder) / 'export')


def _peak(system: str, form: str, folder: str) -> float:
    predictor, image = _open(system, form, folder), _images(system)[0]
    for _ in range(2):
        _segment(predictor, image)
    return peak_mib()


def _open(system: str, form: str, folder: str) -> Any:
    """Return a predictor in one of ``FORMS``."""
    if form not in FLAGS:
        return Predictor.from_export(Path(folder) / 'export', form.split(', ')[1])
    flags = FLAGS[form]
    predictor = _shipped() if system == ADAPTIS else make_predictor(_port(system), False)
    predictor.net.hybridize(flags is not None, **(flags or {}))
    return predictor


def _shipped() -> Any:
    return load_predictor()


def _port(system: str) -> Port:
    return next(port for port in PORTS if port.name == system)


def _images(system: str) -> list[np.ndarray]:
    if system != ADAPTIS:
        return [make_image(SIZE)]
    settings = ToySettings.default('v1', seed=7)
    return [render(settings, 'test', index)[0] for index in range(4)]


def _segment(predictor: Any, image: np.ndarray) -> np.ndarray:
    found: np.ndarray = predictor.set_image(image).panoptic().segment_map
    return found
