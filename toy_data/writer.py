"""Write toy data sets to disk: in parallel, resumable, and never half a file."""
from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional, Union

from .files import write_file
from .layouts import LAYOUTS
from .settings import ToySettings, render
from .spawn import spawn_context

PathLike = Union[str, 'os.PathLike[str]']
Progress = Callable[[str, int, int], None]
MANIFEST = 'toy.json'
_PNG_END = b'IEND\xaeB`\x82'
_CHUNK = 16


def generate(settings: ToySettings, folder: PathLike, counts: Mapping[str, int], workers: int = 1,
             progress: Optional[Progress] = None, layout: Optional[str] = None) -> int:
    """Write ``counts[split]`` images of every split below ``folder``, and a manifest ``toy.json``.

    The layout of V1 and V2 is that of the authors: ``<split>/NNNNN_rgb.png`` and
    ``<split>/NNNNN_im.png`` (16-bit ids, 0 = none).  Street scenes are written in COCO panoptic
    format or in Cityscapes' folders (see ``layouts``).  Complete images that exist already are
    kept.  So you resume an interrupted call by repeating it, and add images by asking for more.

    Parameters
    ----------
    progress
        Called as ``progress(split, done, total)`` from time to time.
    layout
        One of ``available_layouts(settings.version)``, by default the first.

    Returns the number of images written (not those kept).

    Raises
    ------
    ValueError
        If the folder holds anything else or cannot be written, the disk is full, the objects do
        not fit, or one of the processes was killed.
    """
    folder = Path(folder)
    layout = choose_layout(settings.version, layout)
    for split, count in counts.items():
        if count < 1:
            raise ValueError(f'{count} images of the split {split!r} were asked for: '
                             'give at least 1.')
    _claim(folder, {**settings.as_dict(), 'layout': layout}, counts)
    return sum(_generate_split(settings, folder, split, layout, count, workers, progress)
               for split, count in counts.items())


def available_layouts(version: str) -> tuple[str, ...]:
    """Return the layouts in which a data set can be written, the default first."""
    return ('coco', 'cityscapes') if version == 'street' else ('toy',)


def choose_layout(version: str, layout: Optional[str] = None) -> str:
    """Return ``layout``, or the default; ValueError if the data set cannot be written in it."""
    known = available_layouts(version)
    if layout not in (None, *known):
        raise ValueError(f'{version} cannot be written in the layout {layout!r}, only in '
                         f'{" or ".join(known)}.')
    return layout or known[0]


def _claim(folder: Path, wanted: Mapping[str, Any], counts: Mapping[str, int]) -> None:
    """Refuse a folder that holds anything else, then write or extend its manifest."""
    known = _read_manifest(folder)
    splits: dict[str, int] = {}
    if known is not None and next(folder.rglob('*.png'), None):
        _refuse_other(folder, known['settings'], wanted)
        splits = known['splits']
    splits = {**splits, **{s: max(n, splits.get(s, 0)) for s, n in counts.items()}}
    manifest = {'format': 'toy_data', 'settings': wanted, 'splits': splits}
    if manifest != known:
        write_file(folder / MANIFEST, (json.dumps(manifest, indent=2) + '\n').encode())


def _refuse_other(folder: Path, known: Mapping, wanted: Mapping) -> None:
    known = {'layout': 'toy', **known}   # older manifests do not have the layout
    for key, value in wanted.items():
        if known.get(key) != value:
            raise ValueError(f'{folder} was generated with {key} = {known.get(key)}, not {value}: '
                             'choose another folder, or delete it first.')


def _read_manifest(folder: Path) -> Optional[dict]:
    """Return the manifest, or None for a folder that is new or empty."""
    try:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f'{folder} is a file: choose a folder.')
        names = [p.name for p in folder.iterdir()] if folder.exists() else []
        if MANIFEST in names:
            known = json.loads((folder / MANIFEST).read_text())
            if (isinstance(known, dict) and isinstance(known.get('settings'), dict)
                    and isinstance(known.get('splits'), dict)):
                return known
            raise ValueError(f'{folder / MANIFEST} is not a manifest of generated data.')
    except json.JSONDecodeError as error:
        raise ValueError(f'{folder / MANIFEST} cannot be read as JSON ({error}): '
                         'delete the folder.') from error
    except OSError as error:
        raise ValueError(f'{folder} cannot be read: {error.strerror}.') from error
    if [name for name in names if name != f'.{MANIFEST}.part']:
        raise ValueError(f'{folder} holds something other than generated data: '
                         'choose another folder.')
    return None


def _generate_split(settings: ToySettings, folder: Path, split: str, layout: str, count: int,
                    workers: int, progress: Optional[Progress]) -> int:
    paths, finish = LAYOUTS[layout].paths, LAYOUTS[layout].finish
    missing = [i for i in range(count)
               if not all(_complete(folder / path) for path in paths(split, i))]
    done = count - len(missing)
    if progress is not None:
        progress(split, done, count)
    for _ in _run(partial(_write_one, settings, folder, split, layout), missing, workers):
        done += 1
        if progress is not None:
            progress(split, done, count)
    if finish is not None:
        finish(folder, split, count, changed=bool(missing))
    return len(missing)


def _run(task: Callable[[int], int], indices: Iterable[int], workers: int) -> Iterator[int]:
    indices = list(indices)
    workers = min(workers, (len(indices) + _CHUNK - 1) // _CHUNK)
    if workers <= 1:
        yield from map(task, indices)
        return
    # A multiprocessing.Pool would wait forever for a process that was killed.
    pool = ProcessPoolExecutor(workers, spawn_context(),
                               initializer=_leave_interrupts_to_parent)
    try:
        yield from pool.map(task, indices, chunksize=_CHUNK)
    except BrokenProcessPool as error:
        raise ValueError('A worker process was killed (is there too little memory?): repeat the '
                         'command, which keeps what is done, perhaps with fewer workers.'
                         ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_one(settings: ToySettings, folder: Path, split: str, layout: str, index: int) -> int:
    paths, encode, _ = LAYOUTS[layout]
    for path, data in zip(paths(split, index), encode(*render(settings, split, index))):
        write_file(folder / path, data)
    return index


def _complete(path: Path) -> bool:
    try:
        with open(path, 'rb') as stream:
            stream.seek(-len(_PNG_END), os.SEEK_END)
            return stream.read() == _PNG_END
    except OSError:
        return False
