"""Networks that are named: found in a checkout, or fetched once and checked."""
from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from adaptis import weights
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import ROOT, sha256

CONTENT = {'.params': b'parameters', '.json': b'{}'}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installation without the files of 'small'; its release is a folder."""
    small = weights.Weights('nowhere', 'small', 0.1, {
        ending: hashlib.sha256(data).hexdigest() for ending, data in CONTENT.items()})
    monkeypatch.setitem(weights.FETCHED, 'small', small)
    monkeypatch.setenv(weights.CACHE, str(tmp_path / 'cache'))
    release = tmp_path / 'release'
    release.mkdir()
    for ending, data in CONTENT.items():
        (release / f'small{ending}').write_bytes(data)
    return release


def test_a_checkout_has_them_with_these_digests():
    for name, known in weights.FETCHED.items():
        path = Path(weights.find_weights(name))
        assert {ending: sha256(path.with_suffix(ending)) for ending in known.digests} == \
            known.digests, f'update the digests of {name}'
        assert path == ROOT / known.folder / f'{known.file}.params'
        assert abs(path.stat().st_size / 1e6 - known.megabytes) < 0.1


def test_what_is_no_name_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('toy_street').touch()
    assert weights.find_weights('toy_street') == 'toy_street'   # a file of that name
    assert weights.find_weights(None) is None and weights.find_weights('toy_v1') == 'toy_v1'


def test_they_are_fetched_once(installed, monkeypatch):
    monkeypatch.setenv(weights.RELEASE, str(installed))
    path = weights.find_weights('small')
    assert path.read_bytes() == CONTENT['.params']
    assert path.with_suffix('.json').read_bytes() == CONTENT['.json']
    monkeypatch.setenv(weights.RELEASE, '/nowhere')
    assert weights.find_weights('small') == path


def test_another_file_is_refused_and_not_kept(installed, monkeypatch):
    (installed / 'small.params').write_bytes(b'something else')
    monkeypatch.setenv(weights.RELEASE, str(installed))
    with pytest.raises(AdaptisError, match='its SHA-256 differs'):
        weights.find_weights('small')
    assert not list((installed.parent / 'cache').glob('small.params'))


@pytest.mark.parametrize('release, text', [
    (None, 'is not in the wheel. Set ADAPTIS_RELEASE'),
    ('/nowhere', 'cannot be downloaded (No such file or directory)'),
    ('http://localhost/files', 'only https is allowed'),
    ('https://localhost:1/files', 'check your connection'),
])
def test_without_the_release_it_says_what_to_do(installed, monkeypatch, release, text):
    monkeypatch.delenv(weights.RELEASE, raising=False)
    if release:
        monkeypatch.setenv(weights.RELEASE, release)
    with pytest.raises(AdaptisError) as error:
        weights.find_weights('small')
    assert text in str(error.value)


def test_a_predictor_by_name():
    from adaptis import load_predictor
    assert len(load_predictor('toy_street').taxonomy) == 8
