"""What the ``adaptis`` command does around its subcommands."""
from __future__ import annotations

import errno
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from adaptis import cli, progress
from adaptis.errors import AdaptisError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def toy(monkeypatch):
    """Replace `adaptis toy` by a command that runs the given function."""
    def replace_by(function):
        module = types.ModuleType('adaptis.commands.toy')
        module.HELP = 'A command.'
        module.add_arguments = lambda parser: parser.add_argument('--count', type=int, default=1)
        module.run = function
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return replace_by


def throw(error):
    def function(_args):
        raise error
    return function


def test_arguments_go_to_the_subcommand(toy):
    toy(lambda args: args.count)
    assert cli.main(['toy', '--count', '7']) == 7


class MXNetError(RuntimeError):
    """Stands for MXNet's own, which takes seconds to import."""


@pytest.mark.parametrize('error, status, sentence', [
    (AdaptisError('x.png is empty.'), 1, 'adaptis toy: x.png is empty.'),
    (KeyboardInterrupt(), 130, 'adaptis toy: interrupted.'),
    (MemoryError(), 1, 'Not enough memory'),
    (MXNetError('GPU memory\ncudaMalloc retry failed: out of memory'), 1, 'Not enough memory'),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), '/a/b.png'), 1,
     '/a/b.png: No space left on device: free some space.'),
    (OSError(errno.ENAMETOOLONG, 'File name too long', 'aaa'), 1, 'aaa: File name too long.'),
    (PermissionError(errno.EACCES, 'Permission denied', '/a'), 1, '/a: Permission denied.'),
    (ImportError('libGL.so.1: cannot open shared object file'), 1, 'OpenCV needs libGL.so.1'),
])
def test_what_a_user_can_mend_is_a_sentence(toy, capsys, error, status, sentence):
    toy(throw(error))
    assert cli.main(['toy']) == status
    said = capsys.readouterr().err
    assert sentence in said and said.count('\n') == 1


@pytest.mark.parametrize('error', [
    ValueError('a bug'), MXNetError('shapes differ'), RuntimeError('out of memory'),
    OSError(errno.EBADF, 'Bad file descriptor'),
    ImportError('cannot import name', name='adaptis.model')])
def test_a_bug_shows_its_traceback(toy, error):
    toy(throw(error))
    with pytest.raises(type(error)):
        cli.main(['toy'])


@pytest.mark.parametrize('arguments', [['nothing'], ['toy', '--no-such-option']])
def test_wrong_usage_exits_with_2(toy, capsys, arguments):
    toy(lambda args: 0)
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert 'usage: adaptis' in capsys.readouterr().err


def test_alone_it_lists_the_commands(capsys):
    assert cli.main([]) == 0
    listing = capsys.readouterr().out.partition('\ncommands:\n')[2].splitlines()
    assert [line.split()[0] for line in listing[:len(cli.COMMANDS)]] == list(cli.COMMANDS)
    assert max(map(len, listing)) <= 95


def test_a_typo_gets_a_suggestion(capsys):
    with pytest.raises(SystemExit):
        cli.main(['evalute', 'x'])
    assert 'did you mean "evaluate"?' in capsys.readouterr().err


def test_verbose_shows_where_an_error_was_found(toy, capsys):
    toy(throw(AdaptisError('x.png is empty.')))
    assert cli.main(['toy', '--verbose']) == 1
    said = capsys.readouterr().err
    assert said.startswith('Traceback') and said.endswith('\nadaptis toy: x.png is empty.\n')


@pytest.mark.parametrize('arguments, bars', [(['toy'], 1), (['toy', '--quiet'], 0)])
def test_quiet_shows_no_bars(toy, capsys, arguments, bars):
    toy(lambda args: len(list(progress.open_bar(range(3), desc='bar'))) - 3)
    assert cli.main(arguments) == 0
    assert ('bar' in capsys.readouterr().err) == bars


def test_completion_knows_commands_and_options(capsys):
    assert cli.main(['completion', 'bash']) == 0
    script = capsys.readouterr().out
    asked = 'COMP_WORDS=(adaptis train --res); COMP_CWORD=2; _shtab_adaptis; echo $COMPREPLY'
    done = subprocess.run(['bash', '-c', f'{script}\n{asked}'], capture_output=True, text=True,
                          timeout=60)
    assert done.stdout == '--resume\n', done.stderr


def test_help_lists_every_command_without_importing_mxnet():
    done = subprocess.run(
        [sys.executable, '-c', 'import sys\nfrom adaptis import cli\n'
         'try: cli.main(["--help"])\n'
         'finally: assert not {"mxnet", "numpy", "cv2", "tqdm", "ast"} & set(sys.modules)'],
        cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    for name in cli.COMMANDS:
        assert f'\n  {name} ' in done.stdout


@pytest.mark.parametrize('name', cli.COMMANDS)
def test_every_command_has_a_summary(name):
    assert cli.summary(name)


def test_a_closed_pipe_is_no_traceback():
    program = ('import sys, types\nfrom adaptis import cli\n'
               'module = types.ModuleType("adaptis.commands.toy")\n'
               'module.HELP = ""; module.add_arguments = lambda parser: None\n'
               'module.run = lambda args: print("x" * 10 ** 6) or 0\n'
               'sys.modules[module.__name__] = module\n'
               'sys.exit(cli.main(["toy"]))')
    done = subprocess.run(f'{sys.executable} -c \'{program}\' | head -c 1', shell=True, cwd=ROOT,
                          capture_output=True, text=True, timeout=250)
    assert done.stdout == 'x' and done.stderr == ''
