"""How long the page of ``adaptis serve`` waits for an image and for a mask.

    OMP_NUM_THREADS=1 taskset --cpu-list 0 python -m experiments.benchmarks clicks

The server runs in this process.  A client sends the requests of the page over the loopback
interface.  The images are drawn toy images, enlarged for the larger sizes, and the network is the
one that ships.
"""
from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Callable

import cv2
import numpy as np

from adaptis.errors import AdaptisError
from adaptis.loading import load_predictor
from adaptis.serve.networks import ServedNetwork
from experiments.benchmarks.measures import Size, add_record_arguments, run_measures
from toy_data import ToySettings, render

SIZES: tuple[Size, ...] = ((96, 96), (256, 256), (512, 512))
CLICKS = 30
SHARE = 0.95
"""Percentile that is reported for slow clicks."""


def clicks(sizes: Sequence[Size] = SIZES, count: int = CLICKS) -> dict[str, Any]:
    """Opening an image, and one mask, from request to the end of the response, in milliseconds."""
    predictor = load_predictor()
    network = ServedNetwork('toy_v1', 'Toy V1', '', lambda: predictor, None)
    result = {}
    with serving([network], max_side=max(max(size) for size in sizes)) as port:
        for height, width in sizes:
            result.update(_measure(port, (height, width), count))
    return result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``clicks``."""
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Print the figures, and write the record if asked to."""
    run_measures({'clicks': clicks}, args)


def _measure(port: int, size: Size, count: int) -> dict[str, float]:
    """Return the times at one size, after a warm-up image and mask."""
    connection = http.client.HTTPConnection('127.0.0.1', port)
    picture = _picture(size)
    rng = np.random.default_rng(0)
    points = rng.integers(0, (size[1], size[0]), (count + 1, 2))
    for _ in range(2):
        opening, opened = _timed(lambda: _ask(connection, 'POST', '/api/images?model=toy_v1',
                                              picture))
    times = [_timed(lambda x=x, y=y: _ask(
        connection, 'GET', f"/api/images/{opened['id']}/mask?x={x}&y={y}"))[0] for x, y in points]
    connection.close()
    name = f'{size[0]}x{size[1]}'
    return {f'{name}, open, ms': opening, f'{name}, mask, median ms': statistics.median(times[1:]),
            f'{name}, mask, {SHARE:.0%} within ms': float(np.quantile(times[1:], SHARE))}


def _ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b'') -> Any:
    connection.request(method, path, body)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    if answer.status != 200:
        raise AdaptisError(told['error'])
    return told


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = call()
    return 1000 * (time.perf_counter() - began), result


def _picture(size: Size) -> bytes:
    image, _ = render(ToySettings.default('v1', seed=0), 'test', 0)
    return cv2.imencode('.png', cv2.resize(image, size[::-1]))[1].tobytes()


@contextlib.contextmanager
def serving(networks: Sequence[ServedNetwork], **options: Any) -> Iterator[int]:
    """Run the server in a thread, and yield its port.

    ``options`` are those of ``ServeOptions``.  Raises AdaptisError if the extra is not installed.
    """
    try:
        import uvicorn  # of the extra "serve"

        from adaptis.serve.app import ServeOptions, make_app  # loads Starlette, of the same
    except ImportError as error:
        raise AdaptisError('The extra "serve" is missing: python -m pip install -e ".[serve]".'
                           ) from error
    app = make_app(networks, ServeOptions(**options))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level='error'))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise AdaptisError('The server did not start.')
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
