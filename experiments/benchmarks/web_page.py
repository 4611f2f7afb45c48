"""How long the page without a server, which runs the network in Chromium, takes; and its size.

    OMP_NUM_THREADS=1 taskset --cpu-list 0 python -m experiments.benchmarks web_page

This needs the extra ``dev``, Chromium with its driver, and npm.  The network is the one that ships,
and the picture a drawn toy image, enlarged for the larger size.  ``start`` is the time until the
features of the first picture are there, with all files from the loopback interface.
"""
from __future__ import annotations

import argparse
import functools
import gzip
import http.server
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from adaptis.deploy.export import export
from adaptis.files import PathLike
from adaptis.loading import load_predictor
from adaptis.serve.networks import shipped_networks
from adaptis.serve.static_page import MAX_SIDE, write_page
from experiments.benchmarks.measures import add_record_arguments, run_measures
from experiments.screenshot import chromium

SIDES = (96, MAX_SIDE)
CLICKS = 15

_MEASURE = """
const [sides, count, done] = arguments;
const timed = async (work) => {
  const start = performance.now();
  await work();
  return performance.now() - start;
};
const middle = (times) => times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
const measure = async () => {
  let engine;
  const open = (blob) => engine.open(blob, engine.models[0].name);
  const found = {};
  const first = await (await fetch('samples/1.png')).blob();
  found['start, ms'] = await timed(async () => {
    engine = await (await import('./engine.js')).createEngine();
    await open(first);
  });
  const sample = await createImageBitmap(first);
  for (const side of sides) {
    const canvas = new OffscreenCanvas(side, side);
    canvas.getContext('2d').drawImage(sample, 0, 0, side, side);
    const blob = await canvas.convertToBlob();
    const opened = [];
    for (let i = 0; i < 3; i++) opened.push(await timed(() => open(blob)));
    const times = [];
    for (let i = 0; i < count; i++) {
      const [x, y] = [(37 * i) % side, (53 * i) % side];
      times.push(await timed(() => engine.mask(x, y)));
    }
    found[`${side}x${side}, open, median ms`] = middle(opened);
    found[`${side}x${side}, mask, median ms`] = middle(times);
    if (side === sides[0]) {
      found[`${side}x${side}, segment everything, ms`] = await timed(() => engine.segment());
    }
  }
  return found;
};
measure().then(done, (error) => done(error.stack));
"""


def web_page(sides: Sequence[int] = SIDES, count: int = CLICKS,
             ort_web: Optional[PathLike] = None) -> dict[str, Any]:
    """Files in MB, also as a host sends them compressed; times in the browser in milliseconds."""
    network = shipped_networks(load_predictor)[0]
    with tempfile.TemporaryDirectory() as folder, chromium() as driver:
        page = write_page(Path(folder) / 'page', network,
                          lambda new: export(network.load(), new, 'onnx'), ort_web)
        driver.set_script_timeout(300)
        with serving_folder(page) as address:
            driver.get(f'{address}web.json')   # from where scripts may import the page's own
            found = driver.execute_async_script(_MEASURE, list(sides), count)
        assert isinstance(found, dict), found
        return {**_megabytes(page), **found}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``web_page``."""
    parser.add_argument('--ort-web', type=Path, metavar='PATH',
                        help='where ONNX Runtime for browsers is; see "adaptis export --help"')
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Print what is measured, and keep it if asked to."""
    run_measures({'web_page': web_page}, args, SIDES, CLICKS, args.ort_web)


@contextmanager
def serving_folder(folder: PathLike) -> Iterator[str]:
    """Serve a folder as any static host does, and yield its address."""
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
