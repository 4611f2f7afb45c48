"""Write the files of a data set."""
from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Optional

import cv2
import numpy as np


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
    """Return PNG bytes of an RGB (H, W, 3) image or mask (H, W); ``level`` 0 .. 9, None = fast."""
    if image.ndim == 3:
        image = np.ascontiguousarray(image[:, :, ::-1])
    options = [] if level is None else [cv2.IMWRITE_PNG_COMPRESSION, level]
    done, data = cv2.imencode('.png', image, options)
    if not done:
        raise ValueError(f'An image of shape {image.shape} could not be encoded as PNG.')
    return data.tobytes()
