"""Facts about this machine and this Python environment.

This module imports neither MXNet nor OpenCV nor NumPy, and works without them.
"""
from __future__ import annotations

import contextlib
import ctypes
import functools
import glob
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

Capability = tuple[int, int]

_CUDA_BUILDS = (100, 101, 102, 110, 112, 113, 114, 115, 116, 117)
BUILDS = ('mxnet',) + tuple(f'mxnet-cu{version}' for version in _CUDA_BUILDS)
PACKAGES = BUILDS + (
    'numpy', 'gluoncv', 'opencv-python-headless', 'opencv-python', 'opencv-contrib-python',
    'opencv-contrib-python-headless', 'albumentations', 'scipy', 'pycocotools', 'PyYAML', 'tqdm',
    'tensorboardX', 'protobuf', 'setuptools', 'torch', 'panopticapi', 'onnx', 'onnxruntime',
    'onnxruntime-gpu', 'pyspng')
CPU_FEATURES = ('sse4_1', 'avx', 'avx2', 'fma', 'avx512f', 'avx512_vnni')

# Shared libraries that MXNet's wheel expects on the system -> the pattern of a copy that other
# wheels (scikit-learn, SciPy, OpenCV) bundle under another name.
BUNDLED_LIBRARIES = {'libgomp.so.1': 'libgomp-*.so*', 'libquadmath.so.0': 'libquadmath-*.so*'}

# The compute capabilities for which mxnet-cu112 1.9.1 contains machine code.  The code also runs on
# higher minor versions of the same major version.  The library has no PTX for other GPUs.
CUDA_CODE: tuple[Capability, ...] = ((5, 0), (6, 0), (7, 0), (8, 0), (8, 6))
NEWEST_GPU: Capability = (8, 9)   # Ada
CUDA_DRIVER_NEEDED = 11000   # in the form of cuDriverGetVersion: 1000 * major + 10 * minor
RELEASE_NEEDED = '450.80'    # the oldest driver of CUDA 11.0 that runs libraries of CUDA 11.8

# MXNet's fusion of pointwise operators, which is on by default on GPUs.  NVRTC of CUDA 11.8
# compiles the fused kernels to PTX, which needs a driver of that version or later.
FUSION = 'MXNET_USE_FUSION'
FUSION_DRIVER_NEEDED, FUSION_RELEASE_NEEDED = 11080, '520.61'
AUTOTUNE = 'MXNET_CUDNN_AUTOTUNE_DEFAULT'   # see runtime.search_cudnn_algorithms

# Runs in a separate process: initialising CUDA here would break it in forked workers.
_QUERY_CUDA = r'''
import ctypes, json
cuda = ctypes.CDLL('libcuda.so.1')
def number(call, *args):
    value = ctypes.c_int(0)
    status = call(ctypes.byref(value), *args)
    return value.value if status == 0 else None
found = {'driver': number(cuda.cuDriverGetVersion), 'status': cuda.cuInit(0), 'gpus': []}
for i in range(number(cuda.cuDeviceGetCount) or 0 if found['status'] == 0 else 0):
    name = ctypes.create_string_buffer(128)
    cuda.cuDeviceGetName(name, 128, i)
    capability = [number(cuda.cuDeviceGetAttribute, what, i) or 0 for what in (75, 76)]
    found['gpus'].append([i, name.value.decode(errors='replace'), capability])
print(json.dumps(found))
'''


@dataclass(frozen=True)
class Gpu:
    """One CUDA device, with CUDA's number (after ``CUDA_VISIBLE_DEVICES``)."""

    index: int
    name: str
    capability: Capability

    @property
    def supported(self) -> bool:
        """Whether mxnet-cu112 1.9.1 contains machine code for this GPU."""
        major, minor = self.capability
        return any(major == code[0] and minor >= code[1] for code in CUDA_CODE)


@dataclass(frozen=True)
class Cuda:
    """What the NVIDIA driver reports.

    Attributes
    ----------
    driver : CUDA version that the driver supports (11020 = 11.2), None if there is no driver
    release : the driver's own version, such as '535.104', '' if unknown
    status : the result of ``cuInit``; 0 = success, 100 = no device, None if it was not called
    gpus : the devices, empty if ``status`` is not 0
    """

    driver: Optional[int] = None
    release: str = ''
    status: Optional[int] = None
    gpus: tuple[Gpu, ...] = ()

    @property
    def usable(self) -> tuple[Gpu, ...]:
        """The GPUs that mxnet-cu112 1.9.1 can use with this driver."""
        if (self.driver or 0) < CUDA_DRIVER_NEEDED:
            return ()
        return tuple(gpu for gpu in self.gpus if gpu.supported)


@dataclass(frozen=True)
class Machine:
    """All facts that ``adaptis doctor`` checks; tests construct their own.

    ``fusion`` is the value of ``MXNET_USE_FUSION`` that the user has set, '' without one.
    """

    system: str = 'Linux'
    processor: str = 'x86_64'
    libc: str = 'glibc 2.31'
    python: tuple[int, int] = (3, 11)
    packages: dict[str, str] = field(default_factory=dict)
    has_distutils: bool = True
    missing_libraries: tuple[str, ...] = ()
    cpu_name: str = ''
    cores: int = 1
    cpu_features: tuple[str, ...] = ()
    cuda: Cuda = Cuda()
    fusion: str = ''

    @property
    def fuses(self) -> bool:
        """Whether MXNet fuses pointwise operators on GPUs, which only the user can turn on."""
        return self.fusion.lower() not in ('', '0', 'false')

    @property
    def builds(self) -> list[str]:
        """The installed distributions of MXNet, CUDA builds included."""
        return [name for name in BUILDS if name in self.packages]


def inspect() -> Machine:
    """Return the facts about this machine; takes a fraction of a second and changes nothing."""
    return Machine(
        system=platform.system(), processor=platform.machine(),
        libc=' '.join(platform.libc_ver()).strip(), python=sys.version_info[:2],
        packages=installed(), has_distutils=_found('distutils'),
        missing_libraries=missing_libraries(), cpu_name=_cpu_field('model name'),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 1,
        cpu_features=tuple(f for f in CPU_FEATURES if f in _cpu_field('flags').split()),
        cuda=query_cuda(), fusion=os.environ.get(FUSION, ''))


def usable_cores() -> int:
    """Return how many cores this process may use (``taskset``, Slurm and containers limit it)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def installed(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of the installed ones among the named distributions."""
    from importlib import metadata  # slow to load
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def cuda_build() -> bool:
    """Return whether a CUDA build of MXNet is installed."""
    return any(name != 'mxnet' for name in installed(BUILDS))


@functools.lru_cache(maxsize=1)
def query_cuda() -> Cuda:
    """Ask the NVIDIA driver for its version and its devices, in a separate process."""
    answer = _answer(_QUERY_CUDA)
    if answer is None:
        return Cuda()
    gpus = tuple(Gpu(i, name, (major, minor)) for i, name, (major, minor) in answer['gpus'])
    return Cuda(answer['driver'], _driver_release(), answer['status'], gpus)


def missing_libraries() -> tuple[str, ...]:
    """Return the libraries that MXNet's wheel needs and that are not installed anywhere."""
    folder = package_folder('mxnet')
    return tuple(name for name in BUNDLED_LIBRARIES
                 if not _loads(name) and not (folder and (folder / name).exists()))


def link_bundled_libraries() -> dict[str, Path]:
    """Link copies bundled with other wheels into MXNet's folder; return library -> copy.

    Minimal machines and containers lack ``libgomp.so.1`` and ``libquadmath.so.0``, and MXNet's
    wheel does not include them.  The loader looks for them beside ``libmxnet.so`` first.
    """
    folder = package_folder('mxnet')
    linked = {}
    for name in missing_libraries() if folder else ():
        copies = sorted(folder.parent.glob(f'*.libs/{BUNDLED_LIBRARIES[name]}'))
        if copies:
            with contextlib.suppress(FileNotFoundError):   # there may be a dangling link
                (folder / name).unlink()
            (folder / name).symlink_to(Path('..') / copies[-1].relative_to(folder.parent))
            linked[name] = copies[-1]
    return linked


def package_folder(name: str) -> Optional[Path]:
    """Return the folder of an installed package without importing it; None if there is none."""
    for entry in sys.path:
        folder = Path(entry or '.') / name
        if (folder / '__init__.py').is_file():
            return folder.resolve()
    return None


def nvidia_libraries() -> dict[str, str]:
    """Return soname -> path of every CUDA library in the installed ``nvidia-*`` wheels."""
    found: dict[str, str] = {}
    for entry in sys.path:
        for path in sorted(glob.glob(os.path.join(entry or '.', 'nvidia', '*', 'lib', 'lib*.so*'))):
            found.setdefault(os.path.basename(path), path)
    return found


def _answer(program: str) -> Optional[dict]:
    """Run a Python program that prints JSON; return the value, or None if it fails."""
    try:
        done = subprocess.run([sys.executable, '-I', '-c', program], capture_output=True,
                              text=True, timeout=60, check=True)
        return json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _driver_release() -> str:
    try:
        text = Path('/proc/driver/nvidia/version').read_text(encoding='utf-8')
    except OSError:
        return ''
    match = re.search(r'\s(\d+\.\d+(\.\d+)?)\s', text)
    return match.group(1) if match else ''


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _found(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _cpu_field(key: str) -> str:
    try:
        text = Path('/proc/cpuinfo').read_text(encoding='utf-8', errors='replace')
    except OSError:
        return ''
    match = re.search(rf'^{key}\s*:\s*(.*)$', text, re.MULTILINE)
    return match.group(1) if match else ''
