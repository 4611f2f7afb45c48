"""``adaptis export``: a trained network as files that run without this project's networks."""
from __future__ import annotations

import argparse
from pathlib import Path

from adaptis.commands.options import add_network_options, add_set_option, chosen_settings
from adaptis.commands.options import changes as read_changes
from adaptis.errors import AdaptisError
from adaptis.loading import load_predictor

HELP = """Write a trained network as graphs, for MXNet and as ONNX, with settings, categories and a
README: a folder that "adaptis predict" and "adaptis evaluate" take with --export, on a machine
without MXNet, too."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_network_options(parser, exported=False)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR',
                        help='folder to write; an older export there is replaced')
    parser.add_argument('--format', choices=('mxnet', 'onnx', 'both'), default='both',
                        help='graphs of MXNet, ONNX models (needs the package onnx), or both '
                        '(default)')
    add_set_option(parser)


def run(args: argparse.Namespace) -> int:
    """Write the folder and say how to use it."""
    from adaptis.commands.subject import checkpoint_facts
    from adaptis.deploy.export import export
    from adaptis.deploy.folder import is_export
    if is_export(args.checkpoint):
        raise AdaptisError(f'{args.checkpoint} is exported already: give the checkpoint.')
    _, settings = chosen_settings(args, **read_changes(args.set))
    predictor = load_predictor(args.checkpoint, settings, 'cpu')
    export(predictor, args.out, args.format, checkpoint_facts(args.checkpoint))
    files = [path for path in args.out.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 2 ** 20
    print(f'Wrote {len(files)} files, {size:.1f} MiB, to {args.out}; to use them: adaptis predict '
          f'IMAGE --out results --export {args.out}')
    return 0
