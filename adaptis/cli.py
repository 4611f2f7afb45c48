"""The ``adaptis`` command: run a subcommand, and report errors that a user can fix briefly."""
from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from adaptis import __version__
from adaptis.errors import AdaptisError, DataWarning

COMMANDS = ('doctor', 'models', 'toy', 'train', 'launch', 'evaluate', 'predict', 'serve', 'export',
            'table', 'convert', 'import', 'init-config', 'check-data', 'completion')
_MODULES = {'import': 'import_data'}   # "import" is a keyword
VERBOSE = {'-v', '--verbose'}
_INTERRUPTED = 130   # the convention of shells: 128 + SIGINT
_HELP = re.compile('^HELP = (?:"""(.+?)"""|\'(.+?)\'$)', re.MULTILINE | re.DOTALL)
_OWN_PACKAGES = ('adaptis', 'panoptic_baselines', 'experiments', 'toy_data')

# Errors of the machine, not of the program, that any read or write can raise.
_MACHINE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT,
                   errno.EISDIR, errno.ENOTDIR, errno.EMFILE, errno.EIO, errno.ENOMEM,
                   errno.ENAMETOOLONG)


def main(argv: Optional[list[str]] = None) -> int:
    """Run one subcommand and return its exit status.

    0 = done, 1 = a sentence on stderr says what to fix, 2 = wrong usage, 130 = interrupted.
    A bug prints its traceback.
    """
    arguments = _parse(argv)
    if arguments is None:
        return 0
    name = arguments.command
    with contextlib.suppress(AttributeError):  # a stream that replaces stdout may lack it
        sys.stdout.reconfigure(errors='backslashreplace')  # names of files can hold any byte
    try:
        with _data_warnings_told_once():
            return _run(name, arguments.rest)
    except KeyboardInterrupt:
        return _tell(f'adaptis {name}: interrupted.', _INTERRUPTED)
    except BrokenPipeError:   # the reader of our output has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (AdaptisError, ImportError, MemoryError, RuntimeError, OSError) as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        if VERBOSE & set(arguments.rest):
            import traceback  # would make `adaptis --help` slower
            traceback.print_exc()
        return _tell(f'adaptis {name}: {sentence}')


def summary(name: str) -> str:
    """Return the first sentence of a subcommand's ``HELP``, without importing its slow module."""
    path = Path(__file__).with_name('commands') / f'{_module(name)}.py'
    try:
        found = _HELP.search(path.read_text(encoding='utf-8'))
    except OSError:
        return ''
    text = '' if found is None else found[1] or found[2]
    return ' '.join(text.split()).split('. ')[0].rstrip('.')


def command_parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of a subcommand's arguments."""
    parser = argparse.ArgumentParser(prog=f'adaptis {name}', description=_command(name).HELP,
                                     allow_abbrev=False)
    add_command_arguments(name, parser)
    return parser


def add_command_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a subcommand and those that all subcommands share."""
    _command(name).add_arguments(parser)
    common = parser.add_argument_group('output')
    common.add_argument('-q', '--quiet', action='store_true', help='show no progress bars')
    common.add_argument('-v', '--verbose', action='store_true',
                        help='on an error, also print the traceback')


def _command(name: str) -> Any:
    return importlib.import_module(f'adaptis.commands.{_module(name)}')


def _parse(argv: Optional[list[str]]) -> Optional[argparse.Namespace]:
    """Return the command and its arguments; print the help and return None if there are none."""
    parser = _parser()
    given = sys.argv[1:] if argv is None else argv
    if not given:
        parser.print_help()
        return None
    name = given[0]
    if not name.startswith('-') and name not in COMMANDS:
        import difflib  # would make `adaptis --help` slower
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        advice = f'did you mean "{close[0]}"?' if close else '"adaptis" alone lists the commands.'
        parser.error(f'there is no command "{name}": {advice}')
    return parser.parse_args(given)


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS)) + 2
    listing = '\n'.join(f'  {name:<{width}}{summary(name)}' for name in COMMANDS)
    parser = argparse.ArgumentParser(
        prog='adaptis', formatter_class=argparse.RawDescriptionHelpFormatter,
        description='AdaptIS (adaptive instance selection) in MXNet Gluon.',
        epilog='commands:\n'
               f'{listing}\n'
               '\n'
               'Run `adaptis COMMAND --help` for the options of a command.\n')
    parser.add_argument('--version', action='version', version=f'adaptis {__version__}')
    parser.add_argument('command', choices=COMMANDS, metavar='COMMAND',
                        help='one of the commands below')
    parser.add_argument('rest', nargs=argparse.REMAINDER, metavar='...',
                        help='the arguments of the command')
    return parser


@contextlib.contextmanager
def _data_warnings_told_once() -> Iterator[None]:
    """Print only the first data warning of each class, as a sentence on stderr."""
    usual, told = warnings.showwarning, []

    def show(message: Any, category: type, *rest: Any) -> None:
        if not issubclass(category, DataWarning):
            usual(message, category, *rest)
        elif category not in told:
            told.append(category)
            more = ' (Shown once; "adaptis check-data" lists every case.)'
            _tell(f'{message}{more if category is DataWarning else ""}')

    with warnings.catch_warnings():
        warnings.simplefilter('always', DataWarning)
        warnings.showwarning = show
        yield


def _module(name: str) -> str:
    return _MODULES.get(name, name.replace('-', '_'))


def _run(name: str, rest: list[str]) -> int:
    arguments = command_parser(name).parse_args(rest)
    from adaptis.progress import set_quiet  # loads tqdm, would make `adaptis --help` slower
    set_quiet(arguments.quiet)
    status = _command(name).run(arguments)
    sys.stdout.flush()   # now, so that a closed pipe or a full disk is caught
    return status


def _sentence(error: BaseException) -> Optional[str]:
    """Return what a user can do about an error; None if it is a bug."""
    if isinstance(error, AdaptisError):
        return str(error)
    if isinstance(error, ImportError):
        from adaptis.doctor import explain_import_error  # would make `adaptis --help` slower
        own = (error.name or '').split('.')[0] in _OWN_PACKAGES
        return None if own else explain_import_error(error.name or 'A package', error)
    if isinstance(error, OSError):
        return _os_sentence(error) if error.errno in _MACHINE_ERRORS else None
    from adaptis.device_errors import explain_device_error  # would make `adaptis --help` slower
    return explain_device_error(error)


def _os_sentence(error: OSError) -> str:
    advice = ': free some space' if error.errno in (errno.ENOSPC, errno.EDQUOT) else ''
    if error.filename:
        return f'{error.filename}: {error.strerror}{advice}.'
    # Python does not say where the locks lie that processes share.
    place = (' (perhaps /dev/shm, which several processes and TensorBoard logs need)'
             if error.errno in (errno.ENOSPC, errno.EROFS, errno.EACCES) else '')
    return f'{error.strerror}{place}{advice}.'


def _tell(sentence: str, status: int = 1) -> int:
    print(sentence, file=sys.stderr)
    return status


if __name__ == '__main__':
    sys.exit(main())
