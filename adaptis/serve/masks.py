"""Masks as JSON."""
from __future__ import annotations

from typing import Any

import numpy as np


def mask_json(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask, bool (H, W), as uncompressed run lengths of COCO.

    ``counts`` are the lengths of the runs, column by column.  The first run is outside the mask and
    may be 0.
    """
    flat = np.concatenate([[False], mask.ravel(order='F')])
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], starts, [mask.size]]))
    return {'width': mask.shape[1], 'height': mask.shape[0], 'counts': counts.tolist()}
