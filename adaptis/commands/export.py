"""``adaptis export``: write a trained network as files that run without its code."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Callable

from adaptis.commands.options import (
    add_network_options,
    add_set_option,
    parse_changes,
    resolve_settings,
)
from adaptis.deploy.folder import exported_settings, is_export, read_export
from adaptis.errors import AdaptisError
from adaptis.inference.likeness import training_facts
from adaptis.inference.sidecar import read_training
from adaptis.loading import family_of, load_predictor
from adaptis.serve.networks import ServedNetwork, one_network, shipped_networks
from adaptis.serve.ort_web import PACKAGE as ORT_WEB
from adaptis.serve.static_page import check_runs_in_browser, copy_onnx, write_page
from adaptis.weights import DEFAULT_CHECKPOINT

HELP = """Write a trained network as graphs for MXNet and ONNX.  The folder also holds settings,
categories and a README.  "adaptis predict" and "adaptis evaluate" read the folder with --export,
even on a machine without MXNet.  --web writes the page of "adaptis serve" as a folder for any
static web server; the network then runs in the browser."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_network_options(parser, exported=False)
    parser.add_argument('--out', type=Path, metavar='DIR',
                        help='folder to write the export to; an older export there is replaced')
    parser.add_argument('--web', type=Path, metavar='DIR',
                        help='AdaptIS only: folder to write the web page to; an older page there '
                        'is replaced (needs the package onnx, unless --checkpoint is an exported '
                        'folder)')
    parser.add_argument('--ort-web', type=Path, metavar='PATH',
                        help=f'where --web finds the npm package {ORT_WEB}: a folder, or the file '
                        'that "npm pack" writes (default: npm fetches it)')
    parser.add_argument('--format', choices=('mxnet', 'onnx', 'both'), default='both',
                        help='what to write: MXNet graphs, ONNX models (needs the package onnx), '
                        'or both (default: both)')
    parser.add_argument('--precision', choices=('float32', 'float16'), default='float32',
                        help='precision of the ONNX models; float16 is for GPUs (default: float32)')
    add_set_option(parser)


def run(args: argparse.Namespace) -> int:
    """Write the folders and print how to use them; return 0."""
    if args.out is None and args.web is None:
        raise AdaptisError('Nothing to write: give --out DIR for the graphs, --web DIR for a page, '
                           'or both.')
    if args.web is not None and args.precision != 'float32':
        raise AdaptisError('The page computes on the CPU, where float16 is slower and less exact: '
                           'leave out --precision.')
    exported = is_export(args.checkpoint)
    if exported and args.out is not None:
        raise AdaptisError(f'{args.checkpoint} is already exported: give the checkpoint.')
    write = _copy(args) if exported else _load(args)
    if args.out is not None:
        write(args.out, args.format)
        print(f'Wrote {_size(args.out)}. To use it: adaptis predict IMAGE --out results --export '
              f'{args.out}')
    if args.web is not None:
        write_page(args.web, _network(args), lambda folder: write(folder, 'onnx'), args.ort_web)
        print(f'Wrote {_size(args.web)}. To see the page: python -m http.server --bind 127.0.0.1 '
              f'--directory {args.web}, then open http://127.0.0.1:8000')
    return 0


def _load(args: argparse.Namespace) -> Callable[[Path, str], Any]:
    """Return a function that exports the network of a checkpoint to a folder in a format."""
    # These are imported here because writing a page from an exported network does not need them.
    from adaptis.commands.evaluation_task import checkpoint_facts
    from adaptis.deploy.export import export
    _, settings = resolve_settings(args, **parse_changes(args.set))
    if args.web is not None:
        check_runs_in_browser(family_of(args.checkpoint), settings)
    predictor = load_predictor(args.checkpoint, settings, 'cpu')
    source = {**checkpoint_facts(args.checkpoint),
              'training': training_facts(read_training(args.checkpoint))}
    return lambda folder, form: export(predictor, folder, form, source, args.precision)


def _copy(args: argparse.Namespace) -> Callable[[Path, str], Any]:
    """Return a function that copies an exported network, which keeps its settings."""
    if args.preset or args.sampling or args.flip or args.set:
        raise AdaptisError(f'{args.checkpoint} is an export, whose settings are fixed: give the '
                           'original checkpoint to change them.')
    export = read_export(args.checkpoint)
    check_runs_in_browser(family_of(args.checkpoint), exported_settings(args.checkpoint))
    return lambda folder, _: copy_onnx(export, folder)


def _network(args: argparse.Namespace) -> ServedNetwork:
    """Return how the page describes the network."""
    if args.checkpoint is not None and str(args.checkpoint) != DEFAULT_CHECKPOINT:
        return one_network(args.checkpoint, load_predictor)
    return next(network for network in shipped_networks(load_predictor)
                if network.name == DEFAULT_CHECKPOINT)


def _size(folder: Path) -> str:
    """Return how much was written into a folder."""
    files = [path for path in folder.rglob('*') if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 2 ** 20
    return f'{len(files)} files ({size:.1f} MiB) to {folder}'
