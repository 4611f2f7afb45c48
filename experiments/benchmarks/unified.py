"""Time of the unified network, compared with Panoptic FPN, and of its argmax.

    python -m experiments.benchmarks unified
"""
from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple

import numpy as np

from adaptis.types import PanopticResult
from experiments.benchmarks import timing
from experiments.benchmarks.comparison import Comparison, Setting
from experiments.benchmarks.measures import Size, add_record_arguments, run_measures
from experiments.benchmarks.ports import COUNTS, PORTS, STUFF, Port, make_image, make_predictor
from experiments.benchmarks.process import alone, peak_mib
from panoptic_baselines.merge import merge
from panoptic_baselines.predictor import pad_batch
from panoptic_baselines.unified.predictor import to_result

SIZES: Sequence[Size] = ((160, 224), (512, 512))
RUNS = 3
HEURISTIC, ARGMAX = 'after the network, heuristic', 'after the network, argmax'


class Case(NamedTuple):
    """A network and its arguments."""

    port: Port
    options: Mapping[str, Any]


_PORTS = {port.name: port for port in PORTS}
_UNIFIED = _PORTS['unified_r50']
# Every pixel is classified as the class that all detections have.
_UNIFIED = _UNIFIED._replace(biases={**_UNIFIED.biases,
                                     'encoder.semantic_head.predictor': {STUFF: 9.0}})
_WITHOUT_MASKS = _UNIFIED._replace(
    quiet=[layer for layer in _UNIFIED.quiet if not layer.startswith('mask_head')],
    biases={layer: bias for layer, bias in _UNIFIED.biases.items()
            if not layer.startswith('mask_head')})
CASES: Mapping[str, Case] = {
    'Panoptic FPN': Case(_PORTS['panoptic_fpn_r50'], {}),
    'unified, plain': Case(_UNIFIED, {'deformable': False}),
    'unified, plain, no masks': Case(_WITHOUT_MASKS, {'deformable': False, 'masks': False}),
    'unified, deformable': Case(_UNIFIED, {'deformable': True}),
}


def unified(cases: Mapping[str, Case] = CASES,
            sizes: Sequence[Size] = SIZES) -> dict[str, Any]:
    """Time Panoptic FPN and unified networks with ResNet-50, and their post-processing alone.

    Times are from image to panoptic result, hybridized, for 1, 10 and 100 detections.  Compare
    Panoptic FPN with 'plain', which has no deformable convolutions.  The post-processing of the
    plain network with masks is timed in both ways: the heuristic (masks and labels at the image's
    size, merging), and the argmax.  The memory of a network is the peak of a separate process for
    one image of the last size.
    """
    # Measured first, because a new process inherits the peak memory of this one.
    result = {f'{name}, MiB': alone(peak, case, sizes[-1]) for name, case in cases.items()}
    predictors = {name: make_predictor(case.port, True, case.options)
                  for name, case in cases.items()}
    for size in sizes:
        image = make_image(size)
        calls: dict[str, Callable[[], PanopticResult]] = {}
        for count in COUNTS:
            for name, predictor in predictors.items():
                limited = _limit(predictor, count)
                forms = {name: lambda p=limited, image=image: p.predict(image)}
                if name == 'unified, plain':
                    forms.update(_after_the_network(limited, image))
                calls.update({f'{count} at {size[0]}x{size[1]}, {form}, s': call
                              for form, call in forms.items()})
        result.update(timing.alternate(calls, RUNS))
    return result


def compare(setting: Setting) -> dict[str, Callable[[], PanopticResult]]:
    """Return the post-processing in both ways."""
    case = CASES['unified, plain']
    predictor = make_predictor(case.port, True, case.options)
    return _after_the_network(predictor, make_image(SIZES[0 if setting.quick else 1]))


COMPARISONS = (Comparison('Unified, after the network', {
    quick: 'unified_r50 with COCO\'s classes, not deformable, random weights except in the last '
           f'layers, 100 detections; an image of noise of {size[0]}x{size[1]}'
    for quick, size in zip((True, False), SIZES)}, compare, HEURISTIC),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``unified``."""
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Print the figures, and write the record if asked to."""
    run_measures({'unified': unified}, args)


def peak(case: Case, size: Size) -> float:
    """Return the peak memory of this process in MiB, after the network has processed an image."""
    make_predictor(case.port, True, case.options).predict(make_image(size))
    return peak_mib()


def _limit(predictor: Any, count: int) -> Any:
    """Return the predictor of the same network for ``count`` detections."""
    return type(predictor)(predictor.net, predictor.taxonomy,
                           predictor.settings.replace(detections_per_image=count))


def _after_the_network(predictor: Any, image: np.ndarray
                       ) -> dict[str, Callable[[], PanopticResult]]:
    """Convert what a unified network found in an image to the panoptic result."""
    net, size, taxonomy = predictor.net, image.shape[:2], predictor.taxonomy
    found = net.segment(pad_batch([image], net.mean), [size], [size], predictor.settings)[0]

    def heuristic() -> PanopticResult:
        again = dataclasses.replace(found)   # which has computed nothing at the image's size yet
        return merge(again.instances, again.labels, taxonomy)

    def argmax() -> PanopticResult:
        again = dataclasses.replace(found)
        return to_result(again.channel_map, again.channels.detections, taxonomy)

    return {HEURISTIC: heuristic, ARGMAX: argmax}
