"""YAML of others: plain data, every key once, bounded in size."""
from __future__ import annotations

import pytest

from adaptis.cli import main
from adaptis.errors import AdaptisError
from adaptis.yaml_files import parse_yaml, read_yaml

BOMB = 'a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n' + ''.join(
    f'a{i}: &a{i} [{", ".join([f"*a{i - 1}"] * 10)}]\n' for i in range(1, 30))


def refusal(text: str) -> str:
    with pytest.raises(ValueError) as caught:
        parse_yaml(text)
    return str(caught.value)


@pytest.mark.parametrize('text, key, line', [
    ('a: 1\nb: 2\na: 1\n', 'a', 3), ('x:\n  points: 9\n  steps: 1\n  points: 4\n', 'points', 4),
    ('{a: 1, "a": 2}', 'a', 1), ('- {b: [{c: 1, c: 1}]}', 'c', 1)])
def test_a_key_that_stands_twice_is_refused(text, key, line):
    message = refusal(text)
    assert f'has the duplicate key "{key}" in line {line}' in message


def test_keys_that_only_look_alike():
    assert parse_yaml('1: a\n"1": b\nc: {1: d}\n') == {1: 'a', '1': 'b', 'c': {1: 'd'}}


def test_what_an_alias_brings_may_be_replaced():
    text = 'base: &base {a: 1, b: 2}\nx: {<<: *base, b: 3}\ny: *base\n'
    assert parse_yaml(text) == {'base': {'a': 1, 'b': 2}, 'x': {'a': 1, 'b': 3},
                                'y': {'a': 1, 'b': 2}}


@pytest.mark.timeout(20)
@pytest.mark.parametrize('text', [BOMB, 'a: &a [*a, *a]'])
def test_aliases_cannot_grow_without_bounds(text):
    assert 'has more than 1,000,000 values with its aliases expanded' in refusal(text)


@pytest.mark.parametrize('text', ['{', 'a: b: c', '!!python/object/apply:os.system [echo]',
                                  '!!int "x"', '\0', '[' * 5000, 'a: 2020-13-40'])
def test_what_is_not_plain_data(text):
    assert 'is not YAML' in refusal(text)


def test_an_empty_document():
    assert parse_yaml('') is None


def test_files_are_named(tmp_path):
    path = tmp_path / 'a.yaml'
    for content, reason in ((b'\xef\xbb\xbfa: 1', None), (b'\xff\xfe', 'not UTF-8 text'),
                            (b'a: 1\na: 2', 'the duplicate key "a"')):
        path.write_bytes(content)
        if reason is None:
            assert read_yaml(path) == {'a': 1}   # with a byte order mark
            continue
        with pytest.raises(AdaptisError, match=reason) as caught:
            read_yaml(path)
        assert str(path) in str(caught.value)


def test_a_training_is_refused_before_it_starts(tmp_path, capsys):
    path = tmp_path / 'a.yaml'
    path.write_text('model: {name: adaptis_toy}\ninference: {preset: toy_v1}\n'
                    'inference: {preset: toy_v1_cpu}\n')
    assert main(['train', str(path), '--output', str(tmp_path / 'run')]) == 1
    message = capsys.readouterr().err
    assert f'{path} has the duplicate key "inference"' in message and 'line 3' in message
    assert not (tmp_path / 'run').exists()
    assert main(['train', str(path), '--set', 'a={b: 1, b: 2}']) == 1
    assert 'the duplicate key "' in capsys.readouterr().err
