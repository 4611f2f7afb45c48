"""Open damaged inputs in a process with limited memory, and report how each one ended.

    python -m tests.fuzz.worker FOLDER SEED COUNT FORMAT[:FIRST] ...

opens inputs FIRST (default 0) to COUNT - 1 of each format.  Line by line on stdout:
``{"start": [FORMAT, i]}``, then ``{"end": [FORMAT, i], "how": ..., "what": ...}`` where ``how`` is
``result``, ``refused`` or ``failed``.  A process that dies has not told the end of an input.
"""
from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import traceback
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.formats import FORMATS, Format, check_sentence

MEMORY = 3 * 2 ** 30
"""Bytes that an input may use beyond what the libraries have when all are loaded."""


class TookTooLong(BaseException):
    """Not an Exception: nothing that handles errors may swallow it."""


def main(arguments: list[str]) -> int:
    """Open the inputs; return 0."""
    folder, seed, count, *tasks = arguments
    report = os.fdopen(os.dup(1), 'w')       # what the libraries print is not for the report
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGPROF, _too_long)
    warnings.simplefilter('ignore')
    firsts = {name: int(first or 0) for name, _, first in (task.partition(':') for task in tasks)}
    for name in firsts:
        _open_good_ones(FORMATS[name], Path(folder) / name)
    used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY,) * 2)
    for name, first in firsts.items():
        for index in range(first, int(count)):
            print(json.dumps({'start': [name, index]}), file=report, flush=True)
            how, what = _try(FORMATS[name], Path(folder) / name,
                             (int(seed), zlib.crc32(name.encode()), index))
            print(json.dumps({'end': [name, index], 'how': how, 'what': what}), file=report,
                  flush=True)
    return 0


def _open_good_ones(kind: Format, place: Path) -> None:
    """Write the good inputs of a format and open them, which also loads the libraries."""
    if not (place / 'good').is_dir():
        kind.write(place / 'writing')
        os.replace(place / 'writing', place / 'good')
    for path in sorted((place / 'good').iterdir()):
        kind.open(_copy(path, place / 'work'))


def make_input(kind: Format, good: Path, target: Path, seed: Any) -> None:
    """Write the damaged input of a seed into the folder ``target``."""
    rng = np.random.default_rng(seed)
    sources = sorted(good.iterdir())
    _copy(sources[int(rng.integers(len(sources)))], target)
    choices = [(sorted(target.glob(pattern)), damage) for pattern, damage in kind.damaged]
    choices = [(files, damage) for files, damage in choices if files]
    files, damage = choices[int(rng.integers(len(choices)))]
    path = files[int(rng.integers(len(files)))]
    path.write_bytes(damage(path.read_bytes(), rng))
    if rng.random() < 0.5:
        kind.after(target)


def _try(kind: Format, place: Path, seed: Any) -> tuple[str, str]:
    from adaptis.errors import AdaptisError
    work = place / 'work'
    make_input(kind, place / 'good', work, seed)
    before = _digests(work)
    signal.setitimer(signal.ITIMER_PROF, kind.seconds)
    try:
        kind.open(work)
        how, what = 'result', ''
    except AdaptisError as error:
        how, what = _judge(error)
    except TookTooLong:
        where = traceback.format_exc()[-1500:]
        return 'failed', f'took more than {kind.seconds} CPU seconds\n{where}'
    except BaseException:
        return 'failed', traceback.format_exc()[-3000:]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    for path in work.glob('converted.*'):    # an output
        path.unlink()
    after = _digests(work)
    if after != before:
        return 'failed', f'changed files: {sorted(set(after.items()) ^ set(before.items()))[:4]}'
    return how, what


def _judge(error: Exception) -> tuple[str, str]:
    try:
        check_sentence(error)
    except (AssertionError, UnicodeError) as wrong:
        return 'failed', str(wrong).encode('ascii', 'backslashreplace').decode()
    return 'refused', str(error)[:200]


def _copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def _digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob('*')) if path.is_file()}


def _too_long(number: int, frame: Any) -> None:
    raise TookTooLong


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
