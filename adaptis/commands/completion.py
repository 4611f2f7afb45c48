"""``adaptis completion``: what a shell needs to complete commands and options."""
from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Mapping
from pathlib import Path

from adaptis import cli
from adaptis.errors import AdaptisError

HELP = """Print a script that lets a shell complete commands and options.  For bash: adaptis
completion bash > ~/.local/share/bash-completion/completions/adaptis"""
SHELLS = ('bash', 'zsh', 'tcsh')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('shell', choices=SHELLS)


def run(args: argparse.Namespace) -> int:
    """Print the script; AdaptisError if shtab, which writes it, is not installed."""
    if importlib.util.find_spec('shtab') is None:
        raise AdaptisError('shtab, which writes the script, is not installed: run '
                           'python -m pip install shtab')
    import shtab  # only here
    print(shtab.complete(whole_parser(shtab.FILE), args.shell))
    return 0


def whole_parser(files: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return one parser with every command and its options; ``files`` marks paths for shtab."""
    parser = argparse.ArgumentParser(prog='adaptis')
    commands = parser.add_subparsers()
    for name in cli.COMMANDS:
        command = commands.add_parser(name, help=cli.summary(name))
        cli.add_command_arguments(name, command)
        for action in command._actions:
            if action.type is Path:
                action.complete = files
    return parser
