"""Diagnoses from made-up machines, and the command on real and on empty environments."""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from adaptis import doctor, machine
from adaptis.commands import doctor as command
from adaptis.machine import Cuda, Gpu, Machine

ROOT = Path(__file__).resolve().parents[2]
GOOD = Machine(
    packages={'mxnet': '1.9.1', 'numpy': '1.26.4', 'gluoncv': '0.10.5.post0',
              'opencv-python-headless': '4.11.0.86'},
    cpu_features=('avx', 'avx2'))
CUDA_BUILD = {**{k: v for k, v in GOOD.packages.items() if k != 'mxnet'}, 'mxnet-cu112': '1.9.1'}
TURING = Gpu(0, 'T4', (7, 5))
HOPPER = Gpu(0, 'H100', (9, 0))


def packages(**more):
    return {**GOOD.packages, **{name.replace('_', '-'): version for name, version in more.items()}}


def without(name):
    return {k: v for k, v in GOOD.packages.items() if k != name}


def test_a_good_machine_has_no_problem():
    assert doctor.find_problems(GOOD) == []
    assert doctor.find_problems(replace(GOOD, packages=CUDA_BUILD,
                                   cuda=Cuda(11020, '460.32', 0, (TURING,)))) == []


@pytest.mark.parametrize('change, sentence, fatal', [
    (dict(system='Darwin', processor='arm64'), 'this is Darwin on arm64', True),
    (dict(processor='aarch64'), 'this is Linux on aarch64', True),
    (dict(libc=''), 'glibc, which this system', True),
    (dict(python=(3, 8)), 'Python 3.8 is not supported', True),
    (dict(python=(3, 14)), 'Python 3.14 is not supported', False),
    (dict(python=(3, 12), has_distutils=False), 'pip install setuptools==', True),
    (dict(packages=without('mxnet')), 'MXNet is not installed: python -m pip install mx', True),
    (dict(packages=without('mxnet'), python=(3, 13)), 'install --no-deps mxnet==1.9.1', True),
    (dict(packages=packages(mxnet_cu112='1.9.1'), cuda=Cuda(11020, '', 0, (TURING,))),
     'mxnet and mxnet-cu112 are both installed', False),
    (dict(packages=packages(mxnet='1.7.0')), 'AdaptIS needs 1.9.1', False),
    (dict(missing_libraries=('libgomp.so.1',)), 'apt-get install libgomp1', True),
    (dict(packages=without('numpy')), 'NumPy is not installed', True),
    (dict(packages=packages(numpy='2.4.0')), 'NumPy 2.4.0 was not tested', False),
    (dict(packages=packages(numpy='1.22.4')), 'NumPy 1.22.4 was not tested', False),
    (dict(packages=without('opencv-python-headless')), 'OpenCV is not installed', True),
    (dict(packages=packages(opencv_python='4.11.0.86')), 'overwrite each other', False),
    (dict(packages=without('gluoncv')), 'pip install --no-deps gluoncv==', False),
    (dict(packages=packages(torch='2.4.0')), 'together with PyTorch (torch 2.4.0', False),
    (dict(cpu_features=('sse4_1',)), 'has no AVX', False),
    (dict(cuda=Cuda(12020, '535.1', 0, (TURING,))), 'does not use T4', False),
    (dict(cuda=Cuda(12020, '535.1', 0, (HOPPER,))), 'compute capability 9.0) cannot run', False),
    (dict(packages=CUDA_BUILD), 'needs the NVIDIA driver', True),
    (dict(packages=CUDA_BUILD, cuda=Cuda(10020, '440.1', 0, (TURING,))),
     'driver (440.1) supports CUDA 10.2', False),
    (dict(packages=CUDA_BUILD, cuda=Cuda(11020, '', 100)), 'finds no GPU', False),
    (dict(packages=CUDA_BUILD, cuda=Cuda(11020, '', 804)), 'be initialised (error 804)', False),
    (dict(packages=CUDA_BUILD, cuda=Cuda(11080, '520.61', 0, (TURING,)), fusion='1'),
     'MXNET_USE_FUSION=1 lets MXNet fuse', False),
])
def test_each_problem_is_one_sentence_with_a_remedy(change, sentence, fatal):
    found = doctor.find_problems(replace(GOOD, **change))
    assert len(found) == 1, found
    assert sentence in found[0].sentence and found[0].fatal is fatal
    assert found[0].sentence.endswith('.') and '\n' not in found[0].sentence


@pytest.mark.parametrize('fusion, driver, count', [
    ('', 11000, 0), ('0', 11000, 0), ('false', 11000, 0), ('true', 11070, 2), ('1', 11080, 1)])
def test_only_fused_operators_need_the_driver_of_cuda_11_8(fusion, driver, count):
    found = doctor.find_problems(replace(GOOD, packages=CUDA_BUILD, fusion=fusion,
                                         cuda=Cuda(driver, '', 0, (TURING,))))
    assert len(found) == count
    assert count < 2 or 'install driver 520.61' in found[1].sentence
    assert doctor.find_problems(replace(GOOD, fusion='1')) == []   # fusion is for GPUs alone


def test_the_fatal_problems_come_first():
    found = doctor.find_problems(replace(GOOD, packages=without('mxnet'), cpu_features=('sse4_1',)))
    assert [problem.fatal for problem in found] == [True, False]


@pytest.mark.parametrize('error, sentence', [
    (ImportError('libGL.so.1: cannot open shared object file: No such file or directory'),
     'OpenCV needs libGL.so.1'),
    (ModuleNotFoundError('No module named cv2', name='cv2'), 'opencv-python-headless=='),
    (RuntimeError('Please update your PyTorch'), 'GluonCV cannot be used'),
    (ImportError('numpy.core.multiarray failed to import'), 'does not match'),
])
def test_import_errors_are_explained(error, sentence):
    assert sentence in doctor.explain_import_error('cv2', error)


# -- facts ----------------------------------------------------------------------------------------

def test_a_copy_of_a_missing_library_is_linked_beside_mxnet(tmp_path, monkeypatch):
    site = tmp_path / 'site-packages'
    (site / 'mxnet').mkdir(parents=True)
    (site / 'mxnet' / '__init__.py').touch()
    (site / 'mxnet' / 'libgomp.so.1').symlink_to('gone')   # of a package that has been upgraded
    (site / 'scikit_learn.libs').mkdir()
    (site / 'scikit_learn.libs' / 'libgomp-ab12.so.1.0.0').write_text('copy')
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(machine, '_loads', lambda _name: False)
    assert machine.missing_libraries() == ('libgomp.so.1', 'libquadmath.so.0')
    assert list(machine.link_bundled_libraries()) == ['libgomp.so.1']
    assert (site / 'mxnet' / 'libgomp.so.1').read_text() == 'copy'
    assert machine.missing_libraries() == ('libquadmath.so.0',)


def test_nothing_is_linked_where_the_system_has_the_libraries(monkeypatch):
    monkeypatch.setattr(machine, '_loads', lambda _name: True)
    assert machine.link_bundled_libraries() == {}


def test_the_driver_is_asked_in_another_process(monkeypatch):
    asked = {'driver': 11020, 'status': 0, 'gpus': [[0, 'T4', [7, 5]]]}
    monkeypatch.setattr(machine, '_QUERY_CUDA', f'print({json.dumps(json.dumps(asked))})')
    machine.query_cuda.cache_clear()
    try:
        assert machine.query_cuda().usable == (TURING,)
    finally:
        machine.query_cuda.cache_clear()


# -- the command ----------------------------------------------------------------------------------

def run(capsys, monkeypatch, here=GOOD, trial=(), **options):
    monkeypatch.setattr(machine, 'inspect', lambda: here)
    monkeypatch.setattr(command, 'trial_run', lambda: list(trial))
    status = command.run(argparse.Namespace(
        **{'json': False, 'fix': False, 'config': None, 'gpu': False, **options}))
    return status, capsys.readouterr().out


def test_a_good_machine_passes(capsys, monkeypatch):
    status, text = run(capsys, monkeypatch,
                       trial=[{'name': 'mxnet', 'problem': None, 'devices': ['cpu(0)']}])
    assert status == 0 and 'AdaptIS runs here.' in text and 'cpu(0)' in text
    assert '450.80 or newer' in text and 'off (MXNET_USE_FUSION=0)' in text
    assert 'on: MXNET_USE_FUSION=1' in run(capsys, monkeypatch, replace(GOOD, fusion='1'))[1]


def test_a_failing_import_fails_and_is_said_once(capsys, monkeypatch):
    here = replace(GOOD, packages=without('mxnet'))
    sentence = doctor.find_problems(here)[0].sentence
    status, text = run(capsys, monkeypatch, here, [{'name': 'mxnet', 'problem': sentence}])
    assert status == 1 and text.count(sentence) == 1


def test_an_optional_import_may_fail(capsys, monkeypatch):
    status, text = run(capsys, monkeypatch, trial=[{'name': 'gluoncv', 'problem': 'No GluonCV.'}])
    assert status == 0 and 'No GluonCV.' in text


EXPORTS = [{'name': name, 'problem': None} for name in ('numpy', 'cv2', 'onnxruntime')]


@pytest.mark.parametrize('trial, status', [(EXPORTS, 0), (EXPORTS[:2], 1)])
def test_an_environment_for_exports_alone_is_known(capsys, monkeypatch, trial, status):
    here = replace(GOOD, packages=without('mxnet'))
    found, text = run(capsys, monkeypatch, here, trial)
    assert found == status
    assert (command.ONLY_EXPORTS in text) == (status == 0)


def test_json_holds_the_same(capsys, monkeypatch):
    status, text = run(capsys, monkeypatch, replace(GOOD, packages=without('mxnet')), json=True)
    told = json.loads(text)
    assert status == 1 and told['runs'] is False
    assert told['problems'][0]['sentence'].startswith('MXNet is not installed')


def test_a_crash_during_the_trial_names_the_culprit(monkeypatch):
    monkeypatch.setattr(command, '_TRIAL', 'import os, signal\n'
                        'print(\'{"name": "numpy", "problem": null}\', flush=True)\n'
                        'os.kill(os.getpid(), signal.SIGILL)')
    problem, = command.failures(command.trial_run())
    assert problem.fatal and 'Importing cv2 ends the process (SIGILL): it uses instructions' \
        in problem.sentence


def test_here_it_says_what_the_tests_show():
    done = subprocess.run([sys.executable, '-m', 'adaptis.cli', 'doctor', '--json'], cwd=ROOT,
                          capture_output=True, text=True, timeout=250)
    told = json.loads(done.stdout)
    assert done.returncode == 0 and told['runs'], told['problems']
    assert next(line for line in told['trial'] if line['name'] == 'mxnet')['devices']


@pytest.fixture(scope='module')
def empty_python(tmp_path_factory) -> Path:
    """A Python without a single package."""
    folder = tmp_path_factory.mktemp('empty')
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / 'bin' / 'python'


@pytest.mark.parametrize('arguments, status, text', [
    (['doctor'], 1, 'MXNet is not installed'),
    (['doctor'], 1, 'NumPy is not installed'),
    (['--help'], 0, 'Report what is installed'),
    (['--version'], 0, 'adaptis 0.'),
    (['predict', 'x.png'], 1, 'which is not installed: python -m pip install'),
])
def test_it_speaks_where_nothing_is_installed(empty_python, arguments, status, text):
    environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    done = subprocess.run([str(empty_python), '-m', 'adaptis.cli', *arguments], cwd=ROOT,
                          capture_output=True, text=True, timeout=250, env=environment)
    assert done.returncode == status
    assert text in done.stdout + done.stderr
    assert 'Traceback' not in done.stdout + done.stderr
