from __future__ import annotations

import pytest

from adaptis.names import Claims, result_names


@pytest.mark.parametrize('files, names', [
    (['a.jpg', 'b.png'], ['a', 'b']),
    (['cam0/frame.png', 'cam1/frame.png', 'cam2/frame.png'],
     ['cam0/frame', 'cam1/frame', 'cam2/frame']),
    (['a.jpg', 'a.png', 'b.png'], ['a.jpg', 'a.png', 'b']),
    (['a.jpg', 'A.JPG', 'a.JPG'], ['a.jpg', 'A.JPG-2', 'a.JPG-3']),
    (['a.png', 'a.bmp', 'a.png.jpg'], ['a.png-2', 'a.bmp', 'a.png']),
    (['../../etc/passwd', '/etc/passwd.png', 'C:\\x\\y.png', './a/../b.png', '..', '/'],
     ['etc/passwd-2', 'etc/passwd.png', 'C:/x/y', 'a/b', 'image-2', 'image-3']),
    ([], [])])
def test_names_keep_folders_and_are_never_the_same(files, names):
    found = result_names(files)
    assert len({name.casefold() for name in found}) == len(files)
    if 'image-2' not in names:
        assert found == names
    assert not any(part in ('', '..') for name in found for part in name.split('/'))


def test_names_that_are_claimed_one_after_another():
    claims = Claims()
    assert [claims.claim(name) for name in ('a.jpg', 'a.png', 'x/a.png', 'a.png', 'a.png.jpg')] == [
        'a', 'a.png', 'x/a', 'a.png-2', 'a.png.jpg']
