"""Find problems of an installation, and explain in one sentence how to fix each of them.

``adaptis doctor`` and failed imports use the same sentences.
"""
from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Callable, Optional

from adaptis.machine import (
    BUNDLED_LIBRARIES,
    CUDA_CODE,
    CUDA_DRIVER_NEEDED,
    FUSION,
    FUSION_DRIVER_NEEDED,
    FUSION_RELEASE_NEEDED,
    RELEASE_NEEDED,
    Cuda,
    Machine,
    inspect,
    installed,
)

MXNET = 'mxnet==1.9.1'
GLUONCV = 'gluoncv==0.10.5.post0'
OPENCV = 'opencv-python-headless==4.11.0.86'
NUMPY = 'numpy==1.26.4'
PIP = 'python -m pip'
SYSTEM_PACKAGES = {'libgomp.so.1': 'libgomp1', 'libquadmath.so.0': 'libquadmath0'}


@dataclass(frozen=True)
class Problem:
    """One sentence with a problem and its remedy.  Nothing runs until a ``fatal`` one is fixed."""

    sentence: str
    fatal: bool = False


def find_problems(machine: Machine) -> list[Problem]:
    """Return all problems that follow from the facts, fatal ones first."""
    found = [problem for check in _CHECKS for problem in check(machine)]
    return sorted(found, key=lambda problem: not problem.fatal)


def explain_import_error(module: str, error: BaseException) -> str:
    """Return a sentence for a failed ``import module``: the cause and what to do.

    The error's own message is considered first, then known problems of this machine.
    """
    explanation = _explain_message(error, module)
    if explanation:
        return explanation
    fatal = [problem.sentence for problem in find_problems(inspect()) if problem.fatal]
    if fatal:
        return fatal[0]
    reason = ' '.join(str(error).split())[:300]
    return (f'{module} is installed but cannot be imported ({type(error).__name__}: {reason}): '
            f'install the versions of requirements.txt into a new environment.')


def torch_conflict_message(version: str) -> str:
    """Return the sentence for an environment with both GluonCV and PyTorch."""
    return (f'GluonCV cannot be used together with PyTorch ({version} is installed), because it '
            'imports PyTorch and rejects version 2: run AdaptIS in an environment without PyTorch '
            f'({PIP} uninstall torch).')


# -- checks: facts -> problems ------------------------------------------------------------------

def _platform(machine: Machine) -> Iterator[Problem]:
    if machine.system != 'Linux' or machine.processor not in ('x86_64', 'AMD64'):
        yield Problem(f'MXNet 1.9.1 is built for Linux on x86-64, but this is {machine.system} on '
                      f'{machine.processor}: use a Linux x86-64 machine or container.', fatal=True)
    elif not machine.libc.startswith('glibc'):
        yield Problem('MXNet 1.9.1 is built against glibc, which this system (Alpine?) lacks: use '
                      'Debian, Ubuntu, Red Hat or a similar system or container.', fatal=True)


def _python(machine: Machine) -> Iterator[Problem]:
    version = '.'.join(map(str, machine.python))
    if not (3, 9) <= machine.python <= (3, 13):
        yield Problem(f'Python {version} is not supported: install Python 3.9 to 3.12 '
                      f'(or 3.13, through `make`).', fatal=machine.python < (3, 9))
    elif not machine.has_distutils:
        yield Problem(f'Python {version} has no distutils, which MXNet imports: '
                      f'{PIP} install setuptools==80.9.0.', fatal=True)


def _mxnet(machine: Machine) -> Iterator[Problem]:
    if not machine.builds:
        yield Problem(_no_mxnet(machine.python), fatal=True)
    if len(machine.builds) > 1:
        names = ' and '.join(machine.builds)
        yield Problem(f'{names} are both installed and overwrite each other: {PIP} uninstall -y '
                      f'{" ".join(machine.builds)}, then install only one of them.')
    for name in machine.builds:
        if not machine.packages[name].startswith('1.9'):
            yield Problem(f'{name} {machine.packages[name]} is installed, but AdaptIS needs '
                          f'1.9.1: {PIP} install {name}==1.9.1.')


def _libraries(machine: Machine) -> Iterator[Problem]:
    if machine.builds:
        for name in machine.missing_libraries:
            yield Problem(_no_library(name), fatal=True)


def _numpy(machine: Machine) -> Iterator[Problem]:
    version = machine.packages.get('numpy')
    if version is None:
        yield Problem(f'NumPy is not installed: {PIP} install {NUMPY}.', fatal=True)
    elif not (1, 23) <= _numbers(version) < (2, 2):
        yield Problem(f'NumPy {version} was not tested with MXNet 1.9.1 (1.23 to 2.1 were): '
                      f'if something fails, {PIP} install {_numpy_for(machine.python)}.')


def _opencv(machine: Machine) -> Iterator[Problem]:
    found = [name for name in machine.packages if name.startswith('opencv-')]
    if not found:
        yield Problem(f'OpenCV is not installed: {PIP} install {OPENCV}.', fatal=True)
    if len(found) > 1:
        yield Problem(f'{" and ".join(found)} are installed and overwrite each other: '
                      f'{_only_headless(found)}.')


def _gluoncv(machine: Machine) -> Iterator[Problem]:
    if 'gluoncv' not in machine.packages:
        yield Problem(_no_gluoncv())
    elif 'torch' in machine.packages:
        yield Problem(torch_conflict_message(f'torch {machine.packages["torch"]}'))


def _processor(machine: Machine) -> Iterator[Problem]:
    if machine.cpu_features and 'avx' not in machine.cpu_features:
        yield Problem('This processor (or the virtual machine) has no AVX.  MXNet was not tested '
                      'without it and is slow at best: use a processor from 2011 or later, or let '
                      'the virtual machine expose the features of the host.')


def _gpus(machine: Machine) -> Iterator[Problem]:
    cuda, built = machine.cuda, any(name != 'mxnet' for name in machine.builds)
    if built:
        yield from _driver(cuda)
    elif machine.builds and any(gpu.supported for gpu in cuda.gpus):
        names = ', '.join(sorted({gpu.name for gpu in cuda.gpus if gpu.supported}))
        yield Problem(f'This MXNet supports only the CPU and does not use {names}: {PIP} uninstall '
                      f'-y mxnet, then {PIP} install ".[cu112]" in the source tree.')
    for gpu in cuda.gpus if machine.builds else ():
        if not gpu.supported:
            yield Problem(_no_code(gpu.index, gpu.name, gpu.capability))


def _driver(cuda: Cuda) -> Iterator[Problem]:
    if cuda.driver is None:
        yield Problem(_no_driver(), fatal=True)
    elif cuda.driver < CUDA_DRIVER_NEEDED:
        release = f' ({cuda.release})' if cuda.release else ''
        yield Problem(f'The NVIDIA driver{release} supports CUDA {_cuda(cuda.driver)}, but '
                      f'mxnet-cu112 needs CUDA 11: install driver {RELEASE_NEEDED} or newer.')
    elif cuda.status:
        why = ('finds no GPU (perhaps CUDA_VISIBLE_DEVICES is empty, or the container was started '
               'without --gpus '
               'all)' if cuda.status == 100 else f'cannot be initialised (error {cuda.status})')
        yield Problem(f'The NVIDIA driver is installed but {why}: see what nvidia-smi says; until '
                      'this is fixed, AdaptIS uses the CPU.')


def _fusion(machine: Machine) -> Iterator[Problem]:
    if not machine.fuses or all(name == 'mxnet' for name in machine.builds):
        return
    yield Problem(f'{FUSION}={machine.fusion} lets MXNet fuse pointwise operators on GPUs. This '
                  'makes gradients wrong, or training fail, if a hybridized block gets several '
                  'shapes in a step: unset it, or use it only for inference.')
    if CUDA_DRIVER_NEEDED <= (machine.cuda.driver or 0) < FUSION_DRIVER_NEEDED:
        yield Problem(f'With {FUSION}={machine.fusion} MXNet compiles kernels that need a driver '
                      f'for CUDA {_cuda(FUSION_DRIVER_NEEDED)}, but this one supports CUDA '
                      f'{_cuda(machine.cuda.driver or 0)}: unset it, or install driver '
                      f'{FUSION_RELEASE_NEEDED} or newer.')


_CHECKS: tuple[Callable[[Machine], Iterator[Problem]], ...] = (
    _platform, _python, _mxnet, _libraries, _numpy, _opencv, _gluoncv, _gpus, _fusion,
    _processor)


# -- sentences ----------------------------------------------------------------------------------

def _explain_message(error: BaseException, module: str) -> Optional[str]:
    """Explain an import error from its own message; None if it is unknown."""
    text = str(error)
    library = re.search(r'(lib[\w+.-]+?\.so[.\d]*): cannot open shared object', text)
    if library:
        return _no_library(library.group(1))
    name = getattr(error, 'name', None) or ''
    if isinstance(error, ModuleNotFoundError) and name:
        return _no_module(name, module)
    if 'PyTorch' in text or ('torch' in text and module == 'gluoncv'):
        return torch_conflict_message(f'torch {installed(("torch",)).get("torch", "")}'.strip())
    if 'numpy' in text.lower():
        version = installed(('numpy',)).get('numpy', 'of an unknown version')
        return (f'NumPy {version} does not match the other packages '
                f'({text.splitlines()[0][:120]}): {PIP} install -r requirements.txt.')
    return None


def _no_module(name: str, wanted: str) -> str:
    if name == 'mxnet':
        return _no_mxnet(sys.version_info[:2])
    if name == 'gluoncv':
        return _no_gluoncv()
    if name.split('.')[0] == 'distutils':
        return (f'Python {sys.version_info[0]}.{sys.version_info[1]} has no distutils, which '
                f'{wanted} imports: {PIP} install setuptools==80.9.0.')
    package = {'cv2': OPENCV, 'yaml': 'PyYAML', 'PIL': 'Pillow'}.get(name, name.split('.')[0])
    return f'{wanted} needs {name}, which is not installed: {PIP} install {package}.'


def _no_mxnet(python: tuple[int, ...]) -> str:
    options = '--no-deps ' if python >= (3, 13) else ''
    return f'MXNet is not installed: {PIP} install {options}{MXNET}.'


def _no_gluoncv() -> str:
    return (f'GluonCV is not installed: {PIP} install --no-deps {GLUONCV} '
            f'(its dependencies include opencv-python, which needs libGL).')


def _no_library(name: str) -> str:
    if name in BUNDLED_LIBRARIES:
        return (f'MXNet needs {name}, which is missing on this machine: run `adaptis doctor '
                f'--fix`, or install it (Debian, Ubuntu: apt-get install {SYSTEM_PACKAGES[name]}).')
    if name.startswith('libcuda.so'):
        return _no_driver()
    if name.startswith(('libGL', 'libgthread', 'libglib', 'libSM', 'libX', 'libxcb')):
        return (f'OpenCV needs {name}, a library of desktop systems: '
                f'{_only_headless(["opencv-python"])}.')
    if name.startswith(('libcu', 'libnccl', 'libnv')):
        return (f'mxnet-cu112 needs {name}, which is not installed: {PIP} install ".[cu112]" in '
                'the source tree.')
    return f'{name} is missing on this machine: install the system package that contains it.'


def _no_driver() -> str:
    return ('mxnet-cu112 needs the NVIDIA driver (libcuda.so.1), which is not installed: install '
            f'it, or use the CPU ({PIP} uninstall mxnet-cu112, then {PIP} install {MXNET}).')


def _no_code(index: int, name: str, capability: tuple[int, int]) -> str:
    codes = ', '.join(map(_dotted, CUDA_CODE))
    return (f'GPU {index} ({name}, compute capability {_dotted(capability)}) cannot run '
            f'mxnet-cu112 1.9.1, which supports only {codes} (Maxwell to Ada): use the CPU, '
            'another GPU, or ONNX Runtime (`adaptis export`, then --backend onnxruntime).')


def _only_headless(installed_now: list[str]) -> str:
    return (f'{PIP} uninstall -y {" ".join(installed_now)}, then {PIP} install {OPENCV}')


def _numpy_for(python: tuple[int, int]) -> str:
    return NUMPY if python < (3, 13) else 'numpy==2.1.3'


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r'\d+', version)[:2])


def _dotted(capability: tuple[int, int]) -> str:
    return f'{capability[0]}.{capability[1]}'


def _cuda(version: int) -> str:
    return f'{version // 1000}.{version % 1000 // 10}'
