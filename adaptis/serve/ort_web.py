"""ONNX Runtime for browsers: two files of a fixed version of npm's ``onnxruntime-web``."""
from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Optional

from adaptis.errors import AdaptisError
from adaptis.files import PathLike

VERSION = '1.27.0'
PACKAGE = f'onnxruntime-web@{VERSION}'
FILES = {
    'ort.wasm.bundle.min.mjs': '1db5e1c5cd2b860eed85e6eeff23e2aaa7cffcc407f67093bcc888f631b94ba9',
    'ort-wasm-simd-threaded.wasm':
        'd1ab1b94b16a65b29d710d0b587b29e7bed336827577623913479b8afe8113e6',
}
"""Names and SHA-256 digests of the files."""

_TIMEOUT = 300   # seconds for npm; the package has 30 MB
_BY_HAND = (f'or run "npm pack {PACKAGE}" on another machine and pass the resulting file with '
            '--ort-web.')


def read_ort_web(source: Optional[PathLike] = None) -> dict[str, bytes]:
    """Return the content of the two files by name.

    ``source`` is a folder with the files (``node_modules/onnxruntime-web``, for instance) or the
    ``.tgz`` that ``npm pack`` writes; by default, npm downloads it.
    Raises AdaptisError if npm is missing or fails, or a file is missing or of another version.
    """
    if source is None:
        with tempfile.TemporaryDirectory() as folder:
            return _checked(_read_archive(_npm_pack(Path(folder))), PACKAGE)
    source = Path(source)
    return _checked(_read_folder(source) if source.is_dir() else _read_archive(source), source)


def _npm_pack(folder: Path) -> Path:
    """Download the package to a folder with npm; return the path of the archive."""
    npm = shutil.which('npm')
    if npm is None:
        raise AdaptisError(f'npm, which downloads {PACKAGE}, is not installed: install Node.js, '
                           f'{_BY_HAND}')
    try:
        done = subprocess.run([npm, 'pack', PACKAGE, '--silent'], cwd=folder, capture_output=True,
                              text=True, timeout=_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise AdaptisError(f'npm did not download {PACKAGE} within {_TIMEOUT} seconds: try again, '
                           f'{_BY_HAND}') from error
    archives = list(folder.glob('*.tgz'))
    if done.returncode or len(archives) != 1:
        told = (done.stderr.strip().splitlines() or [f'status {done.returncode}'])[0][:200]
        raise AdaptisError(f'npm could not download {PACKAGE} ({told}): try again, {_BY_HAND}')
    return archives[0]


def _read_folder(folder: Path) -> dict[str, bytes]:
    places = [folder, folder / 'dist', folder / 'package' / 'dist',
              folder / 'node_modules' / 'onnxruntime-web' / 'dist']
    return {name: place.joinpath(name).read_bytes() for name in FILES for place in places[::-1]
            if (place / name).is_file()}


def _read_archive(path: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for name in FILES:
                stream = archive.extractfile(f'package/dist/{name}')
                found[name] = stream.read() if stream else b''
    except KeyError:
        return found   # the check of the files reports which one is missing
    except OSError as error:
        reason = error.strerror or 'it is not an archive written by "npm pack"'
        raise AdaptisError(f'{path} cannot be read: {reason}.') from error
    except (tarfile.TarError, EOFError) as error:
        raise AdaptisError(f'{path} cannot be read: it is not an archive written by "npm pack", or '
                           'it is cut short.') from error
    return found


def _checked(found: dict[str, bytes], where: PathLike) -> dict[str, bytes]:
    for name, digest in FILES.items():
        if name not in found:
            raise AdaptisError(f'{where} has no {name}: give the npm package {PACKAGE}.')
        if hashlib.sha256(found[name]).hexdigest() != digest:
            raise AdaptisError(f'{where} has a different {name} than {PACKAGE}: download that '
                               'version.')
    return found
