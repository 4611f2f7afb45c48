"""Read images and id masks; write files atomically."""
from __future__ import annotations

import contextlib
import json
import mmap
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Union

import cv2
import numpy as np

from adaptis import image_bytes
from adaptis.errors import AdaptisError
from adaptis.png import decode_png
from adaptis.temporary import (
    REPLACED,
    make_temporary_file,
    make_temporary_folder,
    remove_temporary_folder,
)

PathLike = Union[str, 'os.PathLike[str]']
IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')
MAX_PIXELS = 100_000_000


@contextlib.contextmanager
def atomic_write(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` if the block succeeds.

    The temporary file is in the same folder and has the same suffix, because encoders choose the
    format by the suffix.  If the block raises, ``path`` does not change.  If the process is killed,
    the next process that writes to the folder removes the temporary file.

    Raises
    ------
    AdaptisError
        If the folder is not writable or the disk is full.
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

    If the block or the exchange fails, ``path`` does not change.  If the process is killed between
    the two steps of the exchange, the next process that writes beside ``path`` undoes the first
    step.  An existing folder must be empty, or ``replaceable(path)`` must be true; it is then
    removed.

    Raises
    ------
    AdaptisError
        If ``path`` must not be replaced, or the folder is not writable.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and (replaceable(path) or not any(path.iterdir()))):
        raise AdaptisError(f'{path} already exists and would be overwritten: choose another '
                           'folder.')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = make_temporary_folder(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    new, old = temporary / 'new', temporary / REPLACED / path.name
    try:
        new.mkdir()
        old.parent.mkdir()
        yield new
        if path.exists():
            path.rename(old)
        new.rename(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        remove_temporary_folder(temporary)   # also restores what could not be replaced


def write_image(path: PathLike, image: np.ndarray) -> None:
    """Write an image: RGB ``uint8`` (H, W, 3), or an id mask ``uint8`` or ``uint16`` (H, W).

    Raises AdaptisError if the file cannot be written, TypeError for pixels of another type.
    """
    write_bytes(path, encode_image(path, image))


def encode_image(path: PathLike, image: np.ndarray) -> bytes:
    """Return the content of the file that :func:`write_image` writes."""
    if image.dtype not in (np.uint8, np.uint16):  # OpenCV would truncate the values to 8 bits
        raise TypeError(f'{path}: pixels must be uint8 or uint16, not {image.dtype}')
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(Path(path).suffix, image)
    if not done:
        raise AdaptisError(f'{path} cannot be written, because OpenCV cannot encode its pixels.')
    return data.tobytes()


def write_bytes(path: PathLike, data: bytes) -> None:
    """Write a file; AdaptisError if it cannot be written."""
    with atomic_write(path) as temporary:  # imwrite does not notice a full disk
        temporary.write_bytes(data)


def read_image(path: PathLike) -> np.ndarray:
    """Return any image as RGB ``uint8`` (H, W, 3).

    Grey is repeated to three channels, alpha is dropped, and 16 bits are scaled to 8.  The image is
    rotated according to its Exif orientation, so it looks as in an image viewer. Raises
    AdaptisError for a file that is missing, empty, truncated, too large, or not an image.
    """
    return decode_image(_read_bytes(path), path)


def decode_image(data: bytes, name: PathLike = 'The image') -> np.ndarray:
    """Return the content of an image file as :func:`read_image` does; ``name`` is for errors."""
    image = image_bytes.turned(_decode(data, name), image_bytes.orientation(data))
    if image.dtype == np.uint16:
        image = (image / 257.0 + 0.5).astype(np.uint8)
    if image.dtype != np.uint8:
        raise AdaptisError(f'{name} has {image.dtype} pixels: convert it to 8 or 16 bits.')
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_ids(path: PathLike) -> np.ndarray:
    """Return an id mask with one 8- or 16-bit channel as ``int32`` (H, W); 0 = no object.

    Raises AdaptisError for a file that is missing or truncated, or that has several channels or
    floating-point values.
    """
    ids, layout = read_stored(path)
    problem = id_mask_problem(path, layout)
    if problem:
        raise AdaptisError(problem)
    if ids.dtype.kind not in 'iu':
        raise AdaptisError(f'{path} has {ids.dtype} pixels, but an id mask needs integers: save it '
                           'with 8 or 16 bits.')
    return ids.astype(np.int32)


def id_mask_problem(path: PathLike, layout: image_bytes.Layout) -> Optional[str]:
    """Return a sentence if pixels with this layout are not an id mask, else None."""
    if layout.channels == 1:
        return None
    return (f'{path} has {layout.channels} channels, but an id mask has one: give a mask instead '
                'of an image.')


def read_pixels(path: PathLike) -> np.ndarray:
    """Return the stored pixels: (H, W), or (H, W, C) in OpenCV's order with C = 3 or 4.

    They are not rotated, and a palette is replaced by its colours.
    Raises AdaptisError for a file that is missing, empty, truncated, too large, or not an image.
    """
    return read_stored(path)[0]


def read_stored(path: PathLike) -> tuple[np.ndarray, image_bytes.Layout]:
    """Return the pixels as :func:`read_pixels` does, and their layout in the file."""
    data = _read_bytes(path)
    pixels = _decode(data, path)
    return pixels, _layout_of(data, pixels)


def read_colours(path: PathLike) -> tuple[np.ndarray, image_bytes.Layout]:
    """Do the same, but return 8-bit colours as RGBA (H, W, 4)."""
    data = _read_bytes(path)
    pixels = decode_png(data, MAX_PIXELS, 'RGBA')
    if pixels is None:
        pixels = _decode(data, path)
        if pixels.ndim == 3 and pixels.dtype == np.uint8:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGBA if pixels.shape[2] == 3 else
                                  cv2.COLOR_BGRA2RGBA)
    return pixels, _layout_of(data, pixels)


def _layout_of(data: bytes, pixels: np.ndarray) -> image_bytes.Layout:
    if image_bytes.is_png(data):  # OpenCV turns grey with alpha into four channels
        return image_bytes.png_layout(data)
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    return image_bytes.Layout(channels, 8 * pixels.dtype.itemsize)


class ImageHeader(NamedTuple):
    """The header of an image file.

    Attributes
    ----------
    size : height and width as :func:`read_pixels` returns them
    layout : channels and bits of these pixels
    orientation : the Exif orientation, which :func:`read_image` applies
    """

    size: tuple[int, int]
    layout: image_bytes.Layout
    orientation: int = 1

    @property
    def shown_size(self) -> tuple[int, int]:
        """Height and width as :func:`read_image` returns them."""
        return self.size[::-1] if self.orientation >= 5 else self.size


def read_header(path: PathLike) -> ImageHeader:
    """Return the size and the layout of an image without decoding it.

    Raises AdaptisError for a file that is missing, empty, or not an image.
    """
    from PIL import Image  # loads Pillow, which exported networks do not need
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)  # nothing is decoded
            with Image.open(path) as image:
                size, layout = _stored_size(image), _layout(image)
        with open(path, 'rb') as file, \
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, \
                memoryview(data) as view:
            if image_bytes.is_png(view):
                layout = image_bytes.png_layout(view)
            return ImageHeader(size, layout, image_bytes.orientation(view))
    except OSError as error:
        if error.errno is not None:
            raise AdaptisError(f'{path} cannot be read: {error.strerror}.') from error
        raise AdaptisError(f'{path} is not an image that can be read.') from error
    except Image.DecompressionBombError as error:
        raise AdaptisError(f'{path} has more than {MAX_PIXELS:,} pixels: make it smaller.'
                           ) from error
    except (SyntaxError, ValueError) as error:
        raise AdaptisError(f'{path} is not an image that can be read: {error}.') from error


def read_json(path: PathLike, object_hook: Optional[Callable[[dict], Any]] = None) -> Any:
    """Return the content of a JSON file; AdaptisError if it is missing, truncated, or not JSON.

    ``object_hook`` replaces every object as soon as it is complete, as in :func:`json.load`.
    """
    try:
        text = decode_json_text(_read_bytes(path))
    except UnicodeDecodeError as error:
        raise AdaptisError(f'{path} is not a JSON file.') from error
    try:
        return json.loads(text, object_hook=object_hook)
    except json.JSONDecodeError as error:
        raise AdaptisError(f'{path} is not valid JSON (line {error.lineno}: {error.msg}): perhaps '
                           'it is cut short.') from error
    except (ValueError, RecursionError) as error:  # extremely many digits or brackets
        raise AdaptisError(f'{path} cannot be read as JSON: {error}.') from error


def list_images(path: PathLike) -> list[Path]:
    """Return ``[path]`` for a file, or the sorted images directly in a folder.

    Raises AdaptisError if the path does not exist or the folder contains no image.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise AdaptisError(f'{path} does not exist.')
    found = sorted(p for p in path.iterdir()
                   if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith('.'))
    if not found:
        raise AdaptisError(f'{path} contains no image ({", ".join(IMAGE_SUFFIXES)}).')
    return found


def decode_json_text(data: bytes) -> str:
    """Return the text of a JSON file: UTF-8 with or without a byte order mark, or UTF-16."""
    encoding = json.detect_encoding(data)  # PowerShell writes UTF-16, Notepad writes the mark
    return data.decode('utf-8-sig' if encoding.startswith('utf-8') else encoding)


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


def _read_bytes(path: PathLike) -> bytes:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):   # /dev/zero has no end
            raise AdaptisError(f'{path} is a device, not a file.')
        return Path(path).read_bytes()
    except OSError as error:
        raise AdaptisError(f'{path} cannot be read: {error.strerror}.') from error
    except ValueError as error:  # a name with a zero byte
        raise AdaptisError(f'{str(path)!r} is not the name of a file.') from error


def _decode(data: bytes, name: PathLike) -> np.ndarray:
    """Return the stored pixels; AdaptisError, naming the file, if there are none."""
    if not data:
        raise AdaptisError(f'{name} is empty.')
    if image_bytes.is_cut_short(data):  # OpenCV would fill the missing part with grey
        raise AdaptisError(f'{name} is cut short: copy or download it again.')
    _check_pixels(image_bytes.declared_pixels(data), name)
    ordinary = decode_png(data, MAX_PIXELS)
    if ordinary is not None:
        return cv2.cvtColor(ordinary, cv2.COLOR_RGB2BGR if ordinary.shape[2] == 3 else
                            cv2.COLOR_RGBA2BGRA)
    try:
        with _quiet_opencv():
            image = cv2.imdecode(np.frombuffer(image_bytes.without_notes(data), np.uint8),
                                 cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        if 'CV_IO_MAX_IMAGE' in error.err:  # OpenCV's own limit, before it decodes
            raise AdaptisError(f'{name} has more than {MAX_PIXELS:,} pixels: make it smaller.'
                               ) from error
        raise AdaptisError(f'{name} cannot be decoded: {error.err}.') from error
    if image is None:
        raise AdaptisError(f'{name} is not an image that can be read, or it is cut short.')
    _check_pixels(image.shape[0] * image.shape[1], name)   # rare formats, too
    return image


def _check_pixels(count: int, name: PathLike) -> None:
    if count > MAX_PIXELS:
        raise AdaptisError(f'{name} has {count:,} pixels, more than {MAX_PIXELS:,}: make it '
                           'smaller.')


def _layout(image: Any) -> image_bytes.Layout:
    """Return the layout of an image that Pillow opened, as OpenCV decodes it."""
    channels = 3 if image.mode == 'P' else len(image.getbands())
    return image_bytes.Layout(channels, 16 if image.mode.startswith('I;16') else 8)


def _stored_size(image: Any) -> tuple[int, int]:
    """Return height and width of an image that Pillow opened, as OpenCV decodes it."""
    tags = getattr(image, 'tag_v2', None)
    if tags is None:
        return image.size[::-1]
    width, height = tags.get(256, image.width), tags.get(257, image.height)  # for a TIFF
    return (width, height) if tags.get(274, 1) >= 5 else (height, width)


def _cannot_write(path: Path, error: OSError) -> AdaptisError:
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return AdaptisError(f'{path} cannot be written, because there is a file where its folder '
                            'should be.')
    return AdaptisError(f'{path} cannot be written: {error.strerror or error}.')


def _sync(path: Path) -> None:
    with open(path, 'rb+') as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
