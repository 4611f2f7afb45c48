"""What the tests of the page share; whoever imports this is skipped without the extra."""
from __future__ import annotations

import numpy as np
import pytest

try:
    import uvicorn  # noqa: F401 (only whether it is there)
    from starlette.testclient import TestClient
except (ImportError, RuntimeError):   # the latter if Starlette finds no HTTP client
    pytest.skip('the page needs the extra "serve", and its tests the extra "dev"',
                allow_module_level=True)

from adaptis.evaluation.clicks import innermost_pixel
from adaptis.serve.app import STATIC, ServeOptions, make_app
from adaptis.serve.guard import Guard
from adaptis.serve.samples import Samples

__all__ = ['SAMPLE', 'STATIC', 'Guard', 'an_object', 'client_of', 'decode', 'iou', 'make_app']

SAMPLE = Samples('v1')


def client_of(network, **options):
    """A client of the page for one network; a context manager."""
    return TestClient(make_app([network], ServeOptions(**options)), base_url='http://localhost',
                      raise_server_exceptions=False)


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """The intersection over the union of two masks."""
    return np.count_nonzero(mask & truth) / np.count_nonzero(mask | truth)


def decode(mask: dict) -> np.ndarray:
    """The pixels of a mask as the server sends it, bool (H, W)."""
    values = np.arange(len(mask['counts'])) % 2 == 1
    flat = np.repeat(values, mask['counts'])
    return flat.reshape(mask['height'], mask['width'], order='F')


def an_object(sample: int = 0) -> tuple[tuple[int, int], np.ndarray]:
    """The middle (x, y) of the sample's largest object, and its true mask."""
    ids = SAMPLE.ids(sample)
    truth = ids == np.bincount(ids[ids > 0]).argmax()
    return innermost_pixel(truth), truth
