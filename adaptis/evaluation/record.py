"""Records of measured runs: the results, and the settings, code and hardware behind them.

One JSON file per run in ``experiments/results``::

    format      1
    paper, table, row
                which row of which published table it measures (``experiments/published``)
    label       the name of the run, for example that of its config
    metrics     nested numbers in [0, 1] from ``Evaluator.result``; null = not defined.  Older
                records lack metrics that were added later.  Keys, each where it applies:
                  images, objects         number of images; objects found, missed, false
                  pq, per_class           panoptic quality; values for each class
                  ap, ap_by_class         AP of masks, all detections, without and with classes
                  ap_coco, ap_box         COCO's AP and AR (small, medium, large; 1, 10, 100) of
                                          masks and of boxes, for the objects of a detector
                  ap_cityscapes, iiou     as the Cityscapes benchmark defines them
                  miou                    IoU of the semantic branch, if there is one, else of the
                                          segments: mean, stuff, things, fiou, fiou_stuff, and
                                          confusion of stuff and things
                  miou_panoptic           the same for the segments, if there is a semantic branch
    speed       seconds_per_image, images_per_second and device, for network and postprocessing,
                if one process measured; otherwise null, and missing in older records
    settings    everything the result depends on: data, split, limit, checkpoint, thresholds
    reduced     whether the setting is smaller than the paper's (fewer images, steps, channels) note
    only if defaults have changed since: the former defaults commit, versions, hardware, date,
    seconds
"""
from __future__ import annotations

import datetime
import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from adaptis.errors import AdaptisError
from adaptis.files import PathLike, atomic_write, read_json
from adaptis.machine import cuda_build, installed, query_cuda

FORMAT = 1
PACKAGES = ('mxnet', 'gluoncv', 'numpy', 'opencv-python', 'opencv-python-headless', 'pycocotools')
ROOT = Path(__file__).resolve().parents[2]


def make_record(metrics: Mapping[str, Any], settings: Mapping[str, Any], *, label: str,
                table: Optional[str] = None, row: Optional[str] = None, paper: str = 'adaptis',
                reduced: bool = False, seconds: Optional[float] = None,
                speed: Optional[Mapping[str, Any]] = None) -> dict[str, Any]:
    """Return a record of a run that ends now, with facts about this machine."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {'format': FORMAT, 'paper': paper, 'table': table, 'row': row, 'label': label,
            'reduced': reduced, 'metrics': dict(metrics), 'speed': speed,
            'settings': dict(settings),
            **provenance(), 'date': now.isoformat(timespec='seconds'), 'seconds': seconds}


def provenance() -> dict[str, Any]:
    """Return commit, versions and hardware of this process."""
    return {'commit': _commit(), 'versions': _versions(),
            'hardware': {'cpu': _cpu_model(), 'cores': os.cpu_count(),
                         'memory_gib': _memory_gib(), 'machine': platform.machine()}}


def device_name(ctx: str) -> str:
    """Return the name of the GPU for ``auto``, ``gpu`` or ``gpu:0``, or of the CPU."""
    gpus = query_cuda().usable if not ctx.startswith('cpu') and cuda_build() else ()
    number = ctx.partition(':')[2]
    names = [gpu.name for gpu in gpus if not number or str(gpu.index) == number]
    return names[0] if names else _cpu_model()


def write_record(path: PathLike, record: Mapping[str, Any]) -> None:
    """Write a record; NaN becomes null, because JSON has no NaN."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(_plain(record), indent=1, allow_nan=False) + '\n',
                             encoding='utf-8')


def read_records(folder: PathLike) -> list[dict[str, Any]]:
    """Return the records of a folder, oldest first; a missing folder has none.

    Raises AdaptisError for a file that is not a record.
    """
    records = [read_record(path) for path in sorted(Path(folder).glob('*.json'))]
    return sorted(records, key=lambda r: str(r.get('date')))


def read_record(path: PathLike) -> dict[str, Any]:
    """Return a record, with the name of its file; AdaptisError if the file is not a record."""
    path = Path(path)
    record = read_json(path)
    if not isinstance(record, dict) or record.get('format') != FORMAT \
            or not isinstance(record.get('metrics'), dict):
        raise AdaptisError(f'{path} is not a record of a run (format {FORMAT}): '
                           'move it elsewhere or run it again.')
    return {**record, 'file': path.name}


def file_facts(path: PathLike) -> dict[str, str]:
    """Return the name and the digest of a file, which identify the measured weights in a record.

    Raises AdaptisError if it cannot be read.
    """
    return {'file': Path(path).name, 'sha256': sha256(path)}


def sha256(path: PathLike) -> str:
    """Return the digest of a file; AdaptisError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, 'rb') as stream:
            for block in iter(lambda: stream.read(1 << 20), b''):
                digest.update(block)
    except OSError as error:
        raise AdaptisError(f'{path} cannot be read: {error.strerror}.') from error
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """Return a value with only the types of JSON."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, 'item'):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def short_commit(commit: Any, digits: int = 8) -> str:
    """Shorten a record's commit; the '+' of changed files stays, and None is 'unknown'."""
    text = 'unknown' if commit is None else str(commit)
    return text[:digits] + ('+' if text.endswith('+') else '')


def _commit() -> Optional[str]:
    """Return the commit of the source, with '+' appended if tracked files differ from it."""
    def git(*arguments: str) -> str:
        return subprocess.run(['git', '-C', str(ROOT), *arguments], capture_output=True,
                              text=True, check=True).stdout.strip()
    try:
        if Path(git('rev-parse', '--show-toplevel')).resolve() != ROOT:
            return None
        return git('rev-parse', 'HEAD') + ('+' if git('status', '--porcelain', '-uno') else '')
    except (OSError, subprocess.CalledProcessError):
        return None


def _versions() -> dict[str, str]:
    return {'python': platform.python_version(), **installed(PACKAGES)}


def _cpu_model() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
        return next(line.split(':', 1)[1].strip() for line in lines
                    if line.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or 'unknown'


def _memory_gib() -> Optional[float]:
    try:
        return round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2 ** 30, 1)
    except (OSError, ValueError):
        return None
