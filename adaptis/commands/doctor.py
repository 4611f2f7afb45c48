"""``adaptis doctor``: report what is installed, what will run, and what to fix.

With ``--config`` it estimates the memory of a training run instead (``memory``), and with ``--gpu``
it compares a GPU with the CPU (``gpu_check``).
"""
from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import adaptis
from adaptis import doctor, machine
from adaptis.device_errors import explain_device_error
from adaptis.doctor import Problem
from adaptis.errors import AdaptisError

HELP = 'Report what is installed, what will run, and how to fix what does not.'

# The modules that the trial imports; the optional ones may fail.
_TRIED = ('numpy', 'cv2', 'scipy', 'yaml', 'tqdm', 'pycocotools.mask', 'tensorboardX',
          'albumentations', 'mxnet', 'gluoncv', 'onnxruntime')
_OPTIONAL = ('gluoncv', 'onnxruntime')
_OF_EXPORTS = {'numpy', 'cv2', 'onnxruntime'}
ONLY_EXPORTS = ('Only exported networks run here, with ONNX Runtime, because MXNet is not '
                'installed:\n'
                '  adaptis predict PICTURE --out RESULTS --export FOLDER\n'
                'To train networks and to load checkpoints, fix the following.')
_TRIAL = 'from adaptis.commands.doctor import try_imports; try_imports()'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    parser.add_argument('--fix', action='store_true',
                        help='before the report, link libgomp and libquadmath from other installed '
                             'packages into the folder of MXNet if the system lacks them')
    memory = parser.add_argument_group('estimate the memory that a training run needs, instead of '
                                       'the report')
    memory.add_argument('--config', type=Path, metavar='FILE', help='the training config')
    memory.add_argument('--memory', type=float, metavar='GIB',
                        help='memory of each device; proposes a micro_batch that fits')
    memory.add_argument('--devices', type=int, default=1,
                        help='number of devices that share a batch (default: 1)')
    memory.add_argument('--size', metavar='HEIGHTxWIDTH',
                        help='size of the images in a batch (default: the largest that the config '
                             'allows)')
    memory.add_argument('--set', action='append', default=[], metavar='KEY=VALUE',
                        help='override a key of the config')
    check = parser.add_argument_group('check the GPUs, instead of the report')
    check.add_argument('--gpu', action='store_true',
                       help='train and predict with each system, and compare the results with the '
                            'CPU')
    check.add_argument('--device', help='check this device, e.g. gpu:1, gpu:0,1 or cpu:1, instead '
                                        'of the GPUs')
    check.add_argument('--system', action='append', metavar='NAME',
                       help='check only this system, e.g. condinst; can be repeated')
    check.add_argument('--precision', action='append', choices=('float32', 'amp'),
                       help='check only training in this precision; can be repeated')
    check.add_argument('--time-limit', type=float, default=600, metavar='SECONDS',
                       help='time limit of each check (default: 600)')
    check.add_argument('--report', type=Path, metavar='FILE',
                       help='also write the results as JSON, to attach to an issue')


def run(args: argparse.Namespace) -> int:
    """Print the report; return 0 if the library runs here (or the checks pass), else 1."""
    if args.config is not None:
        from adaptis.commands.memory import run as estimate  # needs what may not be installed
        return estimate(args)
    if args.gpu:
        from adaptis.commands.gpu_check import run as check  # needs what may not be installed
        return check(args)
    if args.fix:
        for name, copy in machine.link_bundled_libraries().items():
            print(f'Linked {name} to {copy}.', file=sys.stderr)
    here = machine.inspect()
    trial = trial_run()
    found = _merge(doctor.find_problems(here), failures(trial))
    print(_json(here, trial, found) if args.json else report(here, trial, found))
    return int(any(problem.fatal for problem in found) and not only_exports(here, trial))


def try_imports() -> None:
    """Import everything and print one JSON line for each module; run this in a child process.

    Each line is ``{"name": ..., "problem": sentence or null, "devices": [...]}``.  MXNet also
    computes a little on each device.
    """
    for name in _TRIED:
        print(json.dumps({'name': name, **_try(name)}), flush=True)


def trial_run() -> list[dict[str, Any]]:
    """Return what `try_imports` prints in a process of its own, because an import may crash it."""
    try:
        done = subprocess.run([sys.executable, '-c', _TRIAL], capture_output=True, text=True,
                              timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [{'name': 'python', 'problem': f'A trial import did not finish ({error}).'}]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"name"')]
    if done.returncode:
        lines.append(_crash(_TRIED[min(len(lines), len(_TRIED) - 1)], done))
    return lines


def failures(trial: list[dict[str, Any]]) -> list[Problem]:
    """Return the problems that the trial found; a missing ONNX Runtime is not one."""
    return [Problem(line['problem'], fatal=line['name'] not in _OPTIONAL)
            for line in trial if line.get('problem') and not line.get('absent')]


def only_exports(here: machine.Machine, trial: list[dict[str, Any]]) -> bool:
    """Return whether exported networks run here but, without MXNet, nothing else does."""
    imported = {line['name'] for line in trial if not line.get('problem')}
    return not set(machine.BUILDS) & set(here.packages) and imported >= _OF_EXPORTS


def report(here: machine.Machine, trial: list[dict[str, Any]], found: list[Problem]) -> str:
    """Return the text that a person reads."""
    rows = _rows(here, trial)
    lines = [f'{name + ":":<12}{value}' for name, value in rows]
    fatal = any(problem.fatal for problem in found)
    if only_exports(here, trial):
        lines += ['', ONLY_EXPORTS]
    else:
        lines += ['', 'AdaptIS will not run here:' if fatal else
                  'AdaptIS runs here.' + (' To know:' if found else '')]
    lines += [f'{"  !" if problem.fatal else "  -"} {problem.sentence}' for problem in found]
    return '\n'.join(lines)


def _rows(here: machine.Machine, trial: list[dict[str, Any]]) -> list[tuple[str, str]]:
    packages = ', '.join(f'{name} {version}' for name, version in here.packages.items())
    imported = [line['name'] for line in trial if not line.get('problem')]
    devices = [device for line in trial for device in line.get('devices', ())]
    return [
        ('AdaptIS', adaptis.__version__),
        ('Python', f'{platform.python_version()} ({sys.executable})'),
        ('System', f'{here.system} {here.processor}, {here.libc or "unknown C library"}'),
        ('Installed', packages or 'nothing that AdaptIS needs'),
        ('Imported', ', '.join(imported) or 'nothing'),
        ('Processor', f'{here.cpu_name or "unknown"}, {here.cores} core{"s" * (here.cores > 1)}, '
                      f'{" ".join(here.cpu_features) or "features unknown"}'),
        ('Driver', f'{_driver(here.cuda)} ({_needed()})'),
        ('GPUs', '; '.join(map(_gpu, here.cuda.gpus)) or 'none'),
        ('Fusion', _fusion(here)),
        ('Runs on', ', '.join(devices) or 'nothing'),
    ]


def _driver(cuda: machine.Cuda) -> str:
    if cuda.driver is None:
        return 'no NVIDIA driver'
    release = f' {cuda.release}' if cuda.release else ''
    return f'NVIDIA{release}, CUDA {_dotted(cuda.driver)}'


def _needed() -> str:
    return (f'GPUs need {machine.RELEASE_NEEDED} or newer, of CUDA '
            f'{_dotted(machine.CUDA_DRIVER_NEEDED)}, because MXNet and its CUDA libraries hold '
            'machine code and compile nothing here')


def _fusion(here: machine.Machine) -> str:
    if here.fuses:
        return f'on: {machine.FUSION}={here.fusion} is set'
    return (f'off ({machine.FUSION}=0), because fused operators give wrong gradients on GPUs where '
            'shapes vary')


def _dotted(version: int) -> str:
    return f'{version // 1000}.{version % 1000 // 10}'


def _gpu(gpu: machine.Gpu) -> str:
    return (f'{gpu.index}: {gpu.name}, compute capability {gpu.capability[0]}.{gpu.capability[1]}, '
            f'{"has" if gpu.supported else "no"} code in mxnet-cu112')


def _json(here: machine.Machine, trial: list[dict[str, Any]], found: list[Problem]) -> str:
    runs = not any(problem.fatal for problem in found)
    return json.dumps({'adaptis': adaptis.__version__, 'machine': dataclasses.asdict(here),
                       'trial': trial, 'problems': list(map(dataclasses.asdict, found)),
                       'runs': runs, 'runs_exports': runs or only_exports(here, trial)},
                      indent=2)


def _merge(known: list[Problem], met: list[Problem]) -> list[Problem]:
    """Return the problems of both lists without duplicates, fatal ones first."""
    by_sentence = {problem.sentence: problem for problem in known}
    for problem in met:
        by_sentence.setdefault(problem.sentence, problem)
    return sorted(by_sentence.values(), key=lambda problem: not problem.fatal)


def _try(name: str) -> dict[str, Any]:
    try:
        if name == 'mxnet':
            return {'problem': None, 'devices': _compute()}
        if name == 'gluoncv':
            from adaptis.runtime import gluoncv  # noqa: F401 (loads MXNet)
        else:
            importlib.import_module(name)
    except AdaptisError as error:
        return {'problem': str(error)}
    except ModuleNotFoundError as error:
        return {'problem': doctor.explain_import_error(name, error),
                'absent': name == error.name == 'onnxruntime'}
    except Exception as error:   # the report covers every failure
        return {'problem': doctor.explain_import_error(name, error)}
    return {'problem': None}


def _compute() -> list[str]:
    """Import MXNet and multiply two matrices on each device; return the names of the devices."""
    from adaptis.runtime import get_contexts, mx  # loads MXNet
    devices = get_contexts()
    try:
        for device in devices:
            mx.nd.dot(mx.nd.ones((8, 8), device), mx.nd.ones((8, 8), device)).asnumpy()
    except mx.MXNetError as error:
        reason = str(error).strip().splitlines()[-1]
        raise AdaptisError(explain_device_error(error) or (
            f'MXNet cannot compute on {device} ({reason}): see what nvidia-smi says, or compute on '
            'the CPU.')) from error
    return [str(device) for device in devices]


def _crash(name: str, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    if done.returncode < 0:
        how = signal.Signals(-done.returncode).name
        hint = (': it uses instructions that this processor does not have'
                if how == 'SIGILL' else '')
    else:
        how, hint = (done.stderr.strip().splitlines() or ['no message'])[-1], ''
    return {'name': name, 'problem': f'Importing {name} ends the process ({how}){hint}: install '
                                     'the versions of requirements.txt into a new environment.'}
