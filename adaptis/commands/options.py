"""Options that several commands share: which network to use, and how."""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from adaptis.deploy.backends import BACKENDS
from adaptis.deploy.folder import is_export, read_export
from adaptis.errors import AdaptisError
from adaptis.inference.settings import SAMPLING
from adaptis.loading import default_settings, family_of
from adaptis.weights import find_weights


def add_network_options(group: Any, exported: bool = True) -> None:
    """Add the options that choose a network; ``group`` is a parser or an argument group.

    If ``exported`` is true, the user may choose an exported network; ``checkpoint`` is then its
    folder.
    """
    network = group.add_mutually_exclusive_group() if exported else group
    network.add_argument('--checkpoint', type=_checkpoint, metavar='FILE',
                         help='a trained network, or the name of an included one: toy_v1 '
                              '(default), toy_v1_wide, toy_v2 or toy_street')
    if exported:
        network.add_argument('--export', type=_export_folder, dest='checkpoint', metavar='DIR',
                             help='a folder that "adaptis export" wrote, instead of --checkpoint')
        group.add_argument('--backend', choices=BACKENDS,
                           help='what runs the exported network (default: ONNX Runtime on a CPU, '
                                'MXNet on a GPU)')
        group.add_argument('--ctx', default='auto',
                           help='device: auto, cpu, gpu, or one of several GPUs such as gpu:1 '
                                '(default: auto)')
    group.add_argument('--preset', metavar='NAME',
                       help='set of thresholds, e.g. toy_v1, cityscapes, vistas or coco (default: '
                       'that of the data that the checkpoint was trained on)')
    group.add_argument('--sampling', choices=SAMPLING,
                       help='AdaptIS only: how candidate points are chosen (default: as in the '
                       'preset)')
    group.add_argument('--flip', action='store_true', default=None,
                       help='AdaptIS only: average the result with that of the mirrored image; '
                            'takes twice as long')


def _checkpoint(text: str) -> Path:
    return Path(find_weights(text))


def resolve_settings(args: argparse.Namespace, default: Optional[tuple[str, Any]] = None,
                     checkpoint: Optional[Path] = None, **changes: Any) -> tuple[str, Any]:
    """Return the name of the preset and the inference settings.

    The preset comes from the arguments, else from ``default``, else from the checkpoint.
    ``checkpoint`` is used if ``args`` names none.  ``changes``, ``--sampling`` and ``--flip``
    change single settings.
    """
    checkpoint = args.checkpoint or checkpoint
    asked = {'sampling': args.sampling, 'flip': args.flip}
    changes.update({name: value for name, value in asked.items() if value is not None})
    if args.preset:
        name, settings = args.preset, family_of(checkpoint).get_settings(args.preset)
    else:
        name, settings = default or default_settings(checkpoint)
    return name, settings.replace(**changes)


def add_set_option(parser: Any) -> None:
    """Add ``--set``, which changes single settings; see ``parse_changes``."""
    parser.add_argument('--set', action='append', default=[], metavar='KEY=VALUE',
                        help='change an inference setting, e.g. max_candidates=400; can be '
                             'repeated')


def parse_changes(pairs: Sequence[str]) -> dict[str, Any]:
    """Return the settings that ``--set`` changes.

    Raises AdaptisError if an argument is not key=value, or a value is not YAML.
    """
    from adaptis.yaml_files import parse_yaml  # loads PyYAML, which exported networks do not need
    found: dict[str, Any] = {}
    for text in pairs:
        key, equals, value = text.partition('=')
        if not equals:
            raise AdaptisError(f'--set {text}: write key=value, e.g. max_candidates=400.')
        try:
            found[key] = parse_yaml(value)
        except ValueError as error:
            raise AdaptisError(f'--set {text}: the value {error}.') from error
    return found


def check_backend(args: argparse.Namespace) -> None:
    """Raise AdaptisError if a backend is given for a network that is not exported."""
    if args.backend is not None and not is_export(args.checkpoint):
        raise AdaptisError('--backend needs an exported network: give one with --export.')


def _export_folder(text: str) -> Path:
    read_export(text)   # raises AdaptisError if it is not an export
    return Path(text)
