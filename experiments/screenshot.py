"""Take the screenshot of the page of ``adaptis serve`` for the README, with Chromium.

    python -m experiments.screenshot [--out docs/images/serve.png]

This needs the extra ``dev`` and Chromium with its driver (Debian: apt-get install chromium
chromium-driver).
"""
from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.evaluation.clicks import innermost_pixel
from adaptis.files import atomic_write
from adaptis.loading import load_predictor
from adaptis.serve.networks import shipped_networks
from adaptis.serve.samples import Samples
from experiments.benchmarks.clicks import serving

SIZE = 1060, 900
SAMPLE = 3      # of ToyV1
KEPT = 6
PATIENCE = 60   # seconds


def main() -> int:
    """Take the screenshot; returns 0, or 1 after an error message."""
    parser = argparse.ArgumentParser(prog='python -m experiments.screenshot',
                                     description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=Path('docs/images/serve.png'))
    args = parser.parse_args()
    try:
        take(args.out)
    except AdaptisError as error:
        print(f'screenshot: {error}', file=sys.stderr)
        return 1
    print(f'Wrote {args.out} ({args.out.stat().st_size / 1024:.0f} KB).')
    return 0


def take(out: Path) -> None:
    """Click all but the last of the largest objects of a toy image, point at it, take a screenshot.

    Raises AdaptisError if there is no browser, or if the page does not respond as expected.
    """
    *kept, pointed = largest_objects(Samples('v1').ids(SAMPLE), KEPT + 1)
    with serving(shipped_networks(load_predictor)) as port, chromium() as driver:
        driver.get(f'http://localhost:{port}/')
        _wait(driver, lambda page: 'Point at' in page('#status').text)
        driver.find_elements('css selector', '#samples button')[SAMPLE].click()
        _wait(driver, lambda page: f'sample_{SAMPLE + 1}' in page('#status').text)
        for number, point in enumerate(kept, start=1):
            move_to(driver, *point).click().perform()
            _wait(driver, lambda page, number=number: page('#count').text == str(number))
        move_to(driver, *pointed).perform()
        _wait(driver, lambda page: 'confidence' in page('#status').text)
        with atomic_write(out) as temporary:
            temporary.write_bytes(driver.get_screenshot_as_png())


def largest_objects(ids: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Return (x, y) in the middle of each of the largest objects, the largest first."""
    areas = np.bincount(ids.ravel())[1:]
    return [innermost_pixel(ids == k + 1) for k in np.argsort(-areas, kind='stable')[:count]]


@contextmanager
def chromium(size: tuple[int, int] = SIZE, downloads: Optional[Path] = None) -> Iterator[Any]:
    """Yield Selenium's driver of a headless Chromium.

    ``downloads`` is the folder for files that a page saves.  Raises AdaptisError if Chromium or its
    driver is missing.
    """
    browser, service = shutil.which('chromium'), shutil.which('chromedriver')
    if not browser or not service:
        raise AdaptisError('Chromium and its driver are missing: apt-get install chromium '
                           'chromium-driver.')
    try:
        from selenium import webdriver  # of the extra "dev"
    except ImportError as error:
        raise AdaptisError('Selenium is missing: python -m pip install -e ".[dev]".') from error
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage',
                     '--hide-scrollbars', '--window-size={},{}'.format(*size)):
        options.add_argument(argument)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    if downloads is not None:
        options.add_experimental_option('prefs', {
            'download.default_directory': str(downloads),
            'profile.default_content_setting_values.automatic_downloads': 1})
    driver = webdriver.Chrome(options, webdriver.ChromeService(service))
    try:
        yield driver
    finally:
        driver.quit()


def move_to(driver: Any, x: float, y: float, side: int = 96) -> Any:
    """Return actions that move the pointer to a pixel of a square image on the page."""
    from selenium.webdriver.common.action_chains import ActionChains  # of the extra "dev"
    canvas = driver.find_element('css selector', '#picture')
    dx, dy = (round(((k + 0.5) / side - 0.5) * canvas.rect['width']) for k in (x, y))
    return ActionChains(driver).move_to_element_with_offset(canvas, dx, dy)


def _wait(driver: Any, condition: Callable[[Callable[[str], Any]], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition(lambda selector: driver.find_element('css selector', selector)):
        if time.monotonic() > end:
            raise AdaptisError('The page does not respond: '
                               f'{driver.find_element("css selector", "main").text[:300]}')
        time.sleep(0.05)


if __name__ == '__main__':
    sys.exit(main())
