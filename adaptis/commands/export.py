"""``adaptis export``: write a trained network as files that run without its code."""
from __future__ import annotations

import argparse
from pathlib import Path

from adaptis.commands.evaluation_task import checkpoint_facts
from adaptis.commands.options import (
    add_network_options,
    add_set_option,
    parse_changes,
    resolve_settings,
)
from adaptis.deploy.folder import is_export
from adaptis.errors import AdaptisError
from adaptis.inference.likeness import training_facts
from adaptis.inference.sidecar import read_training
from adaptis.loading import load_predictor

HELP = """Write a trained network as graphs for MXNet and ONNX, with settings, categories and a
README.  "adaptis predict" and "adaptis evaluate" accept the folder with --export, also on a machine
without MXNet."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_network_options(parser, exported=False)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR',
                        help='folder to write; an older export there is replaced')
    parser.add_argument('--format', choices=('mxnet', 'onnx', 'both'), default='both',
                        help='graphs of MXNet, ONNX models (needs the package onnx), or both '
                        '(default)')
    parser.add_argument('--precision', choices=('float32', 'float16'), default='float32',
                        help='of the ONNX models; float16 is for GPUs (default: float32)')
    add_set_option(parser)


def run(args: argparse.Namespace) -> int:
    """Write the folder and print how to use it; return 0."""
    from adaptis.deploy.export import export  # loads MXNet
    if is_export(args.checkpoint):
        raise AdaptisError(f'{args.checkpoint} is already exported: give the checkpoint.')
    _, settings = resolve_settings(args, **parse_changes(args.set))
    predictor = load_predictor(args.checkpoint, settings, 'cpu')
    source = {**checkpoint_facts(args.checkpoint),
              'training': training_facts(read_training(args.checkpoint))}
    export(predictor, args.out, args.format, source, args.precision)
    files = [path for path in args.out.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 2 ** 20
    print(f'Wrote {len(files)} files, {size:.1f} MiB, to {args.out}; to use them: adaptis predict '
          f'IMAGE --out results --export {args.out}')
    return 0
