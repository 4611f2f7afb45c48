"""Files: layout, independence of count and workers, resuming, refusing, nothing half written."""
import errno
import json
import os

import cv2
import numpy as np
import pytest

import toy_data.writer
from toy_data import ToySettings, generate, render

SETTINGS = ToySettings.default('v1', height=40, width=40, min_objects=2, max_objects=4)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_layout_of_the_authors(tmp_path):
    assert generate(SETTINGS, tmp_path / 'toy', {'train': 2, 'test': 1}) == 3
    assert sorted(contents(tmp_path / 'toy')) == [
        'test/00000_im.png', 'test/00000_rgb.png', 'toy.json', 'train/00000_im.png',
        'train/00000_rgb.png', 'train/00001_im.png', 'train/00001_rgb.png']
    image, ids = render(SETTINGS, 'train', 1)
    path = tmp_path / 'toy' / 'train'
    assert (cv2.imread(str(path / '00001_rgb.png'))[..., ::-1] == image).all()
    stored = cv2.imread(str(path / '00001_im.png'), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16 and (stored == ids).all()


def test_files_depend_on_neither_count_nor_workers(tmp_path):
    generate(SETTINGS, tmp_path / 'one', {'train': 40}, workers=1)
    generate(SETTINGS, tmp_path / 'two', {'train': 40}, workers=2)
    generate(SETTINGS, tmp_path / 'few', {'train': 3})
    one, two, few = (contents(tmp_path / name) for name in ('one', 'two', 'few'))
    assert one == two
    few.pop('toy.json')
    assert few.items() < one.items()


def test_resumes_and_extends(tmp_path):
    generate(SETTINGS, tmp_path, {'train': 6})
    whole = contents(tmp_path)
    (tmp_path / 'train/00002_rgb.png').unlink()
    (tmp_path / 'train/00004_im.png').write_bytes(whole['train/00004_im.png'][:-20])
    (tmp_path / 'train/.00005_im.png.part').write_bytes(b'left by a killed process')
    (tmp_path / 'train/00005_im.png').unlink()
    kept = os.stat(tmp_path / 'train/00000_rgb.png').st_mtime_ns
    assert generate(SETTINGS, tmp_path, {'train': 6}) == 3
    assert contents(tmp_path) == whole
    assert os.stat(tmp_path / 'train/00000_rgb.png').st_mtime_ns == kept
    assert generate(SETTINGS, tmp_path, {'train': 8, 'test': 1}) == 3
    assert generate(SETTINGS, tmp_path, {'train': 2}) == 0
    assert json.loads((tmp_path / 'toy.json').read_text())['splits'] == {'train': 8, 'test': 1}


def test_progress_counts_up_from_what_is_there(tmp_path):
    generate(SETTINGS, tmp_path, {'train': 2})
    calls = []
    generate(SETTINGS, tmp_path, {'train': 4}, progress=lambda *call: calls.append(call))
    assert calls == [('train', 2, 4), ('train', 3, 4), ('train', 4, 4)]


def test_refuses_a_folder_with_other_content(tmp_path):
    (tmp_path / 'thesis.txt').write_text('mine')
    with pytest.raises(ValueError, match='holds something other'):
        generate(SETTINGS, tmp_path, {'train': 1})
    assert sorted(contents(tmp_path)) == ['thesis.txt']


@pytest.mark.parametrize('changes', [{'seed': 1}, {'width': 41}, {'version': 'v2'}])
def test_refuses_other_settings(tmp_path, changes):
    generate(SETTINGS, tmp_path, {'train': 1})
    before = contents(tmp_path)
    other = ToySettings(**{**vars(SETTINGS), **changes})
    with pytest.raises(ValueError, match='was generated with ' + next(iter(changes))):
        generate(other, tmp_path, {'train': 1})
    assert contents(tmp_path) == before


def test_a_failed_start_does_not_block_other_settings(tmp_path):
    crowded = ToySettings.default('v1', height=20, width=20, min_objects=13, max_objects=13)
    with pytest.raises(ValueError, match='do not fit'):
        generate(crowded, tmp_path, {'train': 1})
    assert generate(SETTINGS, tmp_path, {'train': 1}) == 1


def test_refuses_a_file_a_broken_manifest_and_no_images(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(ValueError, match='is a file'):
        generate(SETTINGS, tmp_path / 'file', {'train': 1})
    (tmp_path / 'bad').mkdir()
    (tmp_path / 'bad/toy.json').write_text('{"settings"')
    with pytest.raises(ValueError, match='JSON'):
        generate(SETTINGS, tmp_path / 'bad', {'train': 1})
    (tmp_path / 'bad/toy.json').write_text('[]')
    with pytest.raises(ValueError, match='not a manifest'):
        generate(SETTINGS, tmp_path / 'bad', {'train': 1})
    with pytest.raises(ValueError, match='at least 1'):
        generate(SETTINGS, tmp_path / 'new', {'train': 0})
    assert not (tmp_path / 'new').exists()


def die(index):
    os.kill(os.getpid(), 9)


def test_a_killed_process_is_an_error_not_a_hang():
    with pytest.raises(ValueError, match='was killed'):
        list(toy_data.writer._run(die, range(40), workers=2))


def test_unwritable_folder(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(ValueError, match='cannot be'):
        generate(SETTINGS, tmp_path / 'file' / 'below', {'train': 1})


def test_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    generate(SETTINGS, tmp_path, {'train': 1})

    def full(self, data):
        with open(self, 'wb') as stream:
            stream.write(data[:5])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = contents(tmp_path)
    monkeypatch.setattr(toy_data.writer.Path, 'write_bytes', full)
    with pytest.raises(ValueError, match='No space left'):
        generate(SETTINGS, tmp_path, {'train': 1, 'test': 1})
    assert contents(tmp_path) == before
