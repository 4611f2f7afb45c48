"""Options that the commands which use a trained network share."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from adaptis.inference.settings import (
    PRESETS,
    SAMPLING,
    Settings,
    default_preset,
    get_settings,
)


def add_network_options(group: Any) -> None:
    """Which network, where, and with which settings; ``group`` is a parser or a group of one."""
    group.add_argument('--checkpoint', type=Path,
                       help='a trained network (default: the toy network that ships)')
    group.add_argument('--ctx', default='auto', help='auto, cpu, gpu or gpu:0 (default: auto)')
    group.add_argument('--preset', choices=sorted(PRESETS),
                       help='thresholds (default: toy_v1_cpu for the network that ships, '
                            'else toy_v1)')
    group.add_argument('--sampling', choices=SAMPLING,
                       help="where candidate points come from (default: the preset's)")
    group.add_argument('--flip', action='store_true', default=None,
                       help='average with the mirrored image: twice the time')


def chosen_preset(args: argparse.Namespace) -> str:
    """The preset asked for, or the one for the checkpoint."""
    return args.preset or default_preset(args.checkpoint)


def chosen_settings(args: argparse.Namespace, **changes: Any) -> Settings:
    """The chosen preset with ``changes``, and with ``--sampling`` and ``--flip`` if given."""
    asked = {'sampling': args.sampling, 'flip': args.flip}
    changes.update({name: value for name, value in asked.items() if value is not None})
    return get_settings(chosen_preset(args)).replace(**changes)
