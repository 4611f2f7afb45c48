"""Images that compare generated data with the authors' samples, or show their labels."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Union

import cv2
import numpy as np

from .degrade import REAL_BLUR, REAL_NOISE, degrade_by
from .files import encode_png, write_file
from .settings import ToySettings, render
from .stream import Stream
from .street import CATEGORIES, FIRST_OBJECT

CROP = 128    # side of the part of the authors' 256x256 images that is shown
SCALE = 2
_GAP = 8
_LINE = 26
_SMALL_STRIDE = 130   # the authors' strip of 128x128 images has one every 130 columns

PathLike = Union[str, 'os.PathLike[str]']
Column = tuple[str, np.ndarray, np.ndarray]


def contact_sheet(samples: PathLike) -> np.ndarray:
    """Return an image with the authors' samples in the upper row and generated images in the lower.

    Parameters
    ----------
    samples
        Folder with the authors' ``250_sample_clear.jpg``, ``250_sample_noisy.jpg``,
        ``250_sample_gt.png``, ``v2/00000_250_rgb.png``, ``v2/00000_250_im.png`` and
        ``v2/five_small_samples.jpg``.

    Returns uint8 (H, W, 3), RGB.

    Raises
    ------
    ValueError
        If one of them cannot be read.
    """
    columns = _v1_columns(Path(samples)) + _v2_columns(Path(samples) / 'v2')
    return np.hstack([_column(title, real, made) for title, real, made in columns])


def street_sheet(rows: int = 4, columns: int = 2) -> np.ndarray:
    """Return street scenes, each with its panoptic labels at the right; uint8 (H, W, 3), RGB.

    Stuff has the colour of its class, and an object a variation of the colour of its class.  Void
    is black and a crowd is white.
    """
    settings = ToySettings.default('street')
    cells = [np.hstack([image, color_street(ids)]) for image, ids in (
        render(settings, 'train', i) for i in range(rows * columns))]
    cells = [np.pad(cell, ((0, _GAP), (0, _GAP), (0, 0)), constant_values=255) for cell in cells]
    return np.vstack([np.hstack(cells[i:i + columns]) for i in range(0, len(cells), columns)])


def color_street(ids: np.ndarray) -> np.ndarray:
    """Return the ids of a street scene (H, W) as colours, uint8 (H, W, 3)."""
    colors = np.zeros((*ids.shape, 3), np.int32)
    for category in CATEGORIES:
        colors[ids == category.id] = 255 if category.isthing else category.color
        for number in np.unique(ids[ids // FIRST_OBJECT == category.id]):
            change = np.array([number * 53 % 120, number * 97 % 120, number * 29 % 120])
            colors[ids == number] = (category.color + change) % 256
    return colors.astype(np.uint8)


def write_contact_sheet(path: PathLike, samples: PathLike) -> None:
    """Write :func:`contact_sheet` as a small PNG; ValueError if that fails."""
    write_sheet(path, contact_sheet(samples))


def write_sheet(path: PathLike, sheet: np.ndarray) -> None:
    """Write an image as a small PNG; ValueError if that fails."""
    # Without two invisible bits the file is a third smaller.
    rounded = np.where(sheet > 251, 255, sheet & 0xFC | 2).astype(np.uint8)
    write_file(Path(path), encode_png(rounded, level=9))


def color_ids(ids: np.ndarray) -> np.ndarray:
    """Return ids (H, W) as colours that are easy to distinguish, uint8 (H, W, 3); 0 is black."""
    ids = ids.astype(np.int64)
    hue = (ids * 111 % 256).astype(np.uint8)
    value = np.where(ids > 0, 160 + ids * 37 % 96, 0).astype(np.uint8)
    hsv = np.stack([hue, np.full_like(hue, 150), value], axis=-1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def _v1_columns(folder: Path) -> list[Column]:
    settings = ToySettings.default('v1', height=256, width=256, min_objects=250, max_objects=250)
    image, ids = render(settings, 'train', 0)
    noisy = degrade_by(image, Stream((0,)), REAL_BLUR, REAL_NOISE)
    clear, real, truth = (_read(folder / name) for name in (
        '250_sample_clear.jpg', '250_sample_noisy.jpg', '250_sample_gt.png'))
    return [('ToyV1, clear', _crop(clear), _crop(image)),
            ('blurred and noisy', _crop(real), _crop(noisy)),
            ('ids', color_ids(_crop(truth)), color_ids(_crop(ids)))]


def _v2_columns(folder: Path) -> list[Column]:
    settings = ToySettings.default('v2', height=256, width=256, min_objects=250, max_objects=250)
    image, ids = render(settings, 'train', 0)
    real, truth = _read(folder / '00000_250_rgb.png'), _read(folder / '00000_250_im.png')
    strip = _read(folder / 'five_small_samples.jpg')
    small = [('128x128', strip[:CROP, i * _SMALL_STRIDE:][:, :CROP],
              render(ToySettings.default('v2'), 'test', i)[0]) for i in (0, 1)]
    return [('ToyV2', _crop(real), _crop(image)),
            ('ids', color_ids(_crop(truth)), color_ids(_crop(ids)))] + small


def _read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f'{path} is missing or not an image: give the folder of the real '
                         'samples.')
    return image if image.ndim == 2 else np.ascontiguousarray(image[:, :, ::-1])


def _crop(image: np.ndarray) -> np.ndarray:
    top, left = ((side - CROP) // 2 for side in image.shape[:2])
    return image[top:top + CROP, left:left + CROP]


def _column(title: str, real: np.ndarray, made: np.ndarray) -> np.ndarray:
    parts = []
    for text, image in ((f'{title}: real', real), ('generated', made)):
        image = cv2.resize(image, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_NEAREST)
        head = np.full((_LINE, image.shape[1], 3), 255, np.uint8)
        cv2.putText(head, text, (2, _LINE - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1,
                    cv2.LINE_AA)
        parts += [head, image]
    return np.pad(np.vstack(parts), ((0, _GAP), (_GAP, 0), (0, 0)), constant_values=255)
