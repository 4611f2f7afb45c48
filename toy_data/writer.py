"""Writes toy data sets to disk: in parallel, resumable, never half a file."""
from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, Mapping, Optional, Union

import cv2
import numpy as np

from toy_data.settings import ToySettings, render

PathLike = Union[str, 'os.PathLike[str]']
Progress = Callable[[str, int, int], None]
MANIFEST = 'toy.json'
_PNG_END = b'IEND\xaeB`\x82'
_CHUNK = 16


def generate(settings: ToySettings, folder: PathLike, counts: Mapping[str, int], workers: int = 1,
             progress: Optional[Progress] = None) -> int:
    """Write ``counts[split]`` images of every split below ``folder``.

    The layout is that of the authors: ``<split>/NNNNN_rgb.png`` and
    ``<split>/NNNNN_im.png`` (16-bit ids, 0 = none), with the settings in
    ``toy.json``.  Complete images that are there already are kept, so an
    interrupted call is resumed by repeating it, and more images are added by
    asking for more.  With several ``workers``, processes are started by
    ``spawn``: a script that calls this needs the usual
    ``if __name__ == '__main__'``.

    Parameters
    ----------
    progress
        Called as ``progress(split, done, total)`` now and then.

    Returns the number of images written (not those kept).

    Raises
    ------
    ValueError
        If the folder holds anything else or cannot be written, the disk is
        full, the objects do not fit, or one of the processes was killed.
    """
    folder = Path(folder)
    for split, count in counts.items():
        if count < 1:
            raise ValueError(f'{count} images of the split {split!r} were asked for: '
                             'give at least 1.')
    _claim(folder, settings, counts)
    return sum(_generate_split(settings, folder / split, count, workers, progress)
               for split, count in counts.items())


def image_path(folder: Path, index: int) -> Path:
    """Where image ``index`` of a split's folder lies."""
    return folder / f'{index:05d}_rgb.png'


def ids_path(folder: Path, index: int) -> Path:
    """Where the 16-bit ids of image ``index`` lie."""
    return folder / f'{index:05d}_im.png'


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file or nothing; ValueError if it cannot be written."""
    temporary = path.with_name(f'.{path.name}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ValueError(f'{path} cannot be written: {error.strerror or error}.') from error


def encode_png(image: np.ndarray, level: Optional[int] = None) -> bytes:
    """PNG bytes of an RGB (H, W, 3) image or a mask (H, W); ``level`` 0 .. 9, None = fast."""
    if image.ndim == 3:
        image = np.ascontiguousarray(image[:, :, ::-1])
    options = [] if level is None else [cv2.IMWRITE_PNG_COMPRESSION, level]
    done, data = cv2.imencode('.png', image, options)
    if not done:
        raise ValueError(f'An image of shape {image.shape} could not be encoded as PNG.')
    return data.tobytes()


def _claim(folder: Path, settings: ToySettings, counts: Mapping[str, int]) -> None:
    """Refuse a folder that holds anything else, then write or extend its manifest."""
    known = _read_manifest(folder)
    wanted = settings.as_dict()
    splits: Dict[str, int] = {}
    if known is not None and any(folder.glob('*/*.png')):
        _refuse_other(folder, known['settings'], wanted)
        splits = known['splits']
    splits = {**splits, **{s: max(n, splits.get(s, 0)) for s, n in counts.items()}}
    manifest = {'format': 'toy_data', 'settings': wanted, 'splits': splits}
    if manifest != known:
        write_file(folder / MANIFEST, (json.dumps(manifest, indent=2) + '\n').encode())


def _refuse_other(folder: Path, known: Mapping, wanted: Mapping) -> None:
    for key, value in wanted.items():
        if known.get(key) != value:
            raise ValueError(f'{folder} was generated with {key} = {known.get(key)}, not {value}: '
                             'choose another folder, or delete it first.')


def _read_manifest(folder: Path) -> Optional[Dict]:
    """The manifest, or None for a folder that is new or empty."""
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
        raise ValueError(f'{folder} holds something else than generated data: '
                         'choose another folder.')
    return None


def _generate_split(settings: ToySettings, folder: Path, count: int, workers: int,
                    progress: Optional[Progress]) -> int:
    missing = [i for i in range(count)
               if not (_complete(image_path(folder, i)) and _complete(ids_path(folder, i)))]
    done = count - len(missing)
    if progress is not None:
        progress(folder.name, done, count)
    for _ in _run(partial(_write_one, settings, folder), missing, workers):
        done += 1
        if progress is not None:
            progress(folder.name, done, count)
    return len(missing)


def _run(task: Callable[[int], int], indices: Iterable[int], workers: int) -> Iterator[int]:
    indices = list(indices)
    workers = min(workers, (len(indices) + _CHUNK - 1) // _CHUNK)
    if workers <= 1:
        yield from map(task, indices)
        return
    # Not a Pool, which waits for ever for a process that was killed.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'),
                               initializer=_leave_interrupts_to_parent)
    try:
        yield from pool.map(task, indices, chunksize=_CHUNK)
    except BrokenProcessPool as error:
        raise ValueError('One of the processes that draw was killed (is memory short?): repeat '
                         'the command, it keeps what is done; perhaps with fewer workers.'
                         ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_one(settings: ToySettings, folder: Path, index: int) -> int:
    image, ids = render(settings, folder.name, index)
    write_file(image_path(folder, index), encode_png(image))
    write_file(ids_path(folder, index), encode_png(ids))
    return index


def _complete(path: Path) -> bool:
    try:
        with open(path, 'rb') as stream:
            stream.seek(-len(_PNG_END), os.SEEK_END)
            return stream.read() == _PNG_END
    except OSError:
        return False
