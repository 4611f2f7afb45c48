"""Images and id masks of all kinds, including broken ones, and atomic writing of files."""
from __future__ import annotations

import io
import os
import resource
import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest

from adaptis import files, image_bytes, png
from adaptis.errors import AdaptisError

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
GREY = RGB[..., 0]


def put(path, pixels):
    """Write pixels in OpenCV's channel order, by OpenCV itself."""
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def png_of_size(height, width):
    """A PNG that claims a size and holds next to nothing."""
    def chunk(kind, data):
        return (struct.pack('>I', len(data)) + kind + data
                + struct.pack('>I', zlib.crc32(kind + data)))
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b'\0'))
            + chunk(b'IEND', b''))


@pytest.mark.parametrize('suffix', ['.png', '.bmp', '.tiff'])
def test_colour_is_rgb(tmp_path, suffix):
    path = tmp_path / f'a{suffix}'
    files.write_image(path, RGB)
    np.testing.assert_array_equal(files.read_image(path), RGB)
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], RGB)


def test_every_kind_of_picture_becomes_rgb(tmp_path):
    bgr, three_greys = RGB[..., ::-1], np.dstack([GREY] * 3)
    alpha = np.full((5, 7, 1), 90, np.uint8)
    for name, pixels, expected in (
            ('grey', GREY, three_greys), ('rgba', np.dstack([bgr, alpha]), RGB),
            ('sixteen', bgr.astype(np.uint16) * 257, RGB),
            ('grey16', GREY.astype(np.uint16) * 257, three_greys),
            ('rgba16', np.dstack([bgr, alpha]).astype(np.uint16) * 257, RGB)):
        image = files.read_image(put(tmp_path / f'{name}.png', np.ascontiguousarray(pixels)))
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, expected, err_msg=name)


def test_one_pixel(tmp_path):
    files.write_image(tmp_path / 'a.png', RGB[:1, :1])
    assert files.read_image(tmp_path / 'a.png').shape == (1, 1, 3)


@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
def test_ids_survive(tmp_path, kind):
    ids = np.array([[0, 1, np.iinfo(kind).max]], kind)
    files.write_image(tmp_path / 'a.png', ids)
    read = files.read_ids(tmp_path / 'a.png')
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, ids)


def test_ids_are_not_cut_down_silently(tmp_path):
    with pytest.raises(TypeError, match='not int32'):
        files.write_image(tmp_path / 'a.png', np.full((2, 2), 70000, np.int32))


@pytest.mark.parametrize('name, content, message', [
    ('empty.png', b'', 'empty.png is empty'),
    ('text.png', b'no image', 'text.png is not an image'),
    ('huge.png', png_of_size(60000, 60000), 'huge.png has 3,600,000,000 pixels, more than'),
    ('nothing_inside.png', png_of_size(50, 50), 'nothing_inside.png is not an image')],
    ids=['empty', 'text', 'huge', 'nothing inside'])
def test_what_is_no_picture(tmp_path, capfd, name, content, message):
    (tmp_path / name).write_bytes(content)
    for read in (files.read_image, files.read_ids):
        with pytest.raises(AdaptisError, match=message):
            read(tmp_path / name)
    assert 'global' not in capfd.readouterr().err  # OpenCV adds nothing to the sentence


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.bmp', '.tiff', '.webp'])
@pytest.mark.parametrize('share', [0.3, 0.7, 0.95])
def test_a_picture_cut_short(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    whole = put(tmp_path / f'a{suffix}', noise)
    data = whole.read_bytes()
    whole.write_bytes(data[:int(share * len(data))])
    with pytest.raises(AdaptisError, match='cut short'):
        files.read_image(whole)


def test_too_many_pixels_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, 'MAX_PIXELS', 34)
    with pytest.raises(AdaptisError, match='a.png has 35 pixels, more than 34'):
        files.read_image(put(tmp_path / 'a.png', RGB))


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(AdaptisError, match='absent.png cannot be read: No such file'):
        files.read_image(tmp_path / 'absent.png')
    with pytest.raises(AdaptisError, match='cannot be read: Is a directory'):
        files.read_image(tmp_path)
    with pytest.raises(AdaptisError, match='has float32 pixels'):
        files.read_image(put(tmp_path / 'a.tiff', GREY.astype(np.float32)))


def test_masks_that_are_none(tmp_path):
    with pytest.raises(AdaptisError, match='a.png has 3 channels, but an id mask has one'):
        files.read_ids(put(tmp_path / 'a.png', RGB))
    with pytest.raises(AdaptisError, match='float32 pixels, but an id mask needs integers'):
        files.read_ids(put(tmp_path / 'a.tiff', GREY.astype(np.float32)))


def test_listing_a_folder(tmp_path):
    for name in ('b.png', 'a.JPG', '.hidden.png', 'notes.txt'):
        (tmp_path / name).write_bytes(b'x')
    assert [p.name for p in files.list_images(tmp_path)] == ['a.JPG', 'b.png']
    assert files.list_images(tmp_path / 'notes.txt') == [tmp_path / 'notes.txt']
    (tmp_path / 'empty').mkdir()
    with pytest.raises(AdaptisError, match='empty contains no image'):
        files.list_images(tmp_path / 'empty')
    with pytest.raises(AdaptisError, match='nowhere does not exist'):
        files.list_images(tmp_path / 'nowhere')


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / 'below' / 'a.txt'
    with files.atomic_write(target) as temporary:
        temporary.write_text('first')
        assert temporary.suffix == '.txt' and not target.exists()
    assert target.stat().st_mode & 0o777 == 0o666 & ~_umask()
    with pytest.raises(RuntimeError), files.atomic_write(target) as temporary:
        temporary.write_text('second')
        raise RuntimeError
    assert target.read_text() == 'first'
    assert [p.name for p in target.parent.iterdir()] == ['a.txt']


def test_a_folder_is_exchanged_or_stays(tmp_path):
    target = tmp_path / 'folder'
    for text in ('first', 'second'):
        with files.atomic_folder(target, lambda path: True) as new:
            (new / 'a.txt').write_text(text)
    with pytest.raises(AdaptisError, match='folder cannot be written: No such file'), \
            files.atomic_folder(target, lambda path: True) as new:
        new.rmdir()   # so that nothing can be put in the place of the older one
    assert (target / 'a.txt').read_text() == 'second' and [*tmp_path.iterdir()] == [target]


def test_what_is_in_the_way(tmp_path):
    (tmp_path / 'file').write_text('mine')
    for target in (tmp_path / 'file' / 'a.txt', tmp_path / 'file' / 'below' / 'a.txt'):
        with pytest.raises(AdaptisError, match='there is a file where its folder should be'), \
                files.atomic_write(target):
            pass
    (tmp_path / 'folder').mkdir()
    with pytest.raises(AdaptisError, match='folder cannot be written: Is a directory'), \
            files.atomic_write(tmp_path / 'folder') as temporary:
        temporary.write_text('x')


@pytest.mark.parametrize('limit', [0, 300])
def test_a_full_disk_leaves_the_older_picture(tmp_path, limit):
    """A limit on the size of files stands in for the disk; a small picture fits its buffer."""
    path = tmp_path / 'a.png'
    files.write_image(path, RGB)
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(AdaptisError, match='a.png cannot be written: File too large'):
            files.write_image(path, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    np.testing.assert_array_equal(files.read_image(path), RGB)
    assert [p.name for p in tmp_path.iterdir()] == ['a.png']


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize('name, pixels, layout', [
    ('a.png', np.zeros((5, 7, 3), np.uint8), (3, 8)),
    ('a.jpg', np.zeros((5, 7, 3), np.uint8), (3, 8)),
    ('a.png', np.zeros((5, 7), np.uint16), (1, 16)),
    ('a.tiff', np.zeros((5, 7), np.uint16), (1, 16)),
    ('a.png', np.zeros((5, 7, 4), np.uint8), (4, 8)),
])
def test_a_header_tells_size_and_channels(tmp_path, name, pixels, layout):
    cv2.imwrite(str(tmp_path / name), pixels)
    assert files.read_header(tmp_path / name) == ((5, 7), layout, 1)
    assert files.read_stored(tmp_path / name)[1] == layout


@pytest.mark.parametrize('size', [(9, 10 ** 8), (2 ** 31 - 1, 2 ** 31 - 1)])
def test_the_header_of_a_huge_picture_is_an_answer_or_a_sentence(tmp_path, size, recwarn):
    header = struct.pack('>4sIIBBBBB', b'IHDR', *size, 8, 2, 0, 0, 0)
    chunk = struct.pack('>I', 13) + header + struct.pack('>I', zlib.crc32(header))
    (tmp_path / 'a.png').write_bytes(b'\x89PNG\r\n\x1a\n' + chunk)
    with pytest.raises(AdaptisError, match='a.png'):
        files.read_header(tmp_path / 'a.png')
    assert not recwarn.list


def test_a_json_file_and_what_is_none(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text('{"a": {"b": 1}}', encoding='utf-8')
    assert files.read_json(path) == {'a': {'b': 1}}
    assert files.read_json(path, object_hook=len) == 1
    for content, words in [(b'{"a": ', 'not valid JSON .line 1.* perhaps it is cut short'),
                           (b'\xff\xfe\x00', 'is not a JSON file'),
                           (b'[' * 100_000, 'a.json cannot be read as JSON')]:
        path.write_bytes(content)
        with pytest.raises(AdaptisError, match=words):
            files.read_json(path)
    with pytest.raises(AdaptisError, match='absent.json cannot be read: No such file'):
        files.read_json(tmp_path / 'absent.json')


@pytest.mark.timeout(20)
def test_a_device_without_end_is_refused():
    for read in (files.read_image, files.read_ids, files.read_json):
        with pytest.raises(AdaptisError, match='/dev/zero is a device, not a file'):
            read('/dev/zero')


def ordinary_png(kind: str, noise: bool, **options) -> bytes:
    """A PNG by Pillow, whose rows have every filter, or by OpenCV."""
    rng = np.random.default_rng(0)
    shape = (40, 33, len(kind))
    pixels = rng.integers(0, 256, shape) if noise else np.indices(shape).sum(axis=0)
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels.astype(np.uint8)).save(stream, 'PNG', **options)
    return stream.getvalue()


@pytest.mark.parametrize('kind', ['RGB', 'RGBA'])
@pytest.mark.parametrize('noise', [True, False])
def test_libspng_and_opencv_agree(tmp_path, monkeypatch, kind, noise):
    pytest.importorskip('pyspng', reason='the extra "fast" is not installed')
    path = tmp_path / 'a.png'
    path.write_bytes(ordinary_png(kind, noise))
    fast = files.read_image(path), *files.read_stored(path), files.read_colours(path)[0]
    monkeypatch.setattr(png, 'pyspng', None)
    for one, other in zip(fast, (files.read_image(path), *files.read_stored(path),
                                 files.read_colours(path)[0])):
        np.testing.assert_array_equal(one, other)


def test_only_ordinary_pngs_are_left_to_libspng():
    """It would read through damage, which OpenCV tells."""
    data = ordinary_png('RGB', True)
    assert image_bytes.is_ordinary_rgb(data, 40 * 33)
    assert not image_bytes.is_ordinary_rgb(data, 40 * 33 - 1)
    assert not image_bytes.is_ordinary_rgb(ordinary_png('RGB', True, transparency=(1, 2, 3)), 9999)
    middle = len(data) // 2
    damaged = data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1:]
    for other in (damaged, data[:-5], data[:20], b'', b'GIF89a' + data):
        assert not image_bytes.is_ordinary_rgb(other, 9999)
        assert png.decode_png(other, 9999) is None
