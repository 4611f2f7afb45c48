"""Read images and id masks; write files atomically."""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Union

import cv2
import numpy as np

from adaptis.errors import AdaptisError
from adaptis.temporary import make_temporary_file, make_temporary_folder

PathLike = Union[str, 'os.PathLike[str]']
IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')
MAX_PIXELS = 100_000_000


@contextlib.contextmanager
def atomic_write(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` if the block succeeds.

    The temporary file lies in the same folder and has the same suffix, because encoders choose
    the format by the suffix.  If the block raises, ``path`` does not change.  If the process is
    killed, the next one that writes into the folder removes the temporary file.

    Raises
    ------
    AdaptisError
        If the folder cannot be written or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = make_temporary_file(path.parent, path.suffix)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield temporary
        _sync(temporary)
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def atomic_folder(path: PathLike, replaceable: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield a temporary folder that replaces the folder ``path`` if the block succeeds.

    If the block or the exchange fails, ``path`` does not change.  A folder that exists already must
    be empty, or ``replaceable(path)`` must be true; it is then removed.

    Raises
    ------
    AdaptisError
        If ``path`` may not be replaced, or the folder cannot be written.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and (replaceable(path) or not any(path.iterdir()))):
        raise AdaptisError(f'{path} exists already and would be overwritten: choose another '
                           'folder.')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = make_temporary_folder(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    new, old = temporary / 'new', temporary / 'old'
    try:
        new.mkdir()
        yield new
        if path.exists():
            path.rename(old)
        new.rename(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        if old.exists() and not path.exists():   # the new folder could not be moved here
            old.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)


def write_image(path: PathLike, image: np.ndarray) -> None:
    """Write an image: RGB ``uint8`` (H, W, 3), or an id mask ``uint8`` or ``uint16`` (H, W).

    Raises AdaptisError if the file cannot be written, TypeError for pixels of another type.
    """
    if image.dtype not in (np.uint8, np.uint16):  # OpenCV would truncate them to 8 bits
        raise TypeError(f'{path}: pixels must be uint8 or uint16, not {image.dtype}')
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(Path(path).suffix, image)
    if not done:
        raise AdaptisError(f'{path} cannot be written: its encoder refused the pixels.')
    with atomic_write(path) as temporary:  # imwrite does not notice a full disk
        temporary.write_bytes(data.tobytes())


def read_image(path: PathLike) -> np.ndarray:
    """Return any image as RGB ``uint8`` (H, W, 3).

    Grey images are repeated, alpha is dropped, and 16 bits are scaled to 8.
    Raises AdaptisError for a file that is missing, empty, truncated, too large, or not an image.
    """
    image = read_pixels(path)
    if image.dtype == np.uint16:
        image = (image / 257.0 + 0.5).astype(np.uint8)
    if image.dtype != np.uint8:
        raise AdaptisError(f'{path} holds {image.dtype} pixels: convert it to 8 or 16 bits.')
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_ids(path: PathLike) -> np.ndarray:
    """Return an id mask with one 8- or 16-bit channel as ``int32`` (H, W); 0 = no object.

    Raises AdaptisError for a file that is missing or truncated, or that holds several channels or
    floating-point values.
    """
    ids = read_pixels(path)
    if ids.ndim != 2:
        raise AdaptisError(
            f'{path} has {ids.shape[2]} channels where an id mask has one: is it a picture?')
    if ids.dtype.kind not in 'iu':
        raise AdaptisError(f'{path} holds {ids.dtype} pixels where an id mask has integers: '
                           'save it with 8 or 16 bits.')
    return ids.astype(np.int32)


def read_pixels(path: PathLike) -> np.ndarray:
    """Return the pixels as they are stored: (H, W), or (H, W, C) in OpenCV's order with C = 3 or 4.

    Raises AdaptisError for a file that is missing, empty, truncated, too large, or not an image.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise AdaptisError(f'{path} cannot be read: {error.strerror}.') from error
    if data.size == 0:
        raise AdaptisError(f'{path} is empty.')
    _refuse_truncated(path, data)
    try:
        with _quiet_opencv():
            image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        if 'CV_IO_MAX_IMAGE' in error.err:  # OpenCV's own limit, before it decodes
            raise AdaptisError(f'{path} has more than {MAX_PIXELS:,} pixels: make it smaller.'
                               ) from error
        raise AdaptisError(f'{path} cannot be decoded: {error.err}.') from error
    if image is None:
        raise AdaptisError(f'{path} is not an image that can be read, or it is cut short.')
    if image.shape[0] * image.shape[1] > MAX_PIXELS:
        raise AdaptisError(f'{path} has {image.shape[0]}x{image.shape[1]} pixels, '
                           f'more than {MAX_PIXELS:,}: make it smaller.')
    return image


class ImageHeader(NamedTuple):
    """The header of an image file; ``size`` is height and width."""

    size: tuple[int, int]
    channels: int


def read_header(path: PathLike) -> ImageHeader:
    """Return the size and the channels of an image without decoding it.

    Raises AdaptisError for a file that is missing, empty, or not an image.
    """
    from PIL import Image  # loads Pillow, which exported networks do without
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)  # nothing is decoded
            with Image.open(path) as image:
                return ImageHeader(image.size[::-1], len(image.getbands()))
    except OSError as error:
        if error.errno is not None:
            raise AdaptisError(f'{path} cannot be read: {error.strerror}.') from error
        raise AdaptisError(f'{path} is not an image that can be read.') from error
    except (SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise AdaptisError(f'{path} is not an image that can be read: {error}.') from error


def read_json(path: PathLike, object_hook: Optional[Callable[[dict], Any]] = None) -> Any:
    """Return the content of a JSON file; AdaptisError if it is missing, truncated, or not JSON.

    ``object_hook`` replaces every object as soon as it is complete, as in :func:`json.load`.
    """
    try:
        text = Path(path).read_text(encoding='utf-8')
    except OSError as error:
        raise AdaptisError(f'{path} cannot be read: {error.strerror}.') from error
    except UnicodeDecodeError as error:
        raise AdaptisError(f'{path} is not a JSON file.') from error
    try:
        return json.loads(text, object_hook=object_hook)
    except json.JSONDecodeError as error:
        raise AdaptisError(f'{path} is not valid JSON (line {error.lineno}: {error.msg}): '
                           'is it cut short?') from error
    except (ValueError, RecursionError) as error:  # endless digits or brackets
        raise AdaptisError(f'{path} cannot be read as JSON: {error}.') from error


def list_images(path: PathLike) -> list[Path]:
    """Return ``[path]`` for a file, or the sorted images that lie directly in a folder.

    Raises AdaptisError if the path does not exist or the folder holds no image.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise AdaptisError(f'{path} does not exist.')
    found = sorted(p for p in path.iterdir()
                   if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith('.'))
    if not found:
        raise AdaptisError(f'{path} holds no image ({", ".join(IMAGE_SUFFIXES)}).')
    return found


@contextlib.contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from printing its own message about a broken file."""
    if not hasattr(cv2, 'setLogLevel'):  # an old OpenCV
        yield
        return
    before = cv2.getLogLevel()
    cv2.setLogLevel(0)
    try:
        yield
    finally:
        cv2.setLogLevel(before)


def _refuse_truncated(path: PathLike, data: np.ndarray) -> None:
    """Raise AdaptisError if the end mark of a PNG or JPEG is missing.

    OpenCV would fill the missing part with grey.
    """
    head, tail = data[:8].tobytes(), data[-64:].tobytes()
    cut_png = head.startswith(b'\x89PNG') and b'IEND' not in tail
    cut_jpeg = head.startswith(b'\xff\xd8') and b'\xff\xd9' not in data[-4096:].tobytes()
    if cut_png or cut_jpeg:
        raise AdaptisError(f'{path} is cut short: copy or download it again.')


def _cannot_write(path: Path, error: OSError) -> AdaptisError:
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return AdaptisError(f'{path} cannot be written: there is a file where its folder should '
                            'be.')
    return AdaptisError(f'{path} cannot be written: {error.strerror or error}.')


def _sync(path: Path) -> None:
    with open(path, 'rb+') as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
