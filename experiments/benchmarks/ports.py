"""How fast the ports are with COCO's classes, imperative and hybridized.

    python -m experiments.benchmarks ports [detector mask_head]

Weights are random, except for last layers that make a network find the maximum number of objects.
"""
from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Union

import numpy as np

from adaptis.data.coco_categories import COCO_TAXONOMY
from adaptis.errors import AdaptisError
from adaptis.loading import load_predictor
from adaptis.registry import find_family
from experiments.benchmarks import timing
from experiments.benchmarks.comparison import Comparison, Official, Setting
from experiments.benchmarks.exported import ONNX, exported_form
from experiments.benchmarks.measures import Measure, Size, add_measure_arguments, run_measures

SIZES: tuple[Size, ...] = ((160, 224), (512, 512))
COUNTS = 1, 10, 100
FORMS = {'imperative': False, 'hybridized': True}
RUNS = 3
STUFF = 53   # classes of COCO that come before its things


class Port(NamedTuple):
    """A network, and replacements for some of its random weights.

    ``quiet`` : layers whose weights become 0, because their outputs would be extreme
    ``biases`` : biases of layers, one number for all channels, or numbers for some channels
    """

    name: str
    quiet: Sequence[str] = ()
    biases: Mapping[str, Union[float, Mapping[int, float]]] = {}


_TWO_STAGE: dict[str, Any] = dict(
    quiet=('encoder.rpn.anchor_deltas', 'box_head.cls_score', 'box_head.bbox_pred',
           'mask_head.predictor'),
    biases={'box_head.cls_score': {0: 6.0}, 'mask_head.predictor': 1.0})
# Boxes of FCOS extend one stride, or eight pixels, to every side, so that they overlap little.
CONDINST = Port('condinst_r50', quiet=['encoder.head.bbox_pred'],
                biases={'encoder.head.cls_logits': {0: 6.0}, 'encoder.head.bbox_pred': 1.0})
PORTS = (
    Port('panoptic_fpn_r50', **_TWO_STAGE),
    CONDINST,
    Port('dense_detections_r50', quiet=['encoder.head.box_offsets'],
         biases={'encoder.head.class_logits': {0: 6.0}, 'encoder.head.centerness': 3.0,
                 'encoder.head.box_offsets': math.log(8), 'encoder.head.semantic': {STUFF: 9.0}}),
    Port('unified_r50', **_TWO_STAGE),
)


def detector(ports: Sequence[Port] = PORTS, sizes: Sequence[Size] = SIZES,
             **options: Any) -> dict[str, Any]:
    """Time from image to panoptic result of each port with ResNet-50, at 160x224 and at 512x512.

    There are 100 detections, and 1,000 proposals in two-stage detectors.  The networks take turns.
    ``options`` are arguments of the networks.
    """
    predictors = {(port.name, form): make_predictor(port, hybridize, options)
                  for port in ports for form, hybridize in FORMS.items()}
    result: dict[str, Any] = {}
    for size in sizes:
        image = make_image(size)
        result.update(timing.alternate({
            f'{name} at {_text(size)}, {form}, s': lambda p=p, image=image: p.predict(image)
            for (name, form), p in predictors.items()}, RUNS))
    for port in ports:
        both = [predictors[port.name, form] for form in FORMS]
        maps = [predictor.predict(image).segment_map for predictor in both]
        result[f'{port.name}, pixels that agree'] = float(np.mean(maps[0] == maps[1]))
        result[f'{port.name}, detections'] = len(both[1].instances().scores)
    return result


def mask_head(port: Port = CONDINST, sizes: Sequence[Size] = SIZES,
              **options: Any) -> dict[str, Any]:
    """Time of the mask head of CondInst with ResNet-50 for 1, 10 and 100 instances.

    "head" computes logits at a quarter of the image's size from the predicted weights.  "masks"
    includes the head and the masks at the image's size.  "whole" is from image to panoptic result.
    """
    predictors = {form: make_predictor(port, hybridize, options)
                  for form, hybridize in FORMS.items()}
    result: dict[str, Any] = {}
    for size in sizes:
        calls: dict[str, Callable[[], Any]] = {}
        for form, predictor in predictors.items():
            for count in COUNTS:
                calls.update({f'{count} at {_text(size)}, {form}, {part}, s': call for part, call
                              in _parts(predictor, make_image(size), count).items()})
        times = timing.alternate(calls, RUNS)
        result.update(times)
        for name, seconds in times.items():
            case, part, _ = name.rsplit(', ', 2)
            if part != 'whole':
                result[f'{case}, {part}, %'] = 100 * seconds / times[f'{case}, whole, s']
    return result


def compare_port(name: str, setting: Setting) -> dict[str, Any]:
    """Time from image to panoptic result of a port: imperative, hybridized, exported.

    The official CondInst only returns instances; so do our variants when compared with it.
    """
    port = next(port for port in PORTS if port.name == name)
    image = make_image(COMPARED[setting.quick])
    if setting.official is None:
        predictors = {form: make_predictor(port, hybridize) for form, hybridize in FORMS.items()}
    else:
        predictors = _official_predictors(port, setting.official.checkpoint())
    forms: dict[str, Any] = {form: lambda p=p: p.predict(image) for form, p in predictors.items()}
    if setting.official is not None and port is CONDINST:
        return {form: lambda p=p: p.set_image(image).instances() for form, p in predictors.items()}
    return {**forms, ONNX: exported_form(predictors['hybridized'], [image])}


def official_inputs(quick: bool, folder: Path) -> dict[str, np.ndarray]:
    """Return the inputs for ``compare_port``."""
    return {'images': make_image(COMPARED[quick])[None]}


MEASURES: dict[str, Measure] = {'detector': detector, 'mask_head': mask_head}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ports``."""
    add_measure_arguments(parser, MEASURES)


def run(args: argparse.Namespace) -> None:
    """Print the figures, and write the record if asked to."""
    run_measures(MEASURES, args)


def _parts(predictor: Any, image: np.ndarray, count: int) -> dict[str, Callable[[], Any]]:
    """Return the timed calls for an image with ``count`` instances; AdaptisError if fewer."""
    from adaptis.runtime import mx  # loads MXNet
    from panoptic_baselines.condinst.network import to_instances  # loads MXNet
    net, size = predictor.net, image.shape[:2]
    settings = predictor.settings.replace(detections_per_image=count)
    whole = type(predictor)(net, predictor.taxonomy, settings)
    maps = net(mx.nd.array(image.transpose(2, 0, 1)[None]))
    found = net.detect(maps, settings)[0]
    if len(found.scores) != count:
        raise AdaptisError(f'The network finds {len(found.scores)} instances in the image, not '
                           f'{count}.')

    def head() -> np.ndarray:
        return net.mask_logits(maps, 0, found)

    def masks() -> Any:
        return to_instances(found, head(), net.mask_stride, size, size, settings.mask_threshold)

    return {'whole': lambda: whole.predict(image), 'head': head, 'masks': masks}


def make_predictor(port: Port, hybridize: bool, options: Optional[Mapping[str, Any]] = None,
                   taxonomy: Any = None) -> Any:
    """Return a predictor that finds the maximum number of objects, without resizing images.

    ``taxonomy`` : default: COCO's
    """
    from adaptis.runtime import mx  # loads MXNet
    mx.random.seed(0)
    np.random.seed(0)
    family, taxonomy = find_family(port.name), taxonomy or COCO_TAXONOMY
    net = family.build({'name': port.name, **family.class_counts(taxonomy), **(options or {})},
                       [mx.current_context()])
    parameters = net._collect_params_with_prefix()
    for layer in port.quiet:
        weight = parameters[f'{layer}.weight']
        weight.set_data(mx.nd.zeros(weight.shape))
    for layer, values in port.biases.items():
        bias = parameters[f'{layer}.bias']
        numbers = bias.data().asnumpy()
        for channel, value in (values if isinstance(values, Mapping) else
                               dict.fromkeys(range(len(numbers)), values)).items():
            numbers[channel] = value
        bias.set_data(mx.nd.array(numbers))
    net.hybridize(hybridize)
    settings = family.get_settings('coco').replace(short_side=None, max_side=None)
    return family.make_predictor(net, settings, taxonomy, family.stages)


def make_image(size: Size) -> np.ndarray:
    """Return noise, uint8 (H, W, 3)."""
    return np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)


def _text(size: Size) -> str:
    return f'{size[0]}x{size[1]}'


def _official_predictors(port: Port, checkpoint: Path) -> dict[str, Any]:
    """Return the network of a converted checkpoint in both variants; images are not resized."""
    family = find_family(port.name)
    dense = port.name.startswith('dense')   # whose official network is that of Cityscapes
    settings = family.get_settings('cityscapes' if dense else 'coco')
    predictors = {form: load_predictor(checkpoint, settings.replace(short_side=None, max_side=None))
                  for form in FORMS}
    for form, hybridize in FORMS.items():
        predictors[form].net.hybridize(hybridize)
    return predictors


OFFICIAL = {f'{program}_r50': Official(program, official_inputs)
            for program in ('panoptic_fpn', 'condinst', 'dense_detections')}
COMPARED: Mapping[bool, Size] = {True: (160, 224), False: (512, 512)}
COMPARISONS = tuple(
    Comparison(f'{port.name}, panoptic', {
        quick: f"{port.name} with COCO's classes, random weights except in the last layers, at "
               f'most 100 detections; an image of noise of {_text(size)}'
        for quick, size in COMPARED.items()}, functools.partial(compare_port, port.name),
        'imperative', OFFICIAL.get(port.name)) for port in PORTS)
