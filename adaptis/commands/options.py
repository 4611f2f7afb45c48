"""Options that the commands which use a trained network share."""
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


def add_network_options(group: Any, exported: bool = True) -> None:
    """Which network, where, and with which settings; ``group`` is a parser or a group of one.

    With ``exported`` the network may be one that was exported: ``checkpoint`` is its folder then.
    """
    network = group.add_mutually_exclusive_group() if exported else group
    network.add_argument('--checkpoint', type=Path,
                         help='a trained network (default: the toy network that ships)')
    if exported:
        network.add_argument('--export', type=_export_folder, dest='checkpoint', metavar='DIR',
                             help='a network that "adaptis export" wrote, instead')
        group.add_argument('--backend', choices=BACKENDS,
                           help='of --export: what computes (default: MXNet where it is installed)')
        group.add_argument('--ctx', default='auto', help='auto, cpu, gpu or gpu:0 (default: auto)')
    group.add_argument('--preset', metavar='NAME',
                       help='thresholds, e.g. toy_v1, cityscapes, vistas or coco (default: what '
                       'the checkpoint was trained for)')
    group.add_argument('--sampling', choices=SAMPLING,
                       help="of AdaptIS: where candidate points come from (default: the preset's)")
    group.add_argument('--flip', action='store_true', default=None,
                       help='of AdaptIS: average with the mirrored image: twice the time')


def chosen_settings(args: argparse.Namespace, default: Optional[tuple[str, Any]] = None,
                    checkpoint: Optional[Path] = None, **changes: Any) -> tuple[str, Any]:
    """The preset asked for, else ``default``, else that of the checkpoint; and its name.

    ``checkpoint`` is the one in use if ``args`` names none.
    With ``changes``, and with ``--sampling`` and ``--flip`` if given.
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
    """Changes of single settings; see ``changes``."""
    parser.add_argument('--set', action='append', default=[], metavar='KEY=VALUE',
                        help='change an inference setting, e.g. max_candidates=400')


def changes(pairs: Sequence[str]) -> dict[str, Any]:
    """What ``--set`` asks for; AdaptisError if it is not key=value with a value as YAML has it."""
    import yaml
    found: dict[str, Any] = {}
    for text in pairs:
        key, equals, value = text.partition('=')
        if not equals:
            raise AdaptisError(f'--set {text}: write key=value, e.g. max_candidates=400.')
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise AdaptisError(f'--set {text}: the value is not YAML.') from error
    return found


def check_backend(args: argparse.Namespace) -> None:
    """AdaptisError if a backend is named for a network that is not exported."""
    if args.backend is not None and not is_export(args.checkpoint):
        raise AdaptisError('--backend is of an exported network: give one with --export.')


def _export_folder(text: str) -> Path:
    read_export(text)   # raises AdaptisError if it is none
    return Path(text)
