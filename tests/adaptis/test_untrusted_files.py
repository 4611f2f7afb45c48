"""What files of others must not reach: memory without bounds, and places outside of a folder."""
from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from adaptis.cli import main
from adaptis.files import atomic_write, write_image
from tests.miniatures import write_coco, write_instances

SIDE = 30_000


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack('>I', len(content)) + name + content + struct.pack(
        '>I', zlib.crc32(name + content))


def test_a_decompression_bomb_takes_no_memory(tmp_path: Path) -> None:
    """A PNG of 110 kB with 900 million pixels, in a process that could not hold them."""
    rows = zlib.compress(bytes((SIDE // 8 + 1) * SIDE), 9)
    (tmp_path / 'bomb.png').write_bytes(b''.join([
        b'\x89PNG\r\n\x1a\n', chunk(b'IHDR', struct.pack('>IIBBBBB', SIDE, SIDE, 1, 0, 0, 0, 0)),
        chunk(b'IDAT', rows), chunk(b'IEND', b'')]))
    assert (tmp_path / 'bomb.png').stat().st_size < 150_000
    code = ('import resource, sys; from adaptis.errors import AdaptisError\n'
            'from adaptis.files import read_header, read_image\n'
            'before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n'
            'for read in read_image, read_header:\n'
            '    try: read(sys.argv[1])\n'
            '    except AdaptisError as error: print(error)\n'
            'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)')
    told = subprocess.run([sys.executable, '-c', code, str(tmp_path / 'bomb.png')], check=True,
                          capture_output=True, text=True).stdout.splitlines()
    assert 'pixels' in told[0] and int(told[-1]) < 50_000   # KiB


def test_names_in_a_json_do_not_lead_out_of_the_folder_that_is_written(tmp_path: Path) -> None:
    write_coco(tmp_path / 'data', splits=('val',), images=2, size=(24, 32))
    write_instances(tmp_path / 'data', splits=('val',), images=2, size=(24, 32))
    shutil.rmtree(tmp_path / 'data' / 'annotations' / 'panoptic_val2017')
    (tmp_path / 'data' / 'annotations' / 'panoptic_val2017.json').unlink()
    path = tmp_path / 'data' / 'annotations' / 'instances_val2017.json'
    content = json.loads(path.read_text())
    for image in content['images']:
        image['file_name'] = f'../val2017/{image["file_name"]}'
    path.write_text(json.dumps(content))
    before = set(tmp_path.rglob('*'))
    assert main(['import', str(tmp_path / 'data'), '--out', str(tmp_path / 'new' / 'out')]) == 0
    written = set(tmp_path.rglob('*')) - before
    assert any(path.suffix == '.jpg' for path in written)
    assert all(path == tmp_path / 'new' or tmp_path / 'new' / 'out' in [path, *path.parents]
               for path in written)


@pytest.mark.parametrize('write', [
    lambda path: write_image(path, np.zeros((4, 5), np.uint8)),
    lambda path: _write_text(path)])
def test_a_link_in_the_place_of_a_result_is_replaced_and_not_followed(tmp_path: Path, write
                                                                      ) -> None:
    secret = tmp_path / 'secret.png'
    secret.write_text('mine')
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'a.png').symlink_to(secret)
    write(tmp_path / 'out' / 'a.png')
    assert secret.read_text() == 'mine' and not (tmp_path / 'out' / 'a.png').is_symlink()


def _write_text(path: Path) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text('new')


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-16'])
def test_entities_of_xml_are_not_expanded(tmp_path: Path, capsys: pytest.CaptureFixture,
                                          encoding: str) -> None:
    text = (f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [<!ENTITY b "c">]>'
            '<annotation><filename>&b;</filename></annotation>')
    (tmp_path / 'a.xml').write_bytes(text.encode(encoding))
    assert main(['import', str(tmp_path / 'a.xml'), '--out', str(tmp_path / 'out')]) == 1
    assert 'declares a document type' in capsys.readouterr().err
