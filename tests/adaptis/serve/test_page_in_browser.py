"""The page without a server, in Chromium: same clicks, same masks as in Python."""
from __future__ import annotations

import functools
import shutil

import numpy as np
import pytest

from adaptis.deploy.export import export
from adaptis.files import read_image, write_image
from adaptis.inference.likeness import training_facts
from adaptis.inference.predictor import Predictor
from adaptis.inference.sidecar import read_training
from adaptis.loading import load_predictor
from adaptis.serve.networks import ServedNetwork, shipped_networks
from adaptis.serve.samples import Samples
from adaptis.serve.static_page import write_page
from experiments.benchmarks.web_page import serving_folder, web_page
from tests.adaptis.deploy.test_export import LOOSE, NETWORKS, make_predictor
from tests.adaptis.serve.page import an_object, decode, iou
from tests.browser import chromium

pytestmark = [pytest.mark.slow, pytest.mark.browser]

TOLERANCE = 1e-3   # of probabilities; trained networks differ by 1e-5, random ones by 1e-4
SHIPPED = ('toy_v1', 'toy_v2', 'toy_street')
NETWORK = """
const { loadNetwork } = await import('./network.js');
const { decodePicture } = await import('./picture.js');
const { openPicture } = await import('./segmenter.js');
const network = await loadNetwork(new URL('model/', document.baseURI));
const open = async (url) => {
  const { planes, size } = await decodePicture(await (await fetch(url)).blob(), 512);
  return openPicture(network, planes, size);
};
"""
ENGINE = """
const { createEngine } = await import('./engine.js');
const engine = await createEngine();
const [{ name, samples }] = engine.models;
const load = async (url) => (await fetch(url)).blob();
"""


class Page:
    """A folder that a plain web server sends, and a browser that shows it."""

    def __init__(self, folder, browser):
        self.folder, self._browser = folder, browser
        self._serving = serving_folder(folder)
        browser.get(self._serving.__enter__())

    def run(self, code, *arguments):
        """What JavaScript returns."""
        found = self._browser.execute_async_script(
            'const done = arguments[arguments.length - 1]; const args = arguments;'
            f'(async () => {{ {code} }})().then((result) => done({{ result }}),'
            '(error) => done({ error: error.stack }));', *arguments)
        assert 'error' not in found, found['error']
        return found['result']

    def close(self):
        self._serving.__exit__(None, None, None)


@pytest.fixture(scope='module')
def browser():
    with chromium() as driver:
        driver.set_script_timeout(120)
        yield driver


@pytest.fixture(scope='module')
def ort(tmp_path_factory):
    """ONNX Runtime for browsers, fetched once."""
    from adaptis.serve.ort_web import FILES, read_ort_web
    if shutil.which('npm') is None:
        pytest.skip('npm, which fetches ONNX Runtime for browsers, is not installed')
    folder = tmp_path_factory.mktemp('ort')
    for name, content in read_ort_web().items():
        (folder / name).write_bytes(content)
    assert sorted(FILES) == sorted(path.name for path in folder.iterdir())
    return folder


@pytest.fixture
def make_page(browser, ort, tmp_path):
    pages = []

    def make(predictor, network, **source):
        folder = write_page(tmp_path / 'page', network,
                            lambda folder: export(predictor, folder, 'onnx', source), ort)
        pages.append(Page(folder, browser))
        return pages[-1]

    yield make
    for page in pages:
        page.close()


def shipped(name):
    network = next((n for n in shipped_networks(load_predictor) if n.name == name), None)
    if network is None:
        pytest.skip(f'{name} does not ship with this package')
    return network.load(), network


def random_network(name):
    options, settings = NETWORKS[name]
    settings = settings.replace(short_side=64, seed=5)
    return (make_predictor(options, settings),
            ServedNetwork(name, name, 'nothing', load_predictor, Samples('v1')))


@pytest.mark.parametrize('make', [
    *(functools.partial(shipped, name) for name in SHIPPED),
    *(functools.partial(random_network, name) for name in NETWORKS)], ids=[*SHIPPED, *NETWORKS])
def test_same_clicks_same_masks(make, make_page):
    predictor, network = make()
    page = make_page(predictor, network)
    rng = np.random.default_rng(0)
    image = read_image(page.folder / 'samples' / '1.png')[:81]
    write_image(page.folder / 'picture.png', image)
    python = Predictor.from_export(page.folder / 'model', 'onnxruntime').set_image(image)
    height, width = image.shape[:2]
    points = np.stack([rng.integers(0, width, 6), rng.integers(0, height, 6)], axis=1)
    found = page.run(NETWORK + """
        const picture = await open('picture.png');
        const masks = [];
        for (const [x, y] of args[0]) {
          const { probabilities, ...told } = await picture.maskAt(x, y);
          masks.push({ ...told, probabilities: [...probabilities] });
        }
        const segments = await picture.segment(() => {}, () => {});
        return { masks, proposals: network.hasProposals ? picture.proposals() : null,
                 segments: segments.map((s) => ({ ...s, pixels: [...s.pixels] })) };
        """, points.tolist())
    for (x, y), mask in zip(points, found['masks']):
        expected = python.mask_at(x=x, y=y)
        assert expected.mask.std() > 5e-4
        np.testing.assert_allclose(np.reshape(mask['probabilities'], (height, width)),
                                   expected.mask, rtol=0, atol=TOLERANCE)
        assert mask['score'] == pytest.approx(expected.confidence, abs=0.02)
        category = python.category_of(expected.mask)
        assert (mask['categoryId'], mask['name']) == (category.id, category.name)
    if found['proposals'] is not None:
        proposals = [[p['x'], p['y'], p['score']] for p in found['proposals']]
        np.testing.assert_allclose(proposals, python.proposals(), atol=TOLERANCE)
    result = python.panoptic()
    segment_map = np.zeros((height, width), np.int32)
    for segment in found['segments']:
        segment_map[np.reshape(segment['pixels'], (height, width)) > 0] = segment['id']
    assert [s['categoryId'] for s in found['segments']] == [s.category_id for s in result.segments]
    assert (segment_map == result.segment_map).mean() > 0.995   # random weights turn over ties
    np.testing.assert_allclose([s['score'] for s in found['segments']],
                               [s.score for s in result.segments], atol=0.01)


def test_the_engine_of_the_page(make_page):
    predictor, network = shipped('toy_v1')
    page = make_page(predictor, network)
    image = read_image(page.folder / 'samples' / '1.png')
    predictor.set_image(image)
    found = page.run(ENGINE + """
        const told = (promise) => promise.then(
          () => null, ({ name, message }) => `${name}: ${message}`);
        const before = await told(engine.mask(1, 1));
        const opened = await engine.open(await load(samples[0].url), name);
        const mask = await engine.mask(40, 57);
        const accepted = [], progress = [];
        const all = await engine.segment({
          onProgress: (...step) => progress.push(step), onSegment: (s) => accepted.push(s) });
        const control = new AbortController();
        const stopped = await told(engine.segment({
          signal: control.signal, onProgress: () => control.abort() }));
        const during = engine.segment();
        const between = await Promise.race([engine.mask(40, 57), during]);
        await during;
        const broken = await told(engine.open(new Blob(['nothing']), name));
        const half = (await load(samples[0].url)).slice(0, 9000);
        const cut = await told(engine.open(half, name));
        const outside = await told(engine.mask(96, 0));
        const kept = await engine.mask(40, 57);
        const elsewhere = performance.getEntriesByType('resource').map((entry) => entry.name)
          .filter((url) => !url.startsWith(location.origin + '/'));
        await engine.close();
        const after = await told(engine.mask(1, 1));
        return { before, opened, mask, accepted, progress, all, stopped, between, broken, cut,
                 outside, kept, elsewhere, after };
        """)
    assert 'no image yet' in found['before'] and 'no image yet' in found['after']
    assert found['opened'] == {'width': 96, 'height': 96, 'pointProposals': True, 'warning': None}
    expected = predictor.mask_at(x=40, y=57)
    assert found['mask']['score'] == pytest.approx(expected.confidence, abs=1e-3)
    inside = decode(found['mask']['mask'])
    assert (inside == (expected.mask > predictor.settings.mask_threshold)).mean() > 0.999
    assert found['between'] == found['kept'] == found['mask']   # clicks go first
    things = [s for s in found['all']['segments'] if s['isthing']]
    assert len(found['accepted']) >= len(things) > 5
    assert all(s['categoryId'] is None for s in found['accepted'])
    assert found['progress'][-1][0] == found['progress'][-1][1] == len(found['progress'])
    assert found['stopped'].startswith('AbortError')
    assert 'must be a whole PNG' in found['broken'] and 'cut short' in found['cut']
    assert 'outside the image' in found['outside']
    assert found['elsewhere'] == []


def test_a_large_picture_is_made_smaller_and_a_strange_one_is_warned_of(make_page):
    page = make_page(*shipped('toy_v1'), training=training_facts(read_training(None)))
    image = np.random.default_rng(0).integers(0, 256, (700, 60, 3)).astype(np.uint8)
    write_image(page.folder / 'picture.png', image)
    opened = page.run(ENGINE + "return engine.open(await load('picture.png'), name);")
    assert (opened['height'], opened['width']) == (512, 44)
    assert opened['warning'].startswith('This image is unlike all images')


def test_loose_settings_of_a_network_reach_the_page(make_page):
    predictor, network = shipped('toy_v1')
    predictor.settings = LOOSE.replace(cut_radius=8)
    page = make_page(predictor, network)
    sizes = page.run(NETWORK + """
        const picture = await open('samples/1.png');
        const sizes = [];
        await picture.segment(({ pixels }) => sizes.push(pixels.reduce((a, b) => a + b)), () => {});
        return sizes;
        """)
    assert sizes and max(sizes) <= 17 ** 2


def test_a_visitor_clicks(make_page, browser):
    """What a person does: wait for the picture, click an object, segment everything."""
    from selenium.webdriver import ActionChains  # skipped without it
    from selenium.webdriver.support.wait import WebDriverWait
    page = make_page(*shipped('toy_v1'))
    (x, y), truth = an_object()
    wait = WebDriverWait(browser, 60)
    text = lambda part: browser.find_element('id', part).text   # noqa: E731
    wait.until(lambda _: 'Point at an object' in text('status'))
    canvas = browser.find_element('id', 'picture')
    size = canvas.size
    ActionChains(browser).move_to_element_with_offset(
        canvas, round((x + 0.5) / 96 * size['width'] - size['width'] / 2),
        round((y + 0.5) / 96 * size['height'] - size['height'] / 2)).click().perform()
    wait.until(lambda _: text('count') == '1')
    assert 'Kept object 1' in text('status')
    mask = decode(page.run(ENGINE + f"""
        await engine.open(await load(samples[0].url), name);
        return (await engine.mask({x}, {y})).mask;"""))
    assert iou(mask, truth) > 0.8
    browser.find_element('id', 'segment').click()
    wait.until(lambda _: 'Found' in text('status'))
    assert int(text('count')) > 5
    assert not browser.find_element('id', 'error').is_displayed()


def test_what_the_benchmark_measures(browser, ort):
    found = web_page([32], 2, ort)
    assert found['all files, MB'] > found['ONNX Runtime, MB'] > 13
    assert all(value > 0 for value in found.values()) and '32x32, mask, CPU ms' in found
