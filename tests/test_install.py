"""The files that install the project agree with each other, and the Makefile finds a Python."""
from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from adaptis import doctor

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = (ROOT / 'requirements.txt').read_text()

# Made-up Pythons: this one, but for what they answer about virtual environments.
WITHOUT_VENV = f'case "$*" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"'
WITH_VENV = (f'case "$*" in "-m venv"*) mkdir -p .venv; echo anew;; '
             f'*) exec {sys.executable} "$@";; esac')


def test_every_requirement_is_pinned_except_what_must_stay_current():
    lines = [line.split('#')[0].strip() for line in REQUIREMENTS.splitlines()]
    loose = [line for line in lines if line and '==' not in line.split(';')[0]]
    assert [re.split(r'[><=]', line)[0] for line in loose] == ['requests', 'packaging']


@pytest.mark.parametrize('pin', [doctor.MXNET, doctor.OPENCV, doctor.NUMPY])
def test_the_doctor_advises_what_is_pinned(pin):
    assert re.search(rf'^{re.escape(pin)}\b', REQUIREMENTS, re.MULTILINE)


def test_the_makefile_and_the_doctor_install_the_same_gluoncv():
    makefile = (ROOT / 'Makefile').read_text()
    assert f'--no-deps {doctor.MXNET} {doctor.GLUONCV}' in makefile
    assert doctor.GLUONCV in REQUIREMENTS   # as an explanation, not as a requirement
    assert not re.search(r'^gluoncv', REQUIREMENTS, re.MULTILINE)


@pytest.fixture
def make(tmp_path):
    """Run ``make`` on the project's Makefile in an empty folder with made-up Pythons."""
    if shutil.which('make') is None:
        pytest.skip('make is not installed')
    for name in ('Makefile', 'requirements.txt', 'setup.py'):
        shutil.copy(ROOT / name, tmp_path)

    # The make that runs the tests would have this one report the folders it enters.
    environment = {name: value for name, value in os.environ.items()
                   if name not in ('MAKEFLAGS', 'MAKELEVEL', 'MFLAGS')}

    def run(*arguments, pythons=()):
        return subprocess.run(['make', *arguments, f'PYTHON={" ".join(pythons)}'], cwd=tmp_path,
                              env=environment, capture_output=True, text=True, timeout=250)

    def python(name, source):
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\n{source}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return f'./{name}'
    run.python = python
    return run


def test_tests_run_on_all_cores_unless_told_otherwise(make):
    """pytest takes the last ``-n``; one that is absent leaves all in one process."""
    command = make('-n', 'test', "ARGS=-n 0").stdout.splitlines()[-1]
    assert command.startswith('OMP_NUM_THREADS=1 ') and '-n auto' in command
    assert command.endswith('-m "not slow" -n 0')


def test_without_a_suitable_python_it_says_which_to_install(make):
    done = make('.venv/made', pythons=['no-such-python', make.python('too_new', 'exit 1')])
    assert done.returncode != 0
    assert 'AdaptIS needs Python 3.9 to 3.13' in done.stderr and 'PYTHON=' in done.stderr


def test_without_venv_it_says_what_to_install(make):
    bare = make.python('bare', WITHOUT_VENV)
    done = make('.venv/made', pythons=[bare])
    assert done.returncode != 0
    assert 'without venv' in done.stderr and 'apt-get install python3-venv' in done.stderr


def test_the_first_python_that_can_make_an_environment_makes_it(make, tmp_path):
    bare = make.python('bare', WITHOUT_VENV)
    good = make.python('good', WITH_VENV)
    done = make('.venv/made', pythons=['no-such-python', bare, good])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / '.venv' / 'made').exists()


def test_an_environment_whose_python_is_gone_is_made_anew(make, tmp_path):
    (tmp_path / '.venv').mkdir()
    (tmp_path / '.venv' / 'made').touch()
    good = make.python('good', WITH_VENV)
    assert 'anew' in make('.venv/made', pythons=[good]).stdout
