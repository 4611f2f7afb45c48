"""Cost of the networks: parameters, multiply-adds, time and memory, for features and per point.

    python -m experiments.benchmarks cost [--network adaptis_deeplab/resnet50] [--size 1024x2048]

Weights are random, which does not change the cost.  *Features* are everything that is computed once
per image, up to probabilities at the image's size.  *A point* is the soft mask of one point at that
size.  Multiply-adds are counted in the network's graph.  Every row runs in its own process.
``peak`` is the process's peak memory, including Python, MXNet and the weights; "rise" is the
increase during the call.

The rows ``panoptic()`` are the complete algorithm with exactly 100 candidates, which are all
evaluated and merged.  Random weights give no useful proposals.  So the proposal map is replaced by
one with 100 peaks, and ``cut_radius`` keeps the masks from covering each other's points.
"""
from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import numpy as np

from adaptis.inference.encoded import ImageEncoder
from adaptis.inference.memory import estimate_footprint, features_bytes
from adaptis.inference.merge import to_panoptic
from adaptis.inference.panoptic import segment
from adaptis.inference.settings import AdaptISSettings
from adaptis.types import Category, Taxonomy
from experiments.benchmarks.measures import (
    Size,
    add_record_arguments,
    conditions,
    keep_record,
    parse_size,
)
from experiments.benchmarks.process import alone, peak_mib

Row = dict[str, Any]

NETWORKS = ('adaptis_deeplab/resnet50', 'adaptis_deeplab/resnet101',
            'adaptis_deeplab/resnext101_32x4d', 'adaptis_fpn/resnet50')
SIZES = (1024, 2048), (512, 512)
PANOPTIC = 'adaptis_deeplab/resnet50', (1024, 2048)
GRID = 10
"""Number of candidates of ``panoptic()`` along each axis."""

_PATIENCE = 30.0  # seconds after which a measurement is not repeated
_MIB = 2 ** 20


class Task(NamedTuple):
    """A row of the table: what to call in a separate process."""

    name: str
    function: Callable[..., Row]
    arguments: tuple[Any, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``cost``."""
    parser.add_argument('--network', nargs='+', metavar='MODEL/BACKBONE',
                        help=f'default: {", ".join(NETWORKS)}')
    parser.add_argument('--size', nargs='+', type=parse_size, metavar='HxW',
                        help='default: 1024x2048 512x512')
    parser.add_argument('--quick', action='store_true', help='measure everything once')
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Print the table, and write the record if asked to; AdaptisError for an unknown network."""
    before, rows = conditions(), {}
    for task in tasks(args.network, args.size, args.quick):
        print(f'cost: {task.name}', file=sys.stderr, flush=True)
        rows[task.name] = alone(task.function, *task.arguments)
    print(table(rows), flush=True)
    keep_record(args, {'cost': rows}, before)


def tasks(networks: Optional[list[str]] = None, sizes: Optional[list[Size]] = None,
          quick: bool = False) -> list[Task]:
    """Return all rows; by default the networks of the published tables.

    The first network also has ``panoptic()`` rows.  With ``quick``, everything is measured once.
    """
    runs = 1 if quick else 5
    found = [Task(_name(network, size, form), measure, (network, size, form == 'hybridized', runs))
             for network in networks or NETWORKS for size in sizes or SIZES
             for form in ('hybridized', 'imperative')]
    wholes = ([PANOPTIC] if not (networks or sizes) else
              [(network, size) for network in networks or NETWORKS[:1] for size in sizes or SIZES])
    for network, size in wholes:
        found += [Task(_name(network, size, 'panoptic(), flip' if flip else 'panoptic()'), panoptic,
                       (network, size, flip)) for flip in (False, True)]
    return found


def measure(network: str, size: Size, hybridized: bool, runs: int) -> Row:
    """Return the cost of the features and of a point, for one network at one size."""
    net = make_network(network, hybridized)
    encode = ImageEncoder(net, AdaptISSettings(batch_size=4, max_pixels=10 ** 9))
    image, points = _image(size), _points(size)
    encode(_image((128, 128))).masks_at(points[:1] % 128)  # loads libraries, builds graphs
    features, point = _Timer(), _Timer()
    encoded, features_rise = _rise(lambda: features.time(lambda: encode(image)))
    features_peak = peak_mib()
    one_rise, four_rise = (_rise(lambda n=n: encoded.masks_at(points[:n]))[1] for n in (1, 4))
    features.repeat(lambda: encode(image), runs)
    point.repeat(lambda: encoded.masks_at(points[:1]), runs)
    needs, pixels = estimate_footprint(net), size[0] * size[1]
    return {**_counts(net, size), **features.row('features'), **point.row('a point'),
            'peak of features, MiB': features_peak, 'peak, MiB': peak_mib(),
            'rise for features, MiB': features_rise,
            'rise per point, MiB': (four_rise - one_rise) / 3,
            'features as foreseen, MiB': features_bytes(needs, size, net.num_classes) / _MIB,
            'a point as foreseen, MiB': needs.point * pixels / _MIB}


def panoptic(network: str, size: Size, flip: bool) -> Row:
    """Measure the complete algorithm with 100 candidates: features, masks, selection, merging."""
    net = make_network(network, hybridized=True)
    spacing = min(size[0] // GRID, size[1] // GRID)
    settings = AdaptISSettings(
        max_candidates=GRID ** 2, cut_radius=spacing // 2 - 1, min_area=1, mask_threshold=0.0,
        things_threshold=0.0, overlap_threshold=1.0, flip=flip, stuff_prob_mult=0.0,
        max_pixels=10 ** 9)
    encode = ImageEncoder(net, settings)
    began, cpu_began = time.perf_counter(), time.process_time()
    encoded = encode(_image(size))
    encoded.proposals_prob = _hills(size)
    features = time.perf_counter() - began
    spent = _time_calls(encoded, 'masks_at')
    found = segment(encoded, settings, keep_masks=False)
    result = to_panoptic(found.merged, found.stuff_prob, _taxonomy(net))
    return {'whole, s': time.perf_counter() - began,
            'whole, CPU s': time.process_time() - cpu_began, 'features, s': features,
            'masks, s': sum(spent), 'peak, MiB': peak_mib(), 'candidates': found.queried,
            'merged': len(found.merged.class_ids), 'objects': len(result.things)}


def make_network(name: str, hybridized: bool) -> Any:
    """Return the network 'model' or 'model/backbone' with random weights, or raise AdaptisError."""
    from adaptis.model import get_model  # loads MXNet
    from adaptis.runtime import mx  # loads MXNet
    model, _, backbone = name.partition('/')
    mx.random.seed(0)
    net = get_model(model, **({'backbone': backbone} if backbone else {}))
    net.initialize(mx.init.Xavier())
    if hybridized:
        net.hybridize()
    return net


def table(rows: dict[str, Row]) -> str:
    """Return the rows as text, one column per number."""
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for name, row in rows.items():
        line = [name, *(_text(value) for value in row.values())]
        groups.setdefault(('', *row), []).append(line)
    return '\n\n'.join(_columns([list(head), *lines]) for head, lines in groups.items())


def _counts(net: Any, size: Size) -> Row:
    from adaptis.model.graph import multiply_adds, parameter_count, trace  # loads MXNet
    encoder = trace(net.encoder, (1, 3, *size))
    features, queries, *_ = encoder.outputs
    share, head = net.point_head.split()
    shared = trace(share, features)
    point = trace(head, shared.outputs[0], queries, (1, 1, 2))
    return {'parameters, M': parameter_count(net) / 1e6,
            'features, G multiply-adds': (multiply_adds(encoder) + multiply_adds(shared)) / 1e9,
            'a point, G multiply-adds': multiply_adds(point) / 1e9}


class _Timer:
    """Wall-clock seconds of calls, and CPU seconds of this process."""

    def __init__(self) -> None:
        self._times: list[tuple[float, float]] = []

    def time(self, form: Callable[[], Any]) -> Any:
        began = time.perf_counter(), time.process_time()
        result = form()
        self._times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
        return result

    def repeat(self, form: Callable[[], Any], runs: int) -> None:
        """Call ``count`` times, or until the time limit."""
        while len(self._times) < runs and sum(t for t, _ in self._times) < _PATIENCE:
            self.time(form)

    def row(self, what: str) -> Row:
        """Medians."""
        clock, cpu = map(statistics.median, zip(*self._times))
        return {f'{what}, s': clock, f'{what}, CPU s': cpu, f'{what}, runs': len(self._times)}


def _rise(form: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of a call and the rise in memory during it (MiB; NaN if unavailable)."""
    try:
        Path('/proc/self/clear_refs').write_text('5', encoding='ascii')  # the peak starts anew
    except OSError:
        return form(), float('nan')
    before = _status('VmRSS')
    result = form()
    return result, _status('VmHWM') - before


def _status(key: str) -> float:
    for line in Path('/proc/self/status').read_text(encoding='ascii').splitlines():
        if line.startswith(f'{key}:'):
            return int(line.split()[1]) / 1024
    return float('nan')


def _time_calls(owner: Any, name: str) -> list[float]:
    """Make a method record how long each of its calls takes; returns the list of times."""
    method, spent = getattr(owner, name), []

    def timed(*arguments: Any) -> Any:
        began = time.perf_counter()
        result = method(*arguments)
        spent.append(time.perf_counter() - began)
        return result
    setattr(owner, name, timed)
    return spent


def _hills(size: Size) -> np.ndarray:
    """Return a proposal map (H, W) with 10 x 10 peaks of different heights."""
    rows, cols = (np.arange(n, dtype=np.float32) for n in size)
    slope = np.multiply.outer(_bumps(rows), _bumps(cols))
    height = 0.5 + 0.4 * np.add.outer(rows / (2 * size[0]), cols / (2 * size[1]))
    return (0.1 + 0.8 * height * slope).astype(np.float32)


def _bumps(places: np.ndarray) -> np.ndarray:
    """Return ten peaks from 0 to 1 and back."""
    return np.sin(np.pi * GRID * (places + 0.5) / len(places)) ** 2


def _taxonomy(net: Any) -> Any:
    return Taxonomy([Category(i + 1, f'class {i}', i >= net.num_stuff)
                     for i in range(net.num_classes)])


def _image(size: Size) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)


def _points(size: Size) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, np.array(size) - 1, (4, 2)).astype(np.float32)


def _name(network: str, size: Size, form: str) -> str:
    return f'{network} {size[0]}x{size[1]} {form}'


def _text(value: Any) -> str:
    return f'{value:.3g}' if isinstance(value, float) and value < 100 else f'{value or 0:.0f}'


def _columns(lines: list[list[str]]) -> str:
    """Format rows as aligned text; long headings are wrapped."""
    heads = [head.replace(', ', '\n').split('\n') for head in lines[0]]
    deep = max(map(len, heads))
    body = [[h[i] if i < len(h) else '' for h in heads] for i in range(deep)] + lines[1:]
    widths = [max(map(len, column)) for column in zip(*body)]
    return '\n'.join('  '.join([line[0].ljust(widths[0]),
                                *(text.rjust(w) for text, w in zip(line[1:], widths[1:]))])
                     for line in body)
