"""``adaptis convert``: convert official checkpoints to those of this project."""
from __future__ import annotations

import argparse
from pathlib import Path

from adaptis.errors import AdaptisError
from adaptis.registry import find_converter

HELP = """Convert an official checkpoint.  It is a .params file of AdaptIS (toy, DeepLab or FPN
network), a .pkl, .pth or .safetensors file of detectron2 (Panoptic FPN, Mask R-CNN), AdelaiDet
(CondInst) or realtime_panoptic (dense detections), or a backbone to start from (of Caffe2,
torchvision or DLA's authors)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('source', type=Path,
                        help='official .params, .pkl, .pth or .safetensors file')
    parser.add_argument('target', type=Path,
                        help='.params file to write; a .json file is written beside it')
    parser.add_argument('--num-stuff', type=int, metavar='N',
                        help='how many classes are stuff (needed unless there are 2 or 19 classes)')
    parser.add_argument('--list', action='store_true', help='print every mapped name')


def run(args: argparse.Namespace) -> int:
    """Convert a checkpoint and print what was mapped; return 0 even if a parameter is left out."""
    if args.target.suffix != '.params':
        raise AdaptisError(f'{args.target} does not end in .params.')
    for path in (args.target, args.target.with_suffix('.json')):
        if path.exists():
            raise AdaptisError(f'{path} exists: give another name or remove it.')
    report = find_converter(args.source)(args.source, args.target, args.num_stuff)
    if args.list:
        for name, ours in sorted(report['mapped'].items()):
            print(f'{name} -> {ours}')
    for name in report['unknown']:
        print(f'not mapped: {name}')
    if report['prefix']:
        print(f'Names begin with "{report["prefix"]}", which was taken off.')
    print(f'{len(report["mapped"])} parameters mapped, {len(report["unknown"])} not; '
          f'wrote {args.target} ({report["network"]}).')
    return 0
