"""Images as a viewer shows them, and the metadata in their files."""
from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from adaptis import files, image_bytes
from adaptis.errors import AdaptisError
from adaptis.ids import panoptic_png_problem, read_panoptic_png

RNG = np.random.default_rng(0)
# Blocks of one colour, which JPEG keeps nearly as they are.
BLOCKS = np.kron(RNG.integers(0, 256, (2, 3, 3)), np.ones((16, 16, 1))).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def exif(number: int, order: str = 'little') -> Image.Exif:
    tags = Image.Exif()
    tags.endian = '<' if order == 'little' else '>'
    tags[0x0112] = number
    return tags


def shown(data: bytes) -> np.ndarray:
    """What a viewer shows, according to Pillow."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert('RGB'))


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
@pytest.mark.parametrize('number', range(1, 9))
def test_a_picture_is_turned_as_a_viewer_turns_it(tmp_path, kind, number):
    path = tmp_path / f'a.{kind.lower()}'
    options = {'tiffinfo': {0x0112: number}} if kind == 'TIFF' else {'exif': exif(number)}
    if kind == 'WEBP':
        options['lossless'] = True
    path.write_bytes(encoded(BLOCKS, kind, **options))
    expected = shown(path.read_bytes())
    image = files.read_image(path)
    assert image.shape == expected.shape == ((48, 32, 3) if number >= 5 else (32, 48, 3))
    np.testing.assert_allclose(image.astype(int), expected, atol=2)
    header = files.read_header(path)
    assert header.shown_size == image.shape[:2]
    assert header.size == files.read_pixels(path).shape[:2]


@pytest.mark.parametrize('block', [
    b'', b'II*\0', b'MM\0*\0\0\0\x08\xff\xff', b'II*\0\xff\xff\xff\xff',
    b'II*\0\x08\0\0\0\x01\0' + struct.pack('<HHIHH', 0x0112, 3, 1, 9, 0),
    b'II*\0\x08\0\0\0\x01\0' + struct.pack('<HHIHH', 0x0112, 2, 1, 6, 0)])
def test_a_broken_tag_turns_nothing(block):
    plain = encoded(BLOCKS, 'JPEG')
    segment = b'\xff\xe1' + struct.pack('>H', len(block) + 8) + b'Exif\0\0' + block
    np.testing.assert_array_equal(files.decode_image(plain[:2] + segment + plain[2:]),
                                  files.decode_image(plain))


def test_both_byte_orders_are_read():
    for order in 'little', 'big':
        data = encoded(BLOCKS, 'JPEG', exif=exif(6, order).tobytes())
        assert image_bytes.orientation(data) == 6
        assert files.decode_image(data).shape == (48, 32, 3)


@pytest.mark.parametrize('kind, options', [
    ('JPEG', {}), ('JPEG', {'progressive': True}), ('PNG', {})])
def test_data_behind_the_end_do_not_matter_and_a_missing_end_does(kind, options):
    noise = RNG.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    whole = encoded(noise, kind, **options)
    padded = whole + bytes(12000)
    np.testing.assert_array_equal(files.decode_image(padded), files.decode_image(whole))
    for share in 0.2, 0.6, 0.98:
        with pytest.raises(AdaptisError, match='photo is cut short'):
            files.decode_image(whole[:int(share * len(whole))], 'photo')


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture():
    small, large = encoded(BLOCKS[:8, :8], 'JPEG'), encoded(BLOCKS, 'JPEG')
    segment = b'\xff\xe1' + struct.pack('>H', len(small) + 8) + b'Exif\0\0' + small
    whole = large[:2] + segment + large[2:]
    assert not image_bytes.is_cut_short(whole)
    assert image_bytes.is_cut_short(whole[:-2])


def test_profiles_and_texts_of_a_png_print_nothing(tmp_path, capfd):
    plain = encoded(BLOCKS, 'PNG')
    at = 8 + 25   # behind IHDR
    notes = b''.join(struct.pack('>I', len(data)) + kind + data
                     + struct.pack('>I', zlib.crc32(kind + data)) for kind, data in (
                         (b'iCCP', b'sRGB\0\0' + zlib.compress(b'no profile')),
                         (b'tEXt', b'Comment\0hello'), (b'gAMA', struct.pack('>I', 1)),
                         (b'sBIT', b'\1')))
    (tmp_path / 'a.png').write_bytes(plain[:at] + notes + plain[at:])
    np.testing.assert_array_equal(files.read_image(tmp_path / 'a.png'), BLOCKS)
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('mode, fits', [('RGB', True), ('RGBA', True), ('P', True), ('L', False),
                                        ('LA', False), ('I;16', False), ('1', False)])
def test_header_and_pixels_agree_about_panoptic_pngs(tmp_path, mode, fits):
    ids = np.kron(np.arange(6).reshape(2, 3), np.ones((4, 4), int))
    picture = Image.fromarray(np.stack([ids + 1, ids, 0 * ids], axis=-1).astype(np.uint8))
    grey16 = Image.fromarray(ids.astype(np.uint16))
    path = tmp_path / 'a.png'
    forms = {'I;16': grey16, 'P': picture.quantize(6)}
    (forms[mode] if mode in forms else picture.convert(mode)).save(path)
    problem = panoptic_png_problem(path, files.read_header(path).layout)
    if fits:
        assert problem is None
        np.testing.assert_array_equal(read_panoptic_png(path), ids + 1 + 256 * ids)
    else:
        with pytest.raises(AdaptisError) as caught:
            read_panoptic_png(path)
        assert str(caught.value) == problem


def test_bytes_are_decoded_as_a_file_is(tmp_path):
    path = tmp_path / 'a.jpg'
    path.write_bytes(encoded(BLOCKS, 'JPEG', exif=exif(6)))
    np.testing.assert_array_equal(files.decode_image(path.read_bytes()), files.read_image(path))
    with pytest.raises(AdaptisError, match='The upload is empty'):
        files.decode_image(b'', 'The upload')
    with pytest.raises(AdaptisError, match='is not the name of a file'):
        files.read_image('a\0b')


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-32'])
def test_json_in_the_encodings_of_windows(tmp_path: Path, encoding):
    path = tmp_path / 'a.json'
    path.write_text('{"name": "Straße 😀"}', encoding=encoding)
    assert files.read_json(path) == {'name': 'Straße 😀'}


def test_palettes_with_transparency_and_masks(tmp_path):
    path = tmp_path / 'a.png'
    Image.fromarray(BLOCKS).convert('P').save(path, transparency=0)
    assert files.read_image(path).shape == BLOCKS.shape
    with pytest.raises(AdaptisError, match='3 channels, but an id mask has one'):
        files.read_ids(path)
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape[2] == 4


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.webp', '.tif', '.bmp'])
def test_the_size_is_known_before_decoding(tmp_path: Path, suffix: str) -> None:
    for kind in (np.zeros((37, 300, 3), np.uint8), np.full((300, 41), 9, np.uint8)):
        data = cv2.imencode(suffix, kind)[1].tobytes()
        assert image_bytes.declared_pixels(data) == kind.shape[0] * kind.shape[1]
        for length in range(64):   # cut short
            assert image_bytes.declared_pixels(data[:length]) >= 0
    lossy = cv2.imencode('.webp', kind, [cv2.IMWRITE_WEBP_QUALITY, 50])[1].tobytes()
    assert image_bytes.declared_pixels(lossy) == kind.size
    big = io.BytesIO()
    Image.fromarray(kind).save(big, 'TIFF', big_tiff=True)
    assert image_bytes.declared_pixels(big.getvalue()) == kind.size
    beyond = b'II+\0\x08\0\0\0' + b'\xff' * 8   # a place that no file has
    assert image_bytes.declared_pixels(beyond) == 0 and image_bytes._read_orientation(beyond) == 1
