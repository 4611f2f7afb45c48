"""Options that the commands which use a trained network share."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Optional

from adaptis.inference.settings import (
    PRESETS,
    SAMPLING,
    Settings,
    get_settings,
)
from adaptis.inference.sidecar import default_settings


def add_network_options(group: Any) -> None:
    """Which network, where, and with which settings; ``group`` is a parser or a group of one."""
    group.add_argument('--checkpoint', type=Path,
                       help='a trained network (default: the toy network that ships)')
    group.add_argument('--ctx', default='auto', help='auto, cpu, gpu or gpu:0 (default: auto)')
    group.add_argument('--preset', choices=sorted(PRESETS),
                       help='thresholds (default: what the checkpoint was trained for)')
    group.add_argument('--sampling', choices=SAMPLING,
                       help="where candidate points come from (default: the preset's)")
    group.add_argument('--flip', action='store_true', default=None,
                       help='average with the mirrored image: twice the time')


def chosen_settings(args: argparse.Namespace, default: Optional[tuple[str, Settings]] = None,
                    **changes: Any) -> tuple[str, Settings]:
    """The preset asked for, else ``default``, else that of the checkpoint; and its name.

    With ``changes``, and with ``--sampling`` and ``--flip`` if given.
    """
    asked = {'sampling': args.sampling, 'flip': args.flip}
    changes.update({name: value for name, value in asked.items() if value is not None})
    if args.preset:
        name, settings = args.preset, get_settings(args.preset)
    else:
        name, settings = default or default_settings(args.checkpoint)
    return name, settings.replace(**changes)
