"""MXNet through `adaptis.runtime`: what it does to NumPy, to the process, and when it cannot."""
from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from adaptis import machine, runtime
from adaptis.errors import AdaptisError
from adaptis.evaluation import record

ROOT = Path(__file__).resolve().parents[2]


def python(program: str, *folders: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run a program in a fresh interpreter that finds ``folders`` before everything else."""
    path = os.pathsep.join(map(str, [*folders, ROOT]))
    return subprocess.run([sys.executable, '-c', program], capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': path, **environment}, timeout=250)


def last_line(done: subprocess.CompletedProcess) -> str:
    return done.stderr.strip().splitlines()[-1]


def fake_package(folder: Path, name: str, source: str) -> None:
    (folder / name).mkdir()
    (folder / name / '__init__.py').write_text(source)


def test_importing_the_package_leaves_numpy_alone():
    done = python('import numpy; before = dict(vars(numpy))\n'
                  'import adaptis, adaptis.cli, adaptis.runtime, adaptis.doctor, sys\n'
                  'import adaptis.commands.doctor\n'
                  'assert dict(vars(numpy)) == before\n'
                  'assert not {"mxnet", "gluoncv", "cv2"} & set(sys.modules)')
    assert done.returncode == 0, done.stderr


def test_importing_the_runtime_does_not_even_import_numpy():
    done = python('import adaptis.runtime, adaptis.cli, sys; assert "numpy" not in sys.modules')
    assert done.returncode == 0, done.stderr


def test_mxnet_comes_once_and_computes():
    done = python('import warnings; warnings.simplefilter("error", DeprecationWarning)\n'
                  'from adaptis.runtime import mx; import adaptis.runtime as r, mxnet\n'
                  'assert mx is mxnet is r.mx and r.__dict__["mx"] is mx\n'
                  'assert (mx.nd.ones((2, 3)) * 2).sum().asscalar() == 12')
    assert done.returncode == 0, done.stderr


def test_names_that_are_there_stay_and_missing_ones_come_back():
    kept = object()
    numpy = types.SimpleNamespace(inf=1.0, nan=0.0, all=all, any=any, prod=sum, round=round,
                                  sort=sorted, isin=None, ravel=None, float=kept)
    restored = runtime.restore_numpy_names(numpy)
    assert numpy.float is kept and 'float' not in restored
    assert numpy.bool is bool and numpy.alltrue is all
    assert runtime.restore_numpy_names(numpy) == []
    with pytest.raises(NotImplementedError, match='numpy.npv'):
        numpy.npv(1)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match='nothing'):
        _ = runtime.nothing


@pytest.mark.parametrize('of_user, found', [(None, '0'), ('', '0'), ('1', '1'), ('0', '0')])
def test_fusion_is_off_before_mxnet_loads_unless_the_user_sets_it(tmp_path, of_user, found):
    fake_package(tmp_path, 'mxnet', 'import os; seen = os.environ["MXNET_USE_FUSION"]')
    set_ = {} if of_user is None else {'MXNET_USE_FUSION': of_user}
    done = python('import os\n' + ('os.environ.pop("MXNET_USE_FUSION", 0)\n' if not set_ else '')
                  + 'from adaptis.runtime import mx; print(mx.seen)', tmp_path, **set_)
    assert done.stdout.strip() == found, done.stderr


@pytest.mark.parametrize('of_user, asked, found', [
    (None, '', '0'), (None, 'search_cudnn_algorithms(True)', '1'), ('', '', '0'),
    (None, 'search_cudnn_algorithms(True); search_cudnn_algorithms(False)', '0'),
    ('2', 'search_cudnn_algorithms(True)', '2'), ('1', '', '1')])
def test_cudnn_searches_only_if_a_command_or_the_user_says_so(tmp_path, of_user, asked, found):
    fake_package(tmp_path, 'mxnet', 'import os; seen = os.environ["MXNET_CUDNN_AUTOTUNE_DEFAULT"]')
    set_ = {} if of_user is None else {'MXNET_CUDNN_AUTOTUNE_DEFAULT': of_user}
    done = python('import os\n'
                  + ('os.environ.pop("MXNET_CUDNN_AUTOTUNE_DEFAULT", 0)\n' if not set_ else '')
                  + f'from adaptis.runtime import search_cudnn_algorithms; {asked}\n'
                  'from adaptis.runtime import mx; print(mx.seen)', tmp_path, **set_)
    assert done.stdout.strip() == found, done.stderr


@pytest.mark.parametrize('of_user, found', [(None, '1024'), ('-1', '-1'), ('7', '7')])
def test_kernels_of_sizes_that_no_longer_come_are_forgotten(tmp_path, of_user, found):
    fake_package(tmp_path, 'mxnet', 'import os; seen = os.environ["MXNET_MKLDNN_CACHE_NUM"]')
    set_ = {} if of_user is None else {'MXNET_MKLDNN_CACHE_NUM': of_user}
    forget = '' if set_ else 'os.environ.pop("MXNET_MKLDNN_CACHE_NUM", 0)\n'
    done = python(f'import os\n{forget}from adaptis.runtime import mx; print(mx.seen)', tmp_path,
                  **set_)
    assert done.stdout.strip() == found, done.stderr


# -- failing imports ------------------------------------------------------------------------------

@pytest.mark.parametrize('source, sentence', [
    ('raise OSError("libgomp.so.1: cannot open shared object file: No such file or directory")',
     'MXNet needs libgomp.so.1'),
    ('raise OSError("libcuda.so.1: cannot open shared object file: No such file or directory")',
     'needs the NVIDIA driver'),
    ('raise OSError("libcudnn.so.8: cannot open shared object file: No such file or directory")',
     'mxnet-cu112 needs libcudnn.so.8'),
    ('import distutils_two', 'mxnet needs distutils_two, which is not installed'),
    ('import sys; sys.modules["distutils"] = None; import distutils.version', 'has no distutils'),
    ('import numpy; numpy.no_such_name', 'does not match the other packages'),
    ('raise RuntimeError("a\\nstrange one")', 'mxnet is installed but cannot be imported'),
])
def test_a_failing_import_is_one_sentence(tmp_path, source, sentence):
    fake_package(tmp_path, 'mxnet', source)
    done = python('from adaptis.runtime import mx', tmp_path)
    assert done.returncode == 1
    assert last_line(done).startswith('adaptis.errors.AdaptisError: ')
    assert sentence in last_line(done)


def test_a_missing_mxnet_says_how_to_install_it():
    done = python('import sys; sys.modules["mxnet"] = None\nfrom adaptis.runtime import mx')
    assert 'MXNet is not installed: python -m pip install' in last_line(done)


def test_gluoncv_is_refused_beside_pytorch_and_pytorch_is_not_imported(tmp_path):
    fake_package(tmp_path, 'torch', '__version__ = "2.4.0"')
    done = python('import sys\nfrom adaptis.errors import AdaptisError\n'
                  'from adaptis.runtime import mx\n'
                  'try:\n    from adaptis.runtime import gluoncv\n'
                  'except AdaptisError as error: print(error)\n'
                  'assert not {"torch", "gluoncv"} & set(sys.modules)', tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'GluonCV cannot be used together with PyTorch' in done.stdout


# -- CUDA libraries -------------------------------------------------------------------------------

def test_gluoncv_leaves_pillow_strict_about_cut_files(tmp_path):
    fake_package(tmp_path, 'gluoncv', 'from PIL import ImageFile\n'
                                      'ImageFile.LOAD_TRUNCATED_IMAGES = True')
    done = python('from PIL import ImageFile; from adaptis.runtime import gluoncv\n'
                  'assert gluoncv.ImageFile is ImageFile\n'
                  'assert ImageFile.LOAD_TRUNCATED_IMAGES is False', tmp_path)
    assert done.returncode == 0, done.stderr


def test_cuda_libraries_load_globally_in_dependency_order(tmp_path, monkeypatch):
    for wheel, name in [('cudnn', 'libcudnn.so.8'), ('cudnn', 'libcudnn_ops_infer.so.8'),
                        ('cublas', 'libcublas.so.11'), ('cublas', 'libcublasLt.so.11'),
                        ('cuda_runtime', 'libcudart.so.11.0'), ('other', 'libother.so.1')]:
        folder = tmp_path / 'nvidia' / wheel / 'lib'
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded = []
    names = runtime.preload_cuda(machine.nvidia_libraries(),
                                 lambda path, mode: loaded.append((Path(path).name, mode)))
    assert names == ['libcudart.so.11.0', 'libcublasLt.so.11', 'libcublas.so.11', 'libcudnn.so.8']
    assert loaded == [(name, ctypes.RTLD_GLOBAL) for name in names]


def test_a_broken_cuda_library_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, 'cuda_build', lambda: True)
    monkeypatch.setattr(machine, 'nvidia_libraries', lambda: {'libcudart.so.11.0': __file__})
    with pytest.raises(AdaptisError, match='mxnet is installed but cannot be imported'):
        runtime._import('mxnet')


# -- contexts -------------------------------------------------------------------------------------

@pytest.fixture
def gpus(monkeypatch):
    """Pretend that MXNet is built with CUDA and the driver shows these capabilities."""
    def pretend(*capabilities, driver=11020):
        features = types.SimpleNamespace(is_enabled=lambda _name: True)
        mx = types.SimpleNamespace(
            runtime=types.SimpleNamespace(Features=lambda: features),
            cpu=lambda i: f'cpu{i}', gpu=lambda i: f'gpu{i}', current_context=lambda: 'current')
        found = tuple(machine.Gpu(i, f'card{i}', c) for i, c in enumerate(capabilities))
        monkeypatch.setitem(vars(runtime), 'mx', mx)
        monkeypatch.setattr(machine, 'query_cuda', lambda: machine.Cuda(driver, '', 0, found))
    return pretend


def test_the_cpu_does_not_ask_the_driver(gpus, monkeypatch):
    gpus((7, 5))
    for module in (machine, record):
        monkeypatch.setattr(module, 'query_cuda', lambda: pytest.fail('the driver was asked'))
    monkeypatch.setattr(record, 'cuda_build', lambda: True)
    assert runtime.get_contexts('cpu:0,1') == ['cpu0', 'cpu1']
    assert record.device_name('cpu') == record.device_name('cpu:1') != 'card0'


def test_a_cpu_build_computes_on_the_cpu():
    mx = runtime.mx
    if mx.runtime.Features().is_enabled('CUDA'):
        pytest.skip('this MXNet is a CUDA build')
    assert runtime.get_contexts('cpu') == [mx.cpu()]
    with mx.cpu(3):   # of a program that chooses for itself
        assert runtime.get_contexts() == [mx.cpu(3)]
    with pytest.raises(AdaptisError, match='supports only the CPU.*--backend onnxruntime'):
        runtime.get_contexts('gpu')


@pytest.mark.parametrize('name, expected', [
    ('auto', ['gpu0', 'gpu2']), ('gpu', ['gpu0', 'gpu2']), ('gpu:2', ['gpu2']), ('cpu', ['cpu0']),
    ('gpu:2,0', ['gpu2', 'gpu0']), ('cpu:1', ['cpu1']), ('cpu:1,0', ['cpu1', 'cpu0'])])
def test_gpus_that_the_build_has_code_for_are_used(gpus, name, expected):
    gpus((7, 5), (9, 0), (8, 9))
    assert runtime.get_contexts(name) == expected


@pytest.mark.parametrize('name', ['gpu:1', 'gpu:0,1', 'gpu:7'])
def test_gpus_that_cannot_run_are_refused(gpus, name):
    gpus((7, 5), (9, 0), (8, 9))
    with pytest.raises(AdaptisError, match=r'0 \(card0\), 1 \(card1, not usable\), 2 \(card2\)'):
        runtime.get_contexts(name)


def test_a_gpu_that_mxnet_does_not_know_is_left_to_onnx_runtime(gpus):
    gpus((9, 0))
    with pytest.raises(AdaptisError) as caught:
        runtime.get_contexts('gpu')
    for words in ('0 (card0, not usable)', 'CUDA 11.2 code does not support compute capability 9.0',
                  'adaptis export', '--backend onnxruntime', 'onnxruntime-gpu'):
        assert words in str(caught.value)
    gpus((7, 5), (6, 1), driver=10020)   # which that driver cannot serve, but MXNet knows
    with pytest.raises(AdaptisError) as caught:
        runtime.get_contexts('gpu')
    assert 'onnxruntime' not in str(caught.value)


def test_an_old_driver_means_the_cpu(gpus):
    gpus((7, 5), driver=10020)
    assert runtime.get_contexts() == ['current']
    with pytest.raises(AdaptisError, match='not usable'):
        runtime.get_contexts('gpu')


def test_only_unusable_gpus_mean_the_cpu(gpus):
    gpus((9, 0))
    assert runtime.get_contexts() == ['current']


@pytest.mark.parametrize('name', ['', 'tpu', 'gpu:', 'gpu:a', 'gpu:0,0', 'gpu:-1', 'cpu:',
                                  'auto:0', 'auto:', 'cpu:0,0', 'gpu:0,'])
def test_names_that_mean_nothing_are_refused(name):
    with pytest.raises(AdaptisError, match='is not a device'):
        runtime.get_contexts(name)


def test_a_prediction_takes_one_device(gpus):
    gpus((7, 5), (8, 6))
    assert [runtime.get_context(name) for name in ('auto', 'gpu', 'gpu:1')] == [
        'gpu0', 'gpu0', 'gpu1']
    with pytest.raises(AdaptisError, match='several devices.*such as gpu:1'):
        runtime.get_context('gpu:1,0')


@pytest.mark.parametrize('capability, runs', [
    ((3, 7), False), ((5, 0), True), ((5, 2), True), ((6, 1), True), ((7, 0), True), ((7, 5), True),
    ((8, 0), True), ((8, 6), True), ((8, 9), True), ((9, 0), False), ((10, 0), False)])
def test_machine_code_runs_within_its_major_version(capability, runs):
    assert machine.Gpu(0, '', capability).supported is runs
