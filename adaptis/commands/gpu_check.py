"""``adaptis doctor --gpu``: train and predict a little with every system, and compare with the CPU.

Each check runs in its own process with a time limit, so that a crash or a hang does not affect the
other checks.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import adaptis
from adaptis import machine
from adaptis.commands.train import set_norm_devices
from adaptis.device_errors import explain_device_error
from adaptis.errors import AdaptisError
from adaptis.files import atomic_write
from adaptis.registry import find_family

SYSTEMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    'adaptis': ({'name': 'adaptis_toy', 'width': 8, 'norm_layer': 'SyncBatchNorm'}, {}),
    'panoptic_fpn': ({'name': 'panoptic_fpn_r18', 'fpn_channels': 64}, {'rois': 64}),
    'condinst': ({'name': 'condinst_r18', 'fpn_channels': 64, 'semantic': True, 'things': True},
                 {}),
    'dense_detections': ({'name': 'dense_detections_r18', 'fpn_channels': 64}, {}),
    'unified': ({'name': 'unified_r18', 'fpn_channels': 64}, {'rois': 64}),
}
"""System -> the arguments of a small network and of its losses."""

LIMITS = {
    'float32': {'losses': 1e-3, 'gradients': 0.05, 'weights': 0.05, 'maps': 1e-3, 'pixels': 0.02},
    'amp': {'total': 0.25},
}
"""Precision -> the largest error of each kind that is accepted; docs/gpu.md explains the limits."""

_CHILD = 'from adaptis.commands.gpu_check import child; child()'
# The first lets several contexts of the CPU synchronise, see adaptis.engine.steps.SYNC_ON_CPU; the
# others make a GPU compute in the precision that the limits assume, and skip cuDNN's search.
_ENVIRONMENT = {'MXNET_CPU_TEMP_COPY': '4096', 'MXNET_CPU_WORKER_NTHREADS': '8',
                'NVIDIA_TF32_OVERRIDE': '0', 'MXNET_CUDNN_AUTOTUNE_DEFAULT': '0'}


def run(args: argparse.Namespace) -> int:
    """Run the checks for the arguments of ``adaptis doctor``; return 0 if all pass, else 1."""
    systems = args.system or list(SYSTEMS)
    unknown = sorted(set(systems) - set(SYSTEMS))
    if unknown:
        raise AdaptisError(f'--system {unknown[0]}: choose from {", ".join(SYSTEMS)}.')
    checks = plan(_devices(args.device), systems, args.precision or list(LIMITS))
    return run_checks(checks, args.time_limit, args.report, args.json)


class Check(NamedTuple):
    """A system, the precision of its training, and the devices as ``--ctx`` names them."""

    system: str
    precision: str
    device: str


def run_checks(checks: Sequence[Check], seconds: float, report: Optional[Path] = None,
               as_json: bool = False) -> int:
    """Run checks, each for at most ``seconds``, and print their results; 0 if all pass, else 1.

    ``report`` is a JSON file to write; it also holds the facts about this machine.
    """
    results = []
    for check in checks:
        result = run_check(check, seconds)
        results.append(result)
        print(line(result), file=sys.stderr if as_json else sys.stdout, flush=True)
    passed = all(result['passed'] for result in results)
    text = json.dumps({'adaptis': adaptis.__version__, 'passed': passed, 'limits': LIMITS,
                       'machine': dataclasses.asdict(machine.inspect()), 'checks': results},
                      indent=2)
    if report is not None:
        with atomic_write(report) as temporary:
            temporary.write_text(text + '\n', encoding='utf-8')
    print(text if as_json else _summary(results, report))
    return int(not passed)


def plan(devices: Sequence[str], systems: Sequence[str],
         precisions: Sequence[str] = tuple(LIMITS)) -> list[Check]:
    """Return the checks: each system in each precision on one device, and on two if available."""
    checks = [Check(system, precision, devices[0]) for system in systems
              for precision in precisions]
    if len(devices) > 1 and 'float32' in precisions:
        kind = devices[0].partition(':')[0]
        both = f'{kind}:' + ','.join(name.partition(':')[2] for name in devices[:2])
        checks += [Check(system, 'float32', both) for system in systems]
    return checks


def run_check(check: Check, seconds: float) -> dict[str, Any]:
    """Return the result of a check as ``child`` prints it, or the reason why there is none."""
    began = time.monotonic()
    result: dict[str, Any] = {**check._asdict(), 'passed': False}
    try:
        done = subprocess.run([sys.executable, '-c', _CHILD], input=json.dumps(check._asdict()),
                              capture_output=True, text=True, timeout=seconds, check=False,
                              env={**os.environ, **_ENVIRONMENT})
    except subprocess.TimeoutExpired:
        return {**result, 'problem': f'it did not finish within {seconds:g} seconds'}
    lines = [text for text in done.stdout.splitlines() if text.startswith('{')]
    if lines:
        result.update(json.loads(lines[-1]))
    else:
        result['problem'] = _crash(done)
    if result.get('problem'):
        result['log'] = done.stderr[-4000:]
    return {**result, 'seconds': round(time.monotonic() - began, 1)}


def line(result: dict[str, Any]) -> str:
    """Return a result as one line."""
    name = f'{result["system"]}, {result["precision"]}, {result["device"]}: '
    if 'problem' in result:
        return f'{name}FAILED: {result["problem"]}'
    errors = ', '.join(f'{kind} {value:.1e}' for kind, value in result['errors'].items())
    memory = f', {result["memory_mib"]} MiB' if result.get('memory_mib') is not None else ''
    return (f'{name}{"ok" if result["passed"] else "FAILED"} (errors: {errors}; a step '
            f'{result["step_seconds"]:.2f} s{memory})')


def child() -> None:
    """Do the check on stdin and print its result as one JSON line."""
    check = Check(**json.load(sys.stdin))
    try:
        result = compare(check)
    except Exception as error:   # the report covers every failure
        traceback.print_exc()
        result = {'passed': False, 'problem': explain_device_error(error) or _last_line(error)}
    print(json.dumps(result), flush=True)


def compare(check: Check) -> dict[str, Any]:
    """Train and predict on the device and on the CPU, and compare."""
    from adaptis.engine import device_check as tools  # loads MXNet
    from adaptis.engine.precision import enable_mixed_precision  # loads MXNet
    from adaptis.runtime import get_contexts, mx  # loads MXNet
    contexts = get_contexts(check.device)
    model, options = SYSTEMS[check.system]
    family = find_family(model['name'])
    arguments = set_norm_devices({**family.class_counts(tools.TAXONOMY), **model}, len(contexts))
    # MXNet numbers the contexts of the CPU, too; the reference must use others.
    reference = tools.Side(family, arguments, [mx.cpu(100 + i) for i in range(len(contexts))],
                           False, options)
    weights, expected = [reference.weights()], []
    for step in range(2):
        expected.append(reference.train(step))
        weights.append(reference.weights())
    if check.precision == 'amp':
        enable_mixed_precision(contexts)
    side = tools.Side(family, arguments, contexts, True, options, weights[0])
    found, updates = [], []
    for step in range(2):
        # Start from the weights of the reference, because training amplifies small differences.
        side.set_weights(weights[step])
        found.append(side.train(step))
        updates.append(tools.update_error(side.weights(), weights[step + 1], weights[step]))
    errors, details = _training_errors(tools, check, found, expected)
    if check.precision == 'float32':
        errors['weights'] = max(updates)
    if check.precision == 'float32' and len(contexts) == 1:
        errors.update(_inference_errors(tools, side, reference))
    limits = LIMITS[check.precision]
    finite = all(tools.np.isfinite(g).all() for each in found for g in each.gradients.values())
    return {'passed': finite and all(errors[kind] <= limits[kind] for kind in errors),
            'errors': errors, **details, 'step_seconds': round(found[1].seconds, 3),
            'losses': [each.losses for each in found],
            'expected_losses': [each.losses for each in expected],
            'memory_mib': _memory(mx, contexts[0])}


def _training_errors(tools: Any, check: Check, found: Sequence[Any],
                     expected: Sequence[Any]) -> tuple[dict[str, float], dict[str, Any]]:
    gradients, names = zip(*map(tools.gradient_error, found, expected))
    if check.precision == 'amp':
        # Rounding changes which proposals and positives are chosen, and so every loss and gradient.
        errors = {'total': max(map(tools.total_error, found, expected))}
    else:
        errors = {'losses': max(map(tools.loss_error, found, expected)),
                  'gradients': max(gradients)}
    return errors, {'gradient_errors': dict(zip(names, gradients))}


def _inference_errors(tools: Any, side: Any, reference: Any) -> dict[str, float]:
    side.set_weights(reference.weights())
    maps, pixels = [], []
    for size in tools.PREDICTED_SIZES:
        maps.append(tools.map_error(side.maps(size), reference.maps(size)))
        pixels.append(float((side.predict(size) != reference.predict(size)).any(axis=0).mean()))
    return {'maps': max(maps), 'pixels': max(pixels)}


def _memory(mx: Any, context: Any) -> Optional[int]:
    """Return the MiB in use on a GPU; MXNet keeps what it once allocated, so this is the peak."""
    if context.device_type != 'gpu':
        return None
    free, total = mx.context.gpu_memory_info(context.device_id)
    return (total - free) // 2 ** 20


def _devices(device: Optional[str]) -> list[str]:
    """Return the names of the devices; AdaptisError if there is no GPU, or they cannot be used."""
    if device is not None:
        from adaptis.runtime import get_contexts  # loads MXNet
        return [f'{found.device_type}:{found.device_id}' for found in get_contexts(device)]
    cuda = machine.query_cuda()
    if not cuda.usable or not machine.cuda_build():
        raise AdaptisError(
            f'{_why_none(cuda)}, so there is nothing to check; "adaptis doctor --gpu --device '
            'cpu:1" runs the same checks on the CPU under another name.')
    return [f'gpu:{gpu.index}' for gpu in cuda.usable]


def _why_none(cuda: machine.Cuda) -> str:
    if not cuda.gpus:
        return 'This machine has no NVIDIA GPU'
    if not machine.cuda_build():
        return 'The installed MXNet computes on the CPU only'
    return 'MXNet supports none of the GPUs here'


def _summary(results: Sequence[dict[str, Any]], report: Optional[Path]) -> str:
    failed = sum(not result['passed'] for result in results)
    found = (f'All {len(results)} checks passed.' if not failed else
             f'{failed} of {len(results)} checks FAILED: attach the report to an issue.')
    return found + (f'  The report: {report}' if report is not None else '')


def _crash(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f'the process ended with {signal.Signals(-done.returncode).name}'
    return (done.stderr.strip().splitlines() or ['no message'])[-1]


def _last_line(error: BaseException) -> str:
    """Return the last line of an error, because MXNet's errors begin with a C++ stack trace."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1][:300]
