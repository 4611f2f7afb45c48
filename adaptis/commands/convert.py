"""``adaptis convert``: convert official checkpoints to the format of this library."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Optional

from adaptis.errors import AdaptisError
from adaptis.files import read_json
from adaptis.registry import find_converter

HELP = """Convert an official checkpoint.  It can be a .params file of AdaptIS (toy, DeepLab or FPN
network), a .pkl, .pth or .safetensors file of detectron2 (Panoptic FPN, Mask R-CNN), AdelaiDet
(CondInst) or realtime_panoptic (dense detections), or an ImageNet backbone (from Caffe2,
torchvision or the authors of DLA)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('source', type=Path,
                        help='official .params, .pkl, .pth or .safetensors file')
    parser.add_argument('target', type=Path,
                        help='.params file to write; a .json file of the same name is written '
                             'beside it')
    parser.add_argument('--num-stuff', type=int, metavar='N',
                        help='number of stuff classes (needed unless there are 2 or 19 classes)')
    parser.add_argument('--list', action='store_true', help='print how every parameter name is '
                                                            'mapped')


def run(args: argparse.Namespace) -> int:
    """Convert a checkpoint and print what was mapped; return 0 even if parameters are left out."""
    if args.target.suffix != '.params':
        raise AdaptisError(f'{args.target} does not end in .params: give the target a name that '
                           'does.')
    _check_free(args.target, args.source)
    report = find_converter(args.source)(args.source, args.target, args.num_stuff)
    if args.list:
        for name, ours in sorted(report['mapped'].items()):
            print(f'{name} -> {ours}')
    for name in report['unknown']:
        print(f'not mapped: {name}')
    if report['prefix']:
        print(f'The prefix "{report["prefix"]}" was removed from the names.')
    print(f'{len(report["mapped"])} parameters mapped, {len(report["unknown"])} not; '
          f'wrote {args.target} ({report["network"]}).')
    return 0


def _check_free(target: Path, source: Path) -> None:
    """Raise AdaptisError if a file would be replaced that is not left from a killed conversion.

    The description is written before the parameters, so a killed conversion may leave it alone.
    """
    description = target.with_suffix('.json')
    unfinished = (not target.exists() and description.is_file()
                  and _converted_from(description) == source.name)
    for path in (target, *(() if unfinished else (description,))):
        if path.exists():
            raise AdaptisError(f'{path} already exists: give another name or remove it.')


def _converted_from(path: Path) -> Optional[str]:
    try:
        info = read_json(path)
    except AdaptisError:
        return None
    return info.get('converted_from') if isinstance(info, dict) else None
