"""Options that the commands which use a trained network share."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Optional

from adaptis.inference.settings import SAMPLING
from adaptis.inference.sidecar import default_settings
from adaptis.systems import kind_of


def add_network_options(group: Any) -> None:
    """Which network, where, and with which settings; ``group`` is a parser or a group of one."""
    group.add_argument('--checkpoint', type=Path,
                       help='a trained network (default: the toy network that ships)')
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
        name, settings = args.preset, kind_of(checkpoint).get_settings(args.preset)
    else:
        name, settings = default or default_settings(checkpoint)
    return name, settings.replace(**changes)
