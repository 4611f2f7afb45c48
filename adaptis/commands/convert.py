"""``adaptis convert``: convert official checkpoints to those of this project."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Optional

from adaptis.errors import AdaptisError
from adaptis.files import read_json
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
    _check_free(args.target, args.source)
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


def _check_free(target: Path, source: Path) -> None:
    """Raise AdaptisError if files would be replaced that are not our own, unfinished ones.

    The description is written before the parameters, so alone it is what a killed conversion left.
    """
    description = target.with_suffix('.json')
    unfinished = (not target.exists() and description.is_file()
                  and _converted_from(description) == source.name)
    for path in (target, *(() if unfinished else (description,))):
        if path.exists():
            raise AdaptisError(f'{path} exists: give another name or remove it.')


def _converted_from(path: Path) -> Optional[str]:
    try:
        info = read_json(path)
    except AdaptisError:
        return None
    return info.get('converted_from') if isinstance(info, dict) else None
