"""Cost of a trained network: parameters, multiply-adds, time, time by objects, peak memory."""
from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from adaptis.inference import encoded
from adaptis.loading import load_predictor
from experiments.benchmarks.process import peak_mib
from experiments.side_by_side.pictures import open_config
from panoptic_baselines.layers.resize import target_size

BINS = ((0, 6), (7, 9), (10, 12), (13, 99))
"""Ranges of the number of objects in an image."""
PER_BIN = 8
BOXES, MASKS = ('detect', 'propose'), ('mask_logits', 'mask_probabilities', 'panoptic_logits')


def measure(config: Path, checkpoint: Path, ctx: str = 'cpu') -> dict[str, Any]:
    """Return the cost of one network on validation images; call it in a separate process.

    ``ctx`` is the name of the device; memory is that of the process, or of the whole GPU.

    Times are medians in seconds, from image to panoptic result.  Stages: ``dense`` is computed once
    per image, ``objects`` are the boxes and masks of objects, and ``rest`` is everything else
    (resizing, merging).
    """
    dataset, settings = open_config(config)
    predictor = load_predictor(checkpoint, settings, ctx, dataset.taxonomy)
    chosen = _choose(dataset)
    for index in next(iter(chosen.values())):   # builds graphs
        predictor.set_image(dataset.image(index)).panoptic()
    times = {name: [_time(predictor, dataset.image(i)) for i in indices]
             for name, indices in chosen.items()}
    together = [t for group in times.values() for t in group]
    return {**_counts(predictor.net, dataset.image(0), settings),
            'seconds': _medians(together)['whole'], 'stages': _medians(together),
            'by_objects': {name: _medians(group)['whole'] for name, group in times.items()},
            'images': len(together),
            'peak_mib': _peak_mib(ctx)}


def _peak_mib(ctx: str) -> float:
    from adaptis.runtime import get_context, mx  # loads MXNet
    context = get_context(ctx)
    if context.device_type != 'gpu':
        return peak_mib()
    free, whole = mx.context.gpu_memory_info(context.device_id)
    return (whole - free) / 2 ** 20   # MXNet keeps memory that it has allocated


def _choose(dataset: Any) -> dict[str, list[int]]:
    """Return the first images of the split for each range of objects."""
    chosen: dict[str, list[int]] = {}
    for index in range(len(dataset)):
        sample = dataset[index]
        count = len(set(sample.classes) - set(sample.ignored))
        name = next(f'{low}-{high}' for low, high in BINS if low <= count <= high)
        group = chosen.setdefault(name, [])
        if len(group) < PER_BIN:
            group.append(index)
        if len(chosen) == len(BINS) and all(len(g) == PER_BIN for g in chosen.values()):
            break
    return dict(sorted(chosen.items(), key=lambda item: int(item[0].split('-')[0])))


def _time(predictor: Any, image: np.ndarray) -> dict[str, float]:
    spent = {'dense': 0.0, 'objects': 0.0}
    with ExitStack() as stack:
        for owner, name, stage in _watched(predictor):
            stack.enter_context(_watch(owner, name, stage, spent))
        began = time.perf_counter()
        predictor.set_image(image).panoptic()
        whole = time.perf_counter() - began
    return {**spent, 'rest': whole - sum(spent.values()), 'whole': whole}


def _watched(predictor: Any) -> Iterator[tuple[Any, str, str]]:
    """Return which calls are timed, and the stages that they belong to."""
    net = predictor.net
    if not hasattr(net, 'segment'):
        yield encoded._NetworkImage, '__init__', 'dense'
        yield encoded._NetworkImage, 'masks_at', 'objects'
        return
    yield net, 'encode', 'dense'
    for name in BOXES + MASKS:
        if hasattr(net, name):
            yield net, name, 'objects'


@contextmanager
def _watch(owner: Any, name: str, stage: str, spent: dict[str, float]) -> Iterator[None]:
    """Sum the seconds of the calls of one method, without calls inside other timed calls."""
    from adaptis.runtime import mx  # loads MXNet
    own = name in vars(owner)
    method = getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        if spent.get('running'):
            return method(*arguments, **options)
        mx.nd.waitall()
        spent['running'] = 1.0
        began = time.perf_counter()
        try:
            result = method(*arguments, **options)
            mx.nd.waitall()
        finally:
            spent.pop('running')
        spent[stage] += time.perf_counter() - began
        return result

    setattr(owner, name, timed)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, method)
        else:
            delattr(owner, name)


def _medians(times: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(t[name] for t in times) for name in times[0]}


def _counts(net: Any, image: np.ndarray, settings: Any) -> dict[str, Any]:
    from adaptis.model.graph import multiply_adds, parameter_count, trace  # loads MXNet
    size = target_size(image.shape[:2], settings.short_side, settings.max_side)
    divisor = getattr(net, 'divisor', 1)
    padded = [-(-side // divisor) * divisor for side in size]
    return {'parameters': parameter_count(net), 'seen': padded,
            'multiply_adds': multiply_adds(trace(net.encoder, (1, 3, *padded)))}
