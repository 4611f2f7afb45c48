"""How fast AdaptIS is, compared with the plain approach of the official code.

    python -m experiments.benchmarks speed [masks click panoptic training variants] [--width 32]

The plain approach: nothing is hybridized, candidates are processed one after another, the mirrored
image is a second pass, features are repeated for every point and concatenated with its coordinates,
and AdaIN consists of broadcast operators (:mod:`experiments.benchmarks.plain`).  Both variants have
the same weights in the same run, and their masks are compared.  Times are medians over alternating
runs.
"""
from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from adaptis.config import OptimizerConfig, StageConfig
from adaptis.inference.encoded import ImageEncoder
from adaptis.inference.predictor import Predictor
from adaptis.inference.settings import OFFICIAL_NAMES, PRESETS
from adaptis.loading import load_predictor
from experiments.benchmarks import timing
from experiments.benchmarks.comparison import Comparison, Form, Official, Setting
from experiments.benchmarks.exported import ONNX, exported_form
from experiments.benchmarks.measures import add_measure_arguments, run_measures
from experiments.benchmarks.process import alone
from toy_data import ToySettings, render

CANDIDATES = 30
SETTINGS = PRESETS['toy_v1'].replace(max_candidates=100)   # what None means on 96x96
SAID = ('sampling_algorithm', 'thresh1', 'thresh2', 'ithresh', 'fl_prob', 'fl_eps', 'fl_blur',
        'max_iters', 'use_flip')
"""Official names of the settings that the official notebooks set."""


def masks(width: int) -> dict[str, Any]:
    """Masks of 30 candidates at 96x96, averaged with the mirrored image (including features)."""
    return _time(_mask_forms(width, CANDIDATES), runs=7)


def click(width: int) -> dict[str, Any]:
    """One click at 1024x1024, with given features."""
    return _time(_click_forms(width, 1024), runs=3)


def panoptic(width: int) -> dict[str, Any]:
    """Complete ``panoptic()`` of the shipped network on toy images; ``--width`` has no effect."""
    forms = _panoptic_forms()
    timed = timing.alternate(forms, runs=3)
    same = [np.mean(a.segment_map == b.segment_map)
            for a, b in zip(forms['plain'](), forms['ours']())]
    return {**timed, 'images per second': len(same) / timed['ours'],
            'pixels that agree': float(np.mean(same))}


def training(width: int) -> dict[str, Any]:
    """A training step of 4 images x 12 points at 96x96."""
    plain, ours = _networks(width)
    timed = timing.alternate({'plain': _step(plain), 'ours': _step(ours)}, runs=3)
    return {**timed, 'images per second before': 4 / timed['plain'],
            'images per second after': 4 / timed['ours']}


def variants(width: int) -> dict[str, Any]:
    """A training step of 4 images x 12 points at 96x96, with other settings of MXNet."""
    threads = str(len(os.sched_getaffinity(0)))
    no_subgraphs = {'OMP_NUM_THREADS': threads, 'MXNET_SUBGRAPH_BACKEND': 'NONE'}
    seconds = {
        'plain, default environment': _step_in({'OMP_NUM_THREADS': threads}, width, plain=True),
        'plain, MXNET_SUBGRAPH_BACKEND=NONE': _step_in(no_subgraphs, width, plain=True),
        'ours, default environment': _step_in({'OMP_NUM_THREADS': threads}, width),
        'ours, MXNET_SUBGRAPH_BACKEND=NONE': _step_in(no_subgraphs, width),
        'ours, hybridized, static_alloc': _step_in(no_subgraphs, width, hybridize=True),
        'ours, one thread': _step_in({**no_subgraphs, 'OMP_NUM_THREADS': '1'}, width)}
    return {**{f'{name}, s': value for name, value in seconds.items()},
            'plain': seconds['plain, default environment'],
            'ours': seconds['ours, default environment']}


def compare_masks(setting: Setting) -> dict[str, Form]:
    """Return the variants of ``masks``."""
    return _mask_forms(32, 10 if setting.quick else CANDIDATES)


def compare_clicks(setting: Setting) -> dict[str, Form]:
    """Return the variants of ``click``."""
    return _click_forms(32, 512 if setting.quick else 1024)


def compare_panoptic(setting: Setting) -> dict[str, Any]:
    """Return the variants of ``panoptic``, including the exported network.

    With the official program, our variants have its weights.
    """
    checkpoint = setting.official and setting.official.checkpoint(num_stuff=1)
    return {**_panoptic_forms(checkpoint),
            ONNX: exported_form(load_predictor(checkpoint, SETTINGS), _toy_images())}


def official_inputs(quick: bool, folder: Path) -> dict[str, Any]:
    """Return the inputs of ``compare_panoptic``, and its settings by their official names."""
    options = {official: getattr(SETTINGS, name) for official, name in OFFICIAL_NAMES.items()
               if official in SAID}
    return {'images': np.stack(_toy_images()), 'options': json.dumps(options)}


def compare_steps(setting: Setting) -> dict[str, Form]:
    """Return the variants of ``training``."""
    plain, ours = _networks(16 if setting.quick else 32)
    return {'plain': _step(plain), 'ours': _step(ours)}


MEASURES = {'masks': masks, 'click': click, 'panoptic': panoptic, 'training': training,
            'variants': variants}

_RANDOM = 'adaptis_toy, width 32, random weights'
COMPARISONS = (
    Comparison('AdaptIS, masks', {True: f'{_RANDOM}; 10 points on 96x96, mirrored image averaged',
                                  False: f'{_RANDOM}; 30 points on 96x96, mirrored image averaged'},
               compare_masks, 'plain'),
    Comparison('AdaptIS, a click', {True: f'{_RANDOM}; 512x512, features given',
                                    False: f'{_RANDOM}; 1024x1024, features given'},
               compare_clicks, 'plain'),
    Comparison('AdaptIS, panoptic', dict.fromkeys(
        (True, False), 'the shipped network (width 16, trained); 6 drawn toy images of 96x96'),
               compare_panoptic, 'plain', Official('adaptis', official_inputs), seed=7),
    Comparison('AdaptIS, training step', {
        True: 'adaptis_toy, width 16, random weights; 4 images of 96x96 with 12 points, Adam',
        False: f'{_RANDOM}; 4 images of 96x96 with 12 points, Adam'}, compare_steps, 'plain'),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``speed``."""
    add_measure_arguments(parser, MEASURES)
    parser.add_argument('--width', type=int, default=32, help='width of the toy network')


def run(args: argparse.Namespace) -> None:
    """Print the figures, and write the record if asked to."""
    run_measures(MEASURES, args, args.width, width=args.width)


def _time(forms: dict[str, Form], runs: int) -> dict[str, Any]:
    timed = timing.alternate(forms, runs)
    gap = np.abs(forms['plain']() - forms['ours']()).max()
    return {**timed, 'largest difference of a mask': float(gap)}


def _mask_forms(width: int, candidates: int) -> dict[str, Form]:
    plain, fast = _networks(width)
    image, points = _image(96), _points(96, candidates)
    settings = PRESETS['toy_v1'].replace(flip=True)
    one_by_one = ImageEncoder(plain, settings.replace(batch_size=1))
    batched = ImageEncoder(fast, settings)
    fast.hybridize()
    return {'plain': lambda: one_by_one(image).masks_at(points),
            'ours': lambda: batched(image).masks_at(points)}


def _click_forms(width: int, side: int) -> dict[str, Form]:
    plain, fast = _networks(width)
    fast.hybridize()
    predictors = {'plain': Predictor(plain, 'toy_v1'), 'ours': Predictor(fast, 'toy_v1')}
    for predictor in predictors.values():
        predictor.set_image(_image(side))
    return {name: lambda p=p: p.mask_at(x=0.3 * side, y=0.7 * side).mask
            for name, p in predictors.items()}


def _panoptic_forms(checkpoint: Optional[Path] = None) -> dict[str, Form]:
    from adaptis.model import load_model  # loads MXNet
    from experiments.benchmarks.plain import make_plain  # loads MXNet
    fast = load_predictor(checkpoint, SETTINGS)
    plain = Predictor(make_plain(load_model(checkpoint or 'toy_v1')),
                      SETTINGS.replace(batch_size=1))
    images = _toy_images()
    return {name: lambda p=p: [p.set_image(image).panoptic() for image in images]
            for name, p in (('plain', plain), ('ours', fast))}


def _toy_images() -> list[np.ndarray]:
    return [render(ToySettings.default('v1', seed=7), 'test', i)[0] for i in range(6)]


def _step(net: Any, hybridize: bool = False) -> Callable[[], Any]:
    """Return a function that updates a network once from a fixed batch."""
    from adaptis.engine.steps import make_trainer, prepare_gradients, train_step  # loads MXNet
    from adaptis.runtime import mx  # loads MXNet
    from adaptis.system import AdaptISSystem  # loads MXNet
    stage = StageConfig(batch_size=4, points=12, steps=1, optimizer=OptimizerConfig(lr=1e-4))
    system = AdaptISSystem(net)
    if hybridize:
        net.hybridize(static_alloc=True)
    trainer = make_trainer(system, stage, 'device')
    prepare_gradients(trainer, accumulate=False)
    rng = np.random.default_rng(0)
    batch = {'image': rng.integers(0, 256, (4, 3, 96, 96)),
             'points': rng.uniform(0, 95, (4, 12, 2)),
             'instances': rng.integers(0, 2, (48, 1, 96, 96)),
             'semantic': rng.integers(0, 2, (4, 96, 96))}
    return lambda: train_step(system, trainer, batch, [mx.current_context()])


def _step_in(environment: dict[str, str], width: int, plain: bool = False,
             hybridize: bool = False) -> float:
    """Return the median seconds of a training step in a process with these variables set."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        return alone(_time_step, width, plain, hybridize)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _time_step(width: int, plain: bool, hybridize: bool) -> float:
    net = _networks(width)[0 if plain else 1]
    return timing.alternate({'step': _step(net, hybridize)}, runs=3)['step']


def _networks(width: int) -> tuple[Any, Any]:
    """Return the plain variant and ours, with equal weights."""
    from adaptis.model import get_model  # loads MXNet
    from adaptis.runtime import mx  # loads MXNet
    from experiments.benchmarks.plain import make_plain  # loads MXNet
    mx.random.seed(0)
    nets = [get_model('adaptis_toy', width=width) for _ in range(2)]
    for net in nets:
        net.initialize(mx.init.Xavier())
    source, target = (net._collect_params_with_prefix() for net in nets)
    for name, parameter in source.items():
        target[name].set_data(parameter.data())
    return make_plain(nets[0]), nets[1]


def _image(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)


def _points(side: int, count: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, side - 1, (count, 2)).astype(np.float32)
