"""Time and size of the page without a server, which runs the network in the browser (Chromium).

    OMP_NUM_THREADS=1 taskset --cpu-list 0 python -m experiments.benchmarks web_page

This needs the extra ``dev``, Chromium with its driver, and npm.  The network is the one that ships,
and the image is a drawn toy image, enlarged for the larger size.  ``start`` is the time until the
features of the first image are computed; all files come from the loopback interface.
"""
from __future__ import annotations

import argparse
import contextlib
import functools
import gzip
import http.server
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from adaptis.errors import AdaptisError
from adaptis.files import PathLike
from adaptis.loading import load_predictor
from adaptis.serve.networks import shipped_networks
from adaptis.serve.static_page import MAX_SIDE, write_page
from experiments.benchmarks.measures import add_record_arguments, run_measures
from experiments.screenshot import chromium

SIDES = (96, MAX_SIDE)
CLICKS = 15

_PREPARE = """
window.first = await (await fetch('samples/1.png')).blob();
window.open_ = (blob) => engine.open(blob, engine.models[0].name);
"""
_START = """
window.engine = await (await import('./engine.js')).createEngine();
await open_(first);
"""
_ENLARGE = """
const canvas = new OffscreenCanvas({side}, {side});
canvas.getContext('2d').drawImage(await createImageBitmap(first), 0, 0, {side}, {side});
window.picture = await canvas.convertToBlob();
"""
_OPEN = 'await open_(picture);'
_MASKS = """
for (let i = 0; i < {count}; i++) await engine.mask((37 * i) % {side}, (53 * i) % {side});
"""


def web_page(sides: Sequence[int] = SIDES, count: int = CLICKS,
             ort_web: Optional[PathLike] = None) -> dict[str, Any]:
    """Sizes of files in MB, also compressed as a host sends them; browser times in milliseconds.

    CPU times are those of all browser processes; on an idle core, the wait is about as long.
    """
    from adaptis.deploy.export import export  # loads MXNet
    network = shipped_networks(load_predictor)[0]
    with tempfile.TemporaryDirectory() as folder, chromium() as driver:
        page = write_page(Path(folder) / 'page', network,
                          lambda new: export(network.load(), new, 'onnx'), ort_web)
        driver.set_script_timeout(300)
        with serving_folder(page) as address:
            driver.get(f'{address}web.json')   # from where scripts may import the page's own
            return {**_megabytes(page), **_times(_Clock(driver), sides, count)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``web_page``."""
    parser.add_argument('--ort-web', type=Path, metavar='PATH',
                        help='folder with ONNX Runtime for browsers; see "adaptis export --help"')
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Print the figures, and write the record if asked to."""
    run_measures({'web_page': web_page}, args, SIDES, CLICKS, args.ort_web)


def _times(clock: _Clock, sides: Sequence[int], count: int) -> dict[str, float]:
    clock.run(_PREPARE)
    found = clock.time('start', _START)
    for side in sides:
        name = f'{side}x{side}'
        clock.run(_ENLARGE.format(side=side) + _OPEN)
        found.update(clock.time(f'{name}, open', _OPEN))
        found.update(clock.time(f'{name}, mask', _MASKS.format(side=side, count=count), count))
    return found


class _Clock:
    """Runs JavaScript and measures how long it takes."""

    def __init__(self, driver: Any):
        self._driver = driver

    def run(self, code: str) -> None:
        """Run code as an asynchronous function; AdaptisError if it fails."""
        error = self._driver.execute_async_script(
            f'const done = arguments[0]; (async () => {{ {code} }})().then(() => done(null),'
            '(error) => done(String(error)));')
        if error is not None:
            raise AdaptisError(f'The page has failed: {error}')

    def time(self, name: str, code: str, count: int = 1) -> dict[str, float]:
        """Return the wall-clock and CPU time of one of ``count`` actions, in milliseconds."""
        before = time.perf_counter(), self._cpu_seconds()
        self.run(code)
        after = time.perf_counter(), self._cpu_seconds()
        return {f'{name}, {what} ms': 1000 * (last - first) / count
                for what, first, last in zip(('clock', 'CPU'), before, after)}

    def _cpu_seconds(self) -> float:
        """Return the CPU time of the browser and its driver, from Linux."""
        stats = {}
        for path in Path('/proc').glob('[0-9]*/stat'):
            with contextlib.suppress(OSError):   # it has ended
                fields = path.read_text().rpartition(')')[2].split()
                stats[int(path.parent.name)] = int(fields[1]), int(fields[11]) + int(fields[12])
        family = {self._driver.service.process.pid}
        for _ in range(5):   # generations
            family |= {pid for pid, (parent, _) in stats.items() if parent in family}
        return sum(stats[pid][1] for pid in family if pid in stats) / os.sysconf('SC_CLK_TCK')


@contextmanager
def serving_folder(folder: PathLike) -> Iterator[str]:
    """Serve a folder like a static host, and yield its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f'http://127.0.0.1:{server.server_address[1]}/'
        finally:
            server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Do not print every request."""


def _megabytes(page: Path) -> dict[str, float]:
    found = {}
    for name, files in (('all files', page), ('the network', page / 'model'),
                        ('ONNX Runtime', page / 'ort')):
        contents = [path.read_bytes() for path in files.rglob('*') if path.is_file()]
        found[f'{name}, MB'] = sum(map(len, contents)) / 1e6
        found[f'{name}, gzip, MB'] = sum(len(gzip.compress(c)) for c in contents) / 1e6
    return found
