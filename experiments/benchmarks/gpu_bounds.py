"""Lower bounds on the time of each network on GPUs, stage by stage, from multiply-adds and bytes.

    python -m experiments.benchmarks gpu_bounds [--update] [--only RECIPE ...]

Nothing is measured.  Multiply-adds and bytes are counted in the networks' graphs at the sizes of
their papers, and the bounds follow from the data sheets of two GPUs
(:mod:`experiments.benchmarks.roofline`).  ``--update`` writes ``docs/gpu_bounds.md``.
"""
from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from adaptis.config import load_config
from adaptis.deploy.stages import concrete_shape
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import provenance
from experiments.benchmarks.markdown import seconds, table, write_text
from experiments.benchmarks.measures import Size, add_record_arguments, conditions, keep_record
from experiments.benchmarks.roofline import (
    DEVICES,
    FLOAT,
    HALF,
    Cost,
    Device,
    graph_costs,
    network,
    total,
)

ROOT = Path(__file__).resolve().parents[2]
PAGE = Path('docs', 'gpu_bounds.md')
POINTS = DETECTIONS = 100
PROPOSALS = 1000


class Case(NamedTuple):
    """A network at the size of its paper.

    Attributes
    ----------
    title : title on the page
    recipe : a config in ``experiments``
    padded : (height, width) of the network's input
    points, proposals, detections : how many of these the stages process
    """

    title: str
    recipe: str
    padded: Size
    points: int = POINTS
    proposals: int = PROPOSALS
    detections: int = DETECTIONS


CASES = (
    Case('AdaptIS, Cityscapes, ResNet-50', 'cityscapes/r50', (1024, 2048)),
    Case('AdaptIS, Cityscapes, ResNeXt-101', 'cityscapes/x101', (1024, 2048)),
    Case('Panoptic FPN, COCO, ResNet-50', 'panoptic_fpn/coco_r50', (800, 1344)),
    Case('Panoptic FPN, COCO, ResNet-101', 'panoptic_fpn/coco_r101', (800, 1344)),
    Case('CondInst, panoptic, COCO, ResNet-50', 'condinst/coco_panoptic_r50_test', (800, 1344)),
    Case('Dense detections, Cityscapes, ResNet-50', 'dense_detections/cityscapes_r50',
         (1024, 2048)),
    Case('Dense detections, COCO, ResNet-50', 'dense_detections/coco_r50', (800, 1333)),
    Case('Unified, Cityscapes, ResNet-50', 'unified/cityscapes_r50', (1024, 2048)),
    Case('Unified, COCO, ResNet-50', 'unified/coco_r50', (800, 1344)),
)

_TITLES = {'points': 'point head, {points} points', 'pool_box': 'RoIAlign, {proposals} boxes',
           'box_head': 'box head, {proposals} boxes', 'pool_mask': 'RoIAlign, {detections} masks',
           'mask_head': 'mask head, {detections} masks', 'giou_masks': '{detections} masks',
           'semantics': 'semantic head', 'proposals': 'proposal head'}
_LEFT_OUT = ('iou_masks',)   # either this or giou_masks makes masks
_PARTS = {'trunk': 'backbone', 'backbone': 'backbone', 'aspp': 'decoder', 'join': 'decoder',
          'skip': 'decoder', 'first': 'point head, once per image', 'fpn': 'pyramid',
          'squeeze': 'pyramid', 'rpn': 'proposal network', 'head': 'dense head',
          'semantic_head': 'semantic head', 'affinity_head': 'affinity features',
          'mask_branch': 'mask branch'}

_HEAD = """# Bounds on GPUs

`python -m experiments.benchmarks gpu_bounds --update` writes this page. **Everything on it is
calculated, nothing was measured**: no GPU was available. The page helps you to judge whether a time
that you measure is good, and what limits it. Commit {commit}.

- **Multiply-adds** are those of convolutions, dense layers and matrix products in the network's
  graph. One is two operations.
- **MB** is what these operators read and write, including weights, with each array counted once.
  It is the traffic that remains if all other operators are fused into them. With amp, a number has
  2 bytes instead of 4.
- **Unfused MB** is what all operators read and write one by one, as MXNet runs them, because this
  library turns MXNet's fusion off (see [On GPUs](gpu.md)).
- **Operations a byte** is the arithmetic intensity of the fused operators.
- A **bound** is the longer of operations / peak and bytes / bandwidth, stage by stage. Real kernels
  are slower: grouped and depthwise convolutions do not fill tensor cores, and small maps do not
  fill a GPU. Two things can beat a bound: Winograd's algorithm, which needs up to 2.25 times fewer
  multiplications for 3x3 convolutions in float32, and maps that stay in a cache between operators.

Stages count {points} points of AdaptIS, {proposals} proposals and {detections} detections.
AdaptIS with the mirrored image needs everything twice. What runs outside of graphs is not included:
NMS, selection, merging, reading and resizing images, and copies between CPU and GPU.

Peaks and bandwidths are from the data sheets:

{sources}

**TF32** is a way to compute convolutions of float32 numbers on GPUs from Ampere on. According to
its documentation, cuDNN 8 uses TF32 by default. Whether MXNet's wheel does was not tested here;
compare a time in float32 with both columns. **amp** is `precision: amp`."""

_SUMMARY = """Minimum milliseconds per image, with operators fused / unfused. Compare any program
with the first number, and MXNet with the second."""


def stage_costs(case: Case) -> dict[str, Cost]:
    """Return the cost of each stage of a network for one image, in the order of its graphs."""
    from adaptis.model.graph import trace  # loads MXNet
    net, family, taxonomy = network(load_config(ROOT / 'experiments' / f'{case.recipe}.yaml'))
    names = {p.name: name for name, p in net._collect_params_with_prefix().items()}
    known: dict[str, tuple[int, ...]] = {}
    found: dict[str, Cost] = {}
    for index, stage in enumerate(family.export_stages(net)):
        if stage.name in _LEFT_OUT:
            continue
        numbers = {**_numbers(case, stage.name), 'K': case.detections + taxonomy.num_stuff}
        # A map of the first stage; without a batch axis, it is that of a single image.
        shapes = [known[given.name][-len(given.shape):] if given.name in known
                  else concrete_shape(given, numbers) for given in stage.inputs]
        graph = trace(stage.block, *shapes)
        if index == 0:
            known.update(zip(stage.outputs, graph.outputs))
        title = _TITLES.get(stage.name, stage.name).format(**case._asdict())
        labels = {name: _part(place, index == 0, title) for name, place in names.items()}
        other = 'backbone' if index == 0 else title
        for part, cost in graph_costs(graph, labels, other).items():
            found[part] = found.get(part, Cost()).plus(cost)
    return found


def whole_bound(stages: dict[str, Cost], device: Device, precision: str,
                fused: bool = True) -> float:
    """Return the minimum seconds of a network, whose stages run one after another."""
    return sum(cost.bound(device, precision, fused) for cost in stages.values())


def kinds(device: Device) -> list[str]:
    """Return the precisions of a device, without TF32 if it is not faster than float32."""
    return [kind for kind, peak in device.flops.items()
            if kind != 'TF32' or peak > device.flops['float32']]


def page(costs: dict[str, dict[str, Cost]], commit: str) -> str:
    """Return the page in Markdown; ``costs`` maps the title of each case to its costs."""
    parts = [_HEAD.format(
        commit=commit, sources='\n'.join(_sources()), points=POINTS, detections=DETECTIONS,
        proposals=PROPOSALS), '## Complete networks', _SUMMARY, _whole_table(costs)]
    sizes = {case.title: case for case in CASES}
    for title, stages in costs.items():
        case = sizes[title]
        parts += [f'## {title}', f'`experiments/{case.recipe}.yaml`, one image of '
                  f'{case.padded[0]}x{case.padded[1]}.', _stage_table(stages)]
    return '\n\n'.join(parts) + '\n'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``gpu_bounds``."""
    parser.add_argument('--only', nargs='+', metavar='RECIPE',
                        help=f'one or more of {", ".join(case.recipe for case in CASES)}')
    parser.add_argument('--update', action='store_true', help=f'write {PAGE}')
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Print the page, or write it; AdaptisError for a recipe without a case."""
    chosen = [case for case in CASES if not args.only or case.recipe in args.only]
    wrong = set(args.only or ()) - {case.recipe for case in CASES}
    if wrong:
        raise AdaptisError(f'There is no case "{min(wrong)}": see --help.')
    before = conditions()
    costs = {case.title: stage_costs(case) for case in chosen}
    text = page(costs, provenance()['commit'] or 'unknown')
    if args.update:
        write_text(PAGE, text)
    print(f'Wrote {PAGE}.' if args.update else text)
    keep_record(args, {title: {part: cost._asdict() for part, cost in stages.items()}
                       for title, stages in costs.items()}, before)


def _part(place: str, whole: bool, title: str) -> str:
    """Return the part of a network that a parameter belongs to, by its structural name."""
    words = place.split('.')
    if not whole:
        return title
    if words[:2] == ['encoder', 'backbone']:
        return _PARTS.get(words[2], 'backbone')
    return next((_PARTS[word] for word in words[:2] if word in _PARTS), title)


def _numbers(case: Case, stage: str) -> dict[str, int]:
    stride = 8 if stage == 'mask_head' else 4   # of CondInst; heads of RoIs have no stride
    height, width = case.padded
    count = {'points': case.points, 'pool_box': case.proposals, 'box_head': case.proposals}
    return {'H': height, 'W': width, 'h': -(-height // stride), 'w': -(-width // stride),
            'N': count.get(stage, case.detections)}


def _stage_table(stages: dict[str, Cost]) -> str:
    lines = [[name, *_counts(cost), *(seconds(cost.bound(device, kind))
                                      for device in DEVICES for kind in kinds(device))]
             for name, cost in stages.items()]
    lines.append(['all', *_counts(total(stages.values())),
                  *(seconds(whole_bound(stages, device, kind))
                    for device in DEVICES for kind in kinds(device))])
    return table(['stage', 'G multiply-adds', 'weights, M', 'MB, float32', 'MB, amp',
                  'unfused MB, float32', 'operations a byte, float32', 'amp', *_device_columns()],
                 lines)


def _counts(cost: Cost) -> list[str]:
    numbers = (cost.multiply_adds / 1e9, cost.weights / 1e6, FLOAT * cost.least / 1e6,
               HALF * cost.least / 1e6, FLOAT * cost.moved / 1e6, cost.intensity('float32'),
               cost.intensity('amp'))
    return [f'{number:.3g}' if number < 1000 else
            '-' if math.isinf(number) else f'{number:.0f}' for number in numbers]


def _whole_table(costs: dict[str, dict[str, Cost]]) -> str:
    lines = [[title, f'{total(stages.values()).multiply_adds / 1e9:.0f}', *(
        f'{1e3 * whole_bound(stages, device, kind):.1f} / '
        f'{1e3 * whole_bound(stages, device, kind, fused=False):.1f}'
        for device in DEVICES for kind in kinds(device))] for title, stages in costs.items()]
    return table(['network', 'G multiply-adds', *_device_columns()], lines)


def _device_columns() -> list[str]:
    return [f'{device.name}, {kind}' for device in DEVICES for kind in kinds(device)]


def _sources() -> Iterator[str]:
    for device in DEVICES:
        peaks = ', '.join(f'{kind} {value:g}' for kind, value in device.flops.items())
        yield (f'- **{device.name}**: {peaks} TFLOPS, {device.bandwidth:g} GB/s '
               f'({device.source}).')
