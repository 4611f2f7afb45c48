"""Find out which oneDNN kernels a variant uses, from oneDNN's log."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Optional

from adaptis.errors import AdaptisError
from experiments.benchmarks.comparison import Setting, build
from experiments.benchmarks.subjects import comparisons

VERBOSE = {'DNNL_VERBOSE': '1', 'MKLDNN_VERBOSE': '1'}   # by the version of oneDNN
LISTED = 3
"""Number of kernels that are listed per variant."""

_MARK = '@@'
_PREFIXES = ('dnnl_verbose', 'mkldnn_verbose')
_CHILD = 'from experiments.benchmarks.kernels import child; child()'

Log = dict[str, Any]


def read_log(lines: Iterable[str]) -> tuple[dict[str, str], dict[tuple[str, str], Log]]:
    """Return oneDNN's facts about the CPU, and the kernels of each marked part of the log.

    Facts: 'oneDNN' and 'isa'.  A part is named after its comparison and its variant.  It has the
    'seconds' within oneDNN, and 'kernels' by primitive and implementation, each with its share of
    these seconds and its number of calls, the largest share first.
    """
    facts: dict[str, str] = {}
    seconds: dict[tuple[str, str], dict[str, list[float]]] = {}
    part: Optional[tuple[str, str]] = None
    for line in lines:
        if line.startswith(_MARK):
            part = None
            if '|' in line:
                name, _, form = line[len(_MARK):].strip().partition('|')
                part = name, form
                seconds[part] = defaultdict(list)
            continue
        fields = line.strip().split(',')
        if fields[0] not in _PREFIXES or len(fields) < 3:
            continue
        if fields[1] == 'info':
            facts.update(_fact(fields))
        elif fields[1] == 'exec' and part is not None and len(fields) > 5:
            seconds[part][f'{fields[3]} {fields[4]}'].append(float(fields[-1]) / 1e3)
    return facts, {part: _shares(kernels) for part, kernels in seconds.items()}


def look(names: Sequence[str],
         quick: bool) -> tuple[dict[str, str], dict[tuple[str, str], Log]]:
    """Run the named comparisons again, in a process with oneDNN's log enabled.

    Returns the result of ``read_log``.  Logging takes time itself, so nothing else is measured in
    that process.  Raises AdaptisError if it fails.
    """
    task = json.dumps({'names': list(names), 'quick': quick})
    done = subprocess.run([sys.executable, '-c', _CHILD], input=task, capture_output=True,
                          text=True, errors='replace', check=False,
                          env={**os.environ, **VERBOSE})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ['no message'])[-1]
        raise AdaptisError(f'The kernels cannot be looked up ({last}).')
    return read_log(done.stdout.splitlines())


def child() -> None:
    """Run what ``look`` requests on stdin."""
    task = json.load(sys.stdin)
    for comparison in comparisons(task['names']):
        for name, form in build(comparison, Setting(task['quick']))[0].items():
            _call(form)
            print(f'{_MARK} {comparison.name}|{name}', flush=True)
            _call(form)
            print(_MARK, flush=True)


def describe(log: Log, count: int = LISTED) -> str:
    """Return the kernels with the largest shares, in one line."""
    kernels = list(log['kernels'].items())
    named = [f'{name} {kernel["share"]:.0%}' for name, kernel in kernels[:count]]
    rest = sum(kernel['share'] for _, kernel in kernels[count:])
    return '; '.join(named + ([f'others {rest:.0%}'] if rest else [])) or 'none of oneDNN'


def _call(form: Any) -> None:
    from adaptis.runtime import mx  # loads MXNet
    form()
    mx.nd.waitall()


def _fact(fields: list[str]) -> dict[str, str]:
    if fields[2].startswith('oneDNN '):
        return {'oneDNN': fields[2].split()[1]}
    if fields[2] == 'cpu' and len(fields) > 3 and fields[3].startswith('isa:'):
        return {'isa': fields[3][len('isa:'):]}
    return {}


def _shares(kernels: dict[str, list[float]]) -> Log:
    whole = sum(map(sum, kernels.values()))
    found = sorted(kernels.items(), key=lambda item: -sum(item[1]))
    return {'seconds': whole, 'kernels': {
        name: {'share': sum(times) / whole if whole else 0.0, 'calls': len(times)}
        for name, times in found}}
