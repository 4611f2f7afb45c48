"""Images in all supported types: arrays, Pillow images, paths."""
from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import adaptis
from adaptis.errors import AdaptisError
from adaptis.files import write_image
from adaptis.inference import images
from adaptis.inference.images import as_rgb

PIXELS = np.random.RandomState(0).randint(0, 256, (9, 7, 3)).astype(np.uint8)


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'L', 'P', '1', 'CMYK', 'LA'])
def test_pillow_images_of_every_mode_give_what_pillow_shows(mode):
    image = Image.fromarray(PIXELS).convert(mode)
    np.testing.assert_array_equal(as_rgb(image), np.asarray(image.convert('RGB')))


def test_sixteen_bits_of_a_pillow_image_are_scaled():
    image = Image.fromarray(np.full((4, 5), 257 * 99, np.uint16))
    np.testing.assert_array_equal(as_rgb(image), np.full((4, 5, 3), 99))


def test_a_pillow_image_is_turned_as_its_exif_tag_says():
    exif = Image.Exif()
    exif[0x0112] = 6   # the camera was held upright
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, 'PNG', exif=exif)
    np.testing.assert_array_equal(as_rgb(Image.open(file)), np.rot90(PIXELS, -1))


def test_a_path_is_read(tmp_path):
    write_image(tmp_path / 'picture.png', PIXELS)
    for path in (tmp_path / 'picture.png', str(tmp_path / 'picture.png')):
        np.testing.assert_array_equal(as_rgb(path), PIXELS)
    with pytest.raises(AdaptisError, match='cannot be read'):
        as_rgb(tmp_path / 'missing.png')


def test_what_is_no_image_is_refused_in_a_sentence(monkeypatch):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, 'PNG')
    for what in (None, b'', file, file.getvalue(), Image.new('F', (3, 3)), [[1, 2]]):
        with pytest.raises(AdaptisError):
            as_rgb(what)
        with pytest.raises(AdaptisError):
            adaptis.predict(what)
    with pytest.raises(AdaptisError, match='cannot be decoded'):
        as_rgb(Image.open(io.BytesIO(file.getvalue()[:len(file.getvalue()) // 2])))
    monkeypatch.setattr(images, 'MAX_PIXELS', 20)
    with pytest.raises(AdaptisError, match='between 1 and 20 pixels'):
        as_rgb(Image.fromarray(PIXELS))
