"""Where the time of dense detections goes.

    python -m experiments.benchmarks dense_detections
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np

from adaptis.data.cityscapes import CITYSCAPES_TAXONOMY
from adaptis.errors import AdaptisError
from experiments.benchmarks import timing
from experiments.benchmarks.measures import Size, add_record_arguments, run_measures
from experiments.benchmarks.ports import COUNTS, Port, make_image, make_predictor
from panoptic_baselines.layers.upsample import upsampled_labels
from panoptic_baselines.merge import Instances, merge

SIZES: Sequence[Size] = ((256, 512), (512, 1024))
RUNS = 5
STUFF = 11   # classes of Cityscapes that come before its things
DENSE = Port('dense_detections_r50', quiet=['encoder.head.box_offsets'],
             biases={'encoder.head.class_logits': {0: 6.0}, 'encoder.head.centerness': 3.0,
                     'encoder.head.box_offsets': 2.0, 'encoder.head.semantic': {STUFF: 9.0}})


def dense_stages(port: Port = DENSE, sizes: Sequence[Size] = SIZES,
                 **options: Any) -> dict[str, Any]:
    """Dense detections with ResNet-50 and Cityscapes' classes by stage, for 1, 10, 100 instances.

    Stages, hybridized: the graph from the image to the inputs of NMS; NMS; the labels of the
    semantic branch; for the instances, masks on the graph's grid, masks at the image's size, and
    merging.  "whole" is from image to panoptic result.
    """
    predictor = make_predictor(port, True, options, CITYSCAPES_TAXONOMY)
    result: dict[str, Any] = {}
    for size in sizes:
        calls: dict[str, Callable[[], Any]] = {}
        for count in COUNTS:
            calls.update({name.format(size=f'{size[0]}x{size[1]}'): call for name, call
                          in _stages(predictor, make_image(size), count).items()})
        result.update(timing.alternate(calls, RUNS))
    return result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``dense_detections``."""
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Print the figures, and write the record if asked to."""
    run_measures({'dense_stages': dense_stages}, args)


def _stages(predictor: Any, image: np.ndarray, count: int) -> dict[str, Callable[[], Any]]:
    """Return the timed calls; AdaptisError if the image has fewer than ``count`` instances."""
    from adaptis.runtime import mx  # loads MXNet
    from panoptic_baselines.dense_detections.network import full_masks  # loads MXNet
    net, size = predictor.net, image.shape[:2]
    settings = predictor.settings.replace(detections_per_image=count)
    whole = type(predictor)(net, predictor.taxonomy, settings)
    x = mx.nd.array(image.transpose(2, 0, 1)[None])
    dense = net.encode(x)
    found = net.detect(dense.maps, [size], settings)[0].take(slice(count))
    if len(found.scores) != count:
        raise AdaptisError(f'The network finds {len(found.scores)} instances in the image, not '
                           f'{count}.')
    coarse = net.mask_probabilities(dense, 0, found, settings.location)
    masks = full_masks(coarse, size, size, settings.mask_threshold)
    instances = Instances(found.boxes, found.scores, found.classes, masks)
    semantic = dense.maps.semantic.asnumpy()[0]
    labels = upsampled_labels(semantic, net.semantic_stride, size, size)
    return {
        'graph at {size}, s': lambda: net.encode(x),
        'suppression at {size}, s': lambda: net.detect(dense.maps, [size], settings),
        'labels at {size}, s':
            lambda: upsampled_labels(semantic, net.semantic_stride, size, size),
        f'masks on the grid, {count} at {{size}}, s':
            lambda: net.mask_probabilities(dense, 0, found, settings.location),
        f'masks of the image, {count} at {{size}}, s':
            lambda: full_masks(coarse, size, size, settings.mask_threshold),
        f'merging, {count} at {{size}}, s': lambda: merge(instances, labels, predictor.taxonomy),
        f'whole, {count} at {{size}}, s': lambda: whole.predict(image),
    }
