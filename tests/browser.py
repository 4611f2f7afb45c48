"""A real browser for tests: Chromium without a window, as Debian's packages install it.

    apt-get install chromium chromium-driver
"""
from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import pytest

SIZE = (1100, 1000)


@contextmanager
def chromium(downloads: Optional[Path] = None, size: tuple[int, int] = SIZE,
             dark: bool = False) -> Iterator[Any]:
    """Yield Selenium's driver of a browser; skip the test if there is none.

    ``downloads`` is where files go that a page saves; ``dark`` is the reader's choice of colours.
    """
    webdriver = pytest.importorskip('selenium.webdriver', reason='the tests need Selenium')
    browser, driver = shutil.which('chromium'), shutil.which('chromedriver')
    if not browser or not driver:
        pytest.skip('the tests need Chromium and its driver: apt-get install chromium '
                    'chromium-driver')
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage',
                     '--window-size={},{}'.format(*size), *['--force-dark-mode'] * dark):
        options.add_argument(argument)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    if downloads is not None:
        options.add_experimental_option('prefs', {
            'download.default_directory': str(downloads),
            'profile.default_content_setting_values.automatic_downloads': 1})
    found = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield found
    finally:
        found.quit()
