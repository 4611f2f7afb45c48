"""The ``adaptis`` command: run a subcommand, and report errors that a user can fix briefly."""
from __future__ import annotations

import argparse
import ast
import contextlib
import errno
import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from adaptis import __version__
from adaptis.errors import AdaptisError, DataWarning

COMMANDS = ('doctor', 'models', 'toy', 'train', 'evaluate', 'predict', 'serve', 'export', 'table',
            'convert', 'import', 'init-config', 'check-data')
_MODULES = {'import': 'import_data'}   # "import" is a keyword
_INTERRUPTED = 130   # the convention of shells: 128 + SIGINT
_OWN_PACKAGES = ('adaptis', 'panoptic_baselines', 'experiments', 'toy_data')

# Errors of the machine, not of the program, that any read or write can raise.
_MACHINE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT,
                   errno.EISDIR, errno.ENOTDIR, errno.EMFILE, errno.EIO, errno.ENOMEM,
                   errno.ENAMETOOLONG)


def main(argv: Optional[list[str]] = None) -> int:
    """Run one subcommand and return its exit status.

    0 = done, 1 = a sentence on stderr says what to fix, 2 = wrong usage, 130 = interrupted.
    A bug shows its traceback.
    """
    arguments = _parser().parse_args(argv)
    name = arguments.command
    with contextlib.suppress(AttributeError):  # a stream that replaces stdout may lack it
        sys.stdout.reconfigure(errors='backslashreplace')  # names of files can hold any byte
    try:
        with _data_warnings_told_once():
            return _run(name, arguments.rest)
    except AdaptisError as error:
        return _tell(f'adaptis {name}: {error}')
    except KeyboardInterrupt:
        return _tell(f'adaptis {name}: interrupted.', _INTERRUPTED)
    except BrokenPipeError:   # the reader of our output has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ImportError as error:
        if (error.name or '').split('.')[0] in _OWN_PACKAGES:
            raise
        return _tell(f'adaptis {name}: {_import_sentence(error)}')
    except (MemoryError, RuntimeError) as error:
        sentence = _device_sentence(error)
        if sentence is None:
            raise
        return _tell(f'adaptis {name}: {sentence}')
    except OSError as error:
        if error.errno not in _MACHINE_ERRORS:
            raise
        return _tell(f'adaptis {name}: {_os_sentence(error)}')


def summary(name: str) -> str:
    """Return the first sentence of a subcommand's ``HELP``, without importing its slow module."""
    path = Path(__file__).with_name('commands') / f'{_module(name)}.py'
    try:
        tree = ast.parse(path.read_text(encoding='utf-8'))
    except OSError:
        return ''
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == 'HELP':
            return ' '.join(ast.literal_eval(node.value).split()).split('. ')[0].rstrip('.')
    return ''


def command_parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of a subcommand's arguments."""
    command = _command(name)
    parser = argparse.ArgumentParser(prog=f'adaptis {name}', description=command.HELP,
                                     allow_abbrev=False)
    command.add_arguments(parser)
    return parser


def _command(name: str) -> Any:
    return importlib.import_module(f'adaptis.commands.{_module(name)}')


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS)) + 2
    listing = '\n'.join(f'  {name:<{width}}{summary(name)}' for name in COMMANDS)
    parser = argparse.ArgumentParser(
        prog='adaptis', formatter_class=argparse.RawDescriptionHelpFormatter,
        description='AdaptIS (adaptive instance selection) in MXNet Gluon.',
        epilog=f'commands:\n{listing}\n\n`adaptis COMMAND --help` describes one of them.')
    parser.add_argument('--version', action='version', version=f'adaptis {__version__}')
    parser.add_argument('command', choices=COMMANDS, metavar='COMMAND',
                        help='one of the commands below')
    parser.add_argument('rest', nargs=argparse.REMAINDER, metavar='...',
                        help='the arguments of the command')
    return parser


@contextlib.contextmanager
def _data_warnings_told_once() -> Iterator[None]:
    """Print the first warning of each class about data as a sentence on stderr, and no others."""
    usual, told = warnings.showwarning, []

    def show(message: Any, category: type, *rest: Any) -> None:
        if not issubclass(category, DataWarning):
            usual(message, category, *rest)
        elif category not in told:
            told.append(category)
            more = ' (Told once; adaptis check-data lists all.)'
            _tell(f'{message}{more if category is DataWarning else ""}')

    with warnings.catch_warnings():
        warnings.simplefilter('always', DataWarning)
        warnings.showwarning = show
        yield


def _module(name: str) -> str:
    return _MODULES.get(name, name.replace('-', '_'))


def _run(name: str, rest: list[str]) -> int:
    status = _command(name).run(command_parser(name).parse_args(rest))
    sys.stdout.flush()   # now, so that a closed pipe or a full disk is caught
    return status


def _device_sentence(error: Exception) -> Optional[str]:
    from adaptis.device_errors import explain_device_error  # would make `adaptis --help` slower
    return explain_device_error(error)


def _import_sentence(error: ImportError) -> str:
    from adaptis.doctor import explain_import_error  # would make `adaptis --help` slower
    return explain_import_error(error.name or 'A package', error)


def _os_sentence(error: OSError) -> str:
    where = f'{error.filename}: ' if error.filename else ''
    advice = ': free some space' if error.errno in (errno.ENOSPC, errno.EDQUOT) else ''
    return f'{where}{error.strerror}{advice}.'


def _tell(sentence: str, status: int = 1) -> int:
    print(sentence, file=sys.stderr)
    return status


if __name__ == '__main__':
    sys.exit(main())
