from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptis.commands.inputs import find_inputs
from adaptis.errors import AdaptisError


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A few files that nobody decodes."""
    for name in ('a.png', 'b.JPG', '.hidden.png', 'x/c.png', 'x/y/c.png', 'x/notes.txt',
                 '.cache/d.png', 'odd[1].png', 'results/overlay/a.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b'x')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listing(*arguments: str, **options) -> list:
    return [(p.image_id, p.file_name) for p in find_inputs(arguments, **options).pictures]


def test_folders_are_searched_with_their_subfolders_but_not_for_results(place):
    found = find_inputs(['.'], Path('results'))
    assert [p.file_name for p in found.pictures] == ['a.png', 'b.JPG', 'odd[1].png', 'x/c.png',
                                                     'x/y/c.png']
    assert [p.image_id for p in found.pictures] == [1, 2, 3, 4, 5]
    assert found.skipped == ['x/notes.txt (not an image)']
    assert listing('x') == [(1, 'c.png'), (2, 'y/c.png')]


def test_files_and_patterns(place):
    assert listing('b.JPG', 'a.png', './a.png') == [(1, 'b.JPG'), (2, 'a.png')]
    assert listing('*.png') == [(1, 'a.png'), (2, 'odd[1].png')]
    assert listing('odd[1].png') == [(1, 'odd[1].png')]
    assert listing('x/notes.txt') == [(1, 'notes.txt')]   # meant, so it is tried
    assert find_inputs(['x/*']).skipped == ['x/notes.txt (not an image)']


def test_equal_names_keep_as_many_folders_as_they_need(place):
    assert listing('x/**/*.png') == [(1, 'c.png'), (2, 'y/c.png')]
    assert listing('x/c.png', 'x/y/c.png', 'a.png') == [
        (1, 'x/c.png'), (2, 'x/y/c.png'), (3, 'a.png')]


@pytest.mark.parametrize('arguments, message', [
    (['nowhere.png'], 'nowhere.png does not exist'), (['*.gif'], r'\*.gif matches no file'),
    (['.cache'], None), (['x/notes*'], 'contains no image')])
def test_what_is_not_there_is_told(place, arguments, message):
    if message is None:
        assert listing(*arguments) == [(1, 'd.png')]
    else:
        with pytest.raises(AdaptisError, match=message):
            find_inputs(arguments)


def write_list(images: list) -> Path:
    Path('list.json').write_text(json.dumps({'images': images}), encoding='utf-8')
    return Path('list.json')


def test_ids_and_names_from_a_file(place):
    source = write_list([{'id': 9, 'file_name': 'y/c.jpg'}, {'id': 'one', 'file_name': 'a.png'}])
    found = find_inputs(['a.png', 'x'], images_from=source)
    assert [(str(p.path), p.image_id, p.file_name) for p in found.pictures] == [
        ('x/y/c.png', 9, 'y/c.jpg'), ('a.png', 'one', 'a.png')]
    assert 'x/c.png (not in list.json)' in found.skipped


@pytest.mark.parametrize('images, message', [
    ([{'id': 1, 'file_name': 'gone.png'}], '1 of them cannot be matched.*such as gone.png'),
    ([{'id': 1, 'file_name': 'deep/c.png'}], '1 of them cannot be matched.*such as deep/c.png'),
    ([{'id': 1, 'file_name': 'a.png'}, {'id': 2, 'file_name': 'q/a.png'}], 'such as q/a.png'),
    ([{'id': 1, 'file_name': 'a.png'}, {'id': '1', 'file_name': 'b.JPG'}], 'an image id twice'),
    ([{'id': 1}], '"file_name" is missing'), ([3], 'has no list "images"')])
def test_lists_that_do_not_fit(place, images, message):
    with pytest.raises(AdaptisError, match=message):
        find_inputs(['.'], images_from=write_list(images))
