"""The page in a real browser, with the network that ships."""
from __future__ import annotations

import base64
import json
import re
import time

import cv2
import numpy as np
import pytest

from adaptis.files import read_image
from adaptis.ids import rgb_to_ids
from experiments.benchmarks.clicks import serving
from experiments.screenshot import move_to
from tests.adaptis.serve.page import SAMPLE, an_object, iou
from tests.browser import chromium

pytestmark = [pytest.mark.slow, pytest.mark.browser]

PATIENCE = 20   # seconds


@pytest.fixture(scope='module')
def url(network):
    """The address of a server that runs, and keeps two pictures open."""
    with serving([network], max_side=96, sessions=2) as port:
        yield f'http://127.0.0.1:{port}/'


class Page:
    """The page in a tab of a browser."""

    def __init__(self, driver, url, downloads):
        self.driver, self.downloads = driver, downloads
        driver.get(url)
        self.wait(lambda: 'Point at an object' in self.status)

    def wait(self, condition):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f'status: {self.status}, error: {self.error}'
            time.sleep(0.05)

    def find(self, selector):
        return self.driver.find_element('css selector', selector)

    @property
    def status(self):
        return self.find('#status').text

    @property
    def error(self):
        return self.find('#error').text

    @property
    def count(self):
        return int(self.find('#count').text)

    def move(self, x, y):
        """Move the pointer to a pixel of the picture; return the actions, to add a click."""
        return move_to(self.driver, x, y)

    def click(self, x, y):
        before = self.count
        self.move(x, y).click().perform()
        self.wait(lambda: self.count == before + 1)

    def press(self, *keys):
        # Here, so that the tests are skipped where Selenium is missing.
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys
        actions = ActionChains(self.driver)
        named = [getattr(Keys, key) if len(key) > 1 else key for key in keys]
        for key in named[:-1]:
            actions = actions.key_down(key)
        actions = actions.send_keys(named[-1])
        for key in named[:-1]:
            actions = actions.key_up(key)
        actions.perform()

    def save(self, kind, name):
        self.find(f'[data-save={kind}]').click()
        path = self.downloads / name
        self.wait(path.exists)
        return path

    def upload(self, path):
        self.find('#file').send_keys(str(path))


@pytest.fixture
def page(url, tmp_path):
    with chromium(downloads=tmp_path) as driver:
        yield Page(driver, url, tmp_path)
        assert [entry for entry in driver.get_log('browser') if entry['level'] == 'SEVERE'
                and not re.search('status of 40[04]', entry['message'])] == []


def test_click_undo_redo_delete_and_save(page):
    (x, y), truth = an_object()
    page.move(x, y).perform()
    page.wait(lambda: 'confidence' in page.status)
    assert page.count == 0
    page.click(x, y)
    page.press('CONTROL', 'z')
    page.wait(lambda: page.count == 0)
    page.press('CONTROL', 'y')
    page.wait(lambda: page.count == 1)
    assert int(page.find('#objects .score').text.split()[0]) > 80

    coco = json.loads(page.save('coco', 'toy_v1_sample_1_coco.json').read_text())
    annotation, = coco['annotations']
    assert annotation['segmentation']['size'] == [96, 96]
    mask = _coco_mask(annotation)
    assert iou(mask, truth) > 0.8 and annotation['area'] == mask.sum()
    ys, xs = mask.nonzero()
    assert annotation['bbox'] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
    ids = rgb_to_ids(read_image(page.save('ids', 'toy_v1_sample_1_ids.png')))
    assert np.array_equal(ids, mask.astype(int))
    overlay = read_image(page.save('overlay', 'toy_v1_sample_1_overlay.png'))
    original = cv2.imdecode(np.frombuffer(SAMPLE.png(0), np.uint8), 1)[..., ::-1]
    assert np.array_equal((overlay != original).any(axis=2), mask)
    labelme = json.loads(page.save('labelme', 'toy_v1_sample_1.json').read_text())
    assert np.mean(_drawn(labelme) == mask) > 0.98
    assert (labelme['imageWidth'], labelme['imagePath']) == (96, 'toy_v1_sample_1.png')

    page.find('#objects li button:last-child').click()
    page.wait(lambda: page.count == 0)
    assert not page.find('[data-save=coco]').is_enabled()


def test_segment_everything_and_save_it(page):
    page.find('#points').click()
    page.find('#segment').click()
    page.wait(lambda: page.status.startswith('Found'))
    png = rgb_to_ids(read_image(page.save('panopticPng', 'toy_v1_sample_1_panoptic.png')))
    panoptic = json.loads(page.save('panopticJson', 'toy_v1_sample_1_panoptic.json').read_text())
    annotation, = panoptic['annotations']
    assert annotation['file_name'] == 'toy_v1_sample_1_panoptic.png'
    areas = {info['id']: info['area'] for info in annotation['segments_info']}
    assert areas == {k: np.count_nonzero(png == k) for k in np.unique(png) if k}
    assert [c['name'] for c in panoptic['categories']] == ['background', 'object']
    (_, truth), count = an_object(), page.count
    assert max(iou(png == k, truth) for k in areas) > 0.8
    page.press('CONTROL', 'z')
    page.wait(lambda: page.count == 0)
    page.press('CONTROL', 'SHIFT', 'z')
    page.wait(lambda: page.count == count)


def test_the_keyboard_alone(page):
    page.driver.execute_script("document.getElementById('picture').focus()")
    (x, y), _ = an_object()
    page.press('ARROW_RIGHT')
    for key, steps in (('ARROW_RIGHT' if x > 49 else 'ARROW_LEFT', abs(x - 49)),
                       ('ARROW_DOWN' if y > 48 else 'ARROW_UP', abs(y - 48))):
        for _ in range(steps // 10):
            page.press('SHIFT', key)
        for _ in range(steps % 10):
            page.press(key)
    page.press('ENTER')
    page.wait(lambda: page.count == 1)
    page.press('DELETE')
    page.wait(lambda: page.count == 0)
    page.press('CONTROL', 'z')
    page.wait(lambda: page.count == 1)


def test_a_broken_file_is_told_and_the_picture_stays(page, tmp_path):
    broken = tmp_path / 'broken.png'
    broken.write_bytes(SAMPLE.png(1)[:2000])
    page.upload(broken)
    page.wait(lambda: page.error)
    assert 'cut short' in page.error
    (x, y), _ = an_object()
    page.click(x, y)


def test_an_upload_that_is_made_smaller_is_saved_at_its_own_size(page, tmp_path):
    (x, y), truth = an_object()
    image = cv2.imdecode(np.frombuffer(SAMPLE.png(0), np.uint8), 1)
    path = tmp_path / 'own picture.png'
    cv2.imwrite(str(path), image.repeat(3, axis=0).repeat(3, axis=1))
    page.upload(path)
    page.wait(lambda: 'own picture.png: 288x288 pixels, processed at 96x96.' in page.status)
    page.click(x, y)
    coco = json.loads(page.save('coco', 'own picture_coco.json').read_text())
    assert (coco['images'][0]['width'], coco['images'][0]['file_name']) == (288, path.name)
    assert iou(_coco_mask(coco['annotations'][0]), truth.repeat(3, axis=0).repeat(3, axis=1)) > 0.8
    labelme = json.loads(page.save('labelme', 'own picture.json').read_text())
    assert iou(_drawn(labelme), truth.repeat(3, axis=0).repeat(3, axis=1)) > 0.8


def test_two_tabs_at_once_and_a_third_that_makes_the_server_forget(page, url):
    (x, y), _ = an_object()
    tabs = [page.driver.current_window_handle]
    for _ in range(2):   # the server remembers two pictures
        page.driver.switch_to.new_window('tab')
        tabs.append(page.driver.current_window_handle)
        page = Page(page.driver, url, page.downloads)
    for turn in range(2):
        for tab in tabs:
            page.driver.switch_to.window(tab)
            page.click(x, y)
            assert page.count == turn + 1


def test_a_phone(url, tmp_path):
    with chromium(size=(500, 800)) as driver:
        driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', {
            'width': 360, 'height': 740, 'deviceScaleFactor': 2, 'mobile': True})
        driver.execute_cdp_cmd('Emulation.setTouchEmulationEnabled', {'enabled': True})
        page = Page(driver, url, tmp_path)
        assert driver.execute_script('return document.documentElement.scrollWidth') <= 360
        small = driver.execute_script(
            'return [...document.querySelectorAll("button, select, .button")].filter((e) => '
            'e.offsetHeight && e.offsetHeight < 36).map((e) => e.textContent)')
        assert small == []
        (x, y), _ = an_object()
        canvas = page.find('#picture')
        driver.execute_script('arguments[0].scrollIntoView()', canvas)
        box = driver.execute_script('const b = arguments[0].getBoundingClientRect();'
                                    'return [b.left, b.top, b.width]', canvas)
        at = {'x': box[0] + (x + 0.5) * box[2] / 96, 'y': box[1] + (y + 0.5) * box[2] / 96}
        driver.execute_cdp_cmd('Input.dispatchTouchEvent', {'type': 'touchStart',
                                                            'touchPoints': [at]})
        driver.execute_cdp_cmd('Input.dispatchTouchEvent', {'type': 'touchEnd', 'touchPoints': []})
        page.wait(lambda: page.count == 1)


CONTRAST = '''
const luminance = (color) => {
  const parts = color.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255).map(
    (part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
};
const behind = (element) => {
  for (; element; element = element.parentElement) {
    const color = getComputedStyle(element).backgroundColor;
    if (!color.endsWith(', 0)')) return color;
  }
  return 'rgb(255, 255, 255)';
};
return [...document.querySelectorAll('h1, h2, p, label, button:enabled, select, .score')]
  .filter((element) => element.offsetHeight && element.textContent.trim()).map((element) => {
    const [a, b] = [getComputedStyle(element).color, behind(element)].map(luminance);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    return [element.textContent.trim().slice(0, 30), ratio];
  });
'''


@pytest.mark.parametrize('dark', [False, True])
def test_contrast_and_names_of_controls(url, tmp_path, dark):
    with chromium() as driver:
        driver.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': [
            {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}]})
        page = Page(driver, url, tmp_path)
        page.click(*an_object()[0])
        ratios = driver.execute_script(CONTRAST)
        assert len(ratios) > 15 and [entry for entry in ratios if entry[1] < 4.5] == []
        background = driver.execute_script('return getComputedStyle(document.body).backgroundColor')
        assert (background == 'rgb(20, 23, 27)') == dark
        nodes = driver.execute_cdp_cmd('Accessibility.getFullAXTree', {})['nodes']
        roles = ('button', 'checkbox', 'combobox', 'application', 'progressbar')
        controls = [node for node in nodes if node.get('role', {}).get('value') in roles
                    and not node.get('ignored')]
        assert len(controls) > 10
        assert [n for n in controls if not n.get('name', {}).get('value', '').strip()] == []


def test_nothing_is_asked_of_another_server(page, url):
    asked = page.driver.execute_script(
        'return performance.getEntriesByType("resource").map((entry) => entry.name)')
    assert len(asked) > 8 and [name for name in asked if not name.startswith(url)] == []


def test_the_token_is_in_the_address_once(network, tmp_path):
    with serving([network], hosts=None, token='a-token-for-tests') as port, chromium() as driver:
        url = f'http://127.0.0.1:{port}/'
        driver.get(url)
        error = driver.find_element('css selector', '#error')
        end = time.monotonic() + PATIENCE
        while 'needs a token' not in error.text:
            assert time.monotonic() < end
        driver.get('about:blank')
        page = Page(driver, f'{url}#token=a-token-for-tests', tmp_path)
        page.click(*an_object()[0])
        assert driver.current_url == url
        page = Page(driver, url, tmp_path)   # the tab remembers it


def test_paste_and_drop(page):
    for number, event in ((1, 'paste'), (2, 'drop')):
        page.driver.execute_script('''
            const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], arguments[2], {type: 'image/png'}));
            const options = {bubbles: true, cancelable: true};
            document.body.dispatchEvent(arguments[1] === 'paste'
              ? new ClipboardEvent('paste', {...options, clipboardData: transfer})
              : new DragEvent('drop', {...options, dataTransfer: transfer}));
        ''', base64.b64encode(SAMPLE.png(number)).decode(), event, f'{event}.png')
        page.wait(lambda name=event: page.status.startswith(f'{name}.png: 96x96'))
        page.click(*an_object(number)[0])


def _coco_mask(annotation):
    """The pixels of an annotation of COCO, by pycocotools."""
    masks = pytest.importorskip('pycocotools.mask')
    encoded = annotation['segmentation']
    return masks.decode(masks.frPyObjects(encoded, *encoded['size'])) > 0


def _drawn(labelme):
    """The polygons of a file of labelme, drawn."""
    image = np.zeros((labelme['imageHeight'], labelme['imageWidth']), np.uint8)
    for shape in labelme['shapes']:
        # Pixel k reaches from k to k + 1, while OpenCV draws through the middle of pixels.
        points = (np.array(shape['points'], float) - 0.5) * 256
        cv2.fillPoly(image, [np.round(points).astype(np.int32)], 1, shift=8)
    return image > 0
