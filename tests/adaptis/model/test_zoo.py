"""Checkpoint files: what is written can be read, and errors name the problem."""
from __future__ import annotations

import json
import resource

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.model import get_model, load_model, save_model
from adaptis.runtime import mx


@pytest.fixture
def saved(tmp_path):
    net = get_model('adaptis_toy', width=4, coordinates='absolute')
    net.initialize(mx.init.Xavier())
    path = tmp_path / 'net.params'
    save_model(net, path, {'commit': 'abc'})
    return net, path


def test_round_trip(saved):
    net, path = saved
    image, points = mx.nd.random.uniform(0, 255, (1, 3, 16, 24)), mx.nd.array([[[3, 4], [9, 20]]])
    expected = net(image, points)
    loaded = load_model(path)
    for a, b in zip(loaded(image, points), expected):
        np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())
    assert json.loads(path.with_suffix('.json').read_text())['commit'] == 'abc'


def test_half_precision_halves_the_file(saved, tmp_path):
    net, path = saved
    half = tmp_path / 'half.params'
    save_model(net, half, dtype='float16')
    assert half.stat().st_size < 0.6 * path.stat().st_size
    loaded = load_model(half).point_head.first.weight.data()
    assert loaded.dtype == np.float32
    np.testing.assert_allclose(loaded.asnumpy(), net.point_head.first.weight.data().asnumpy(),
                               atol=1e-3)


def _cut(path):
    path.write_bytes(path.read_bytes()[:1000])


def _no_sidecar(path):
    path.with_suffix('.json').unlink()


def _broken_sidecar(path):
    path.with_suffix('.json').write_text('{')


def _other_width(path):
    path.with_suffix('.json').write_text('{"model": {"name": "adaptis_toy", "width": 8}}')


def _nameless(path):
    path.with_suffix('.json').write_text('{"model": {"width": 8}}')


def _nan(path):
    arrays = mx.nd.load(str(path))
    arrays['point_head.first.bias'][:] = np.nan
    mx.nd.save(str(path), arrays)


def _gone(path):
    path.unlink()


def _folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize('damage, message', [
    (_cut, 'cut short'), (_no_sidecar, 'net.json cannot be read'), (_broken_sidecar, 'not JSON'),
    (_other_width, 'another network'), (_nameless, 'needs a "name"'), (_nan, 'not finite'),
    (_gone, 'does not exist'), (_folder, 'is a folder')])
def test_damaged_checkpoints_are_named(saved, damage, message):
    damage(saved[1])
    with pytest.raises(AdaptisError, match=message):
        load_model(saved[1])


@pytest.mark.parametrize('text, message', [
    ('[]', 'contains no description'), ('"text"', 'contains no description'), ('\xff', 'not JSON'),
    ('{}', 'needs a "name"'), ('{"model": [1]}', 'needs a "name"'),
    ('{"model": {"name": ["a"]}}', 'no network'), ('{"model": {"name": "other"}}', 'no network'),
    ('{"model": {"name": "adaptis_toy", "depth": 5}}', 'no option depth'),
    ('{"model": {"name": "adaptis_toy", "width": "4"}}', "width is '4'"),
    ('{"model": {"name": "adaptis_toy", "width": null}}', 'width is None'),
    ('{"model": {"name": "adaptis_toy", "mean": 0.5}}', 'mean is 0.5'),
    ('{"model": {"name": "adaptis_toy", "proposals": "yes"}}', "proposals is 'yes'")])
def test_descriptions_of_the_wrong_shape_are_named(saved, text, message):
    saved[1].with_suffix('.json').write_bytes(text.encode('latin-1'))
    with pytest.raises(AdaptisError, match=f'net.json.*{message}'):
        load_model(saved[1])


def test_paths_that_name_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path, message in (('.', 'is a folder'), ('absent', 'absent does not exist')):
        with pytest.raises(AdaptisError, match=message):
            load_model(path)


@pytest.mark.parametrize('left', [10, 2000, -1])
def test_a_full_disk_leaves_the_older_checkpoint(saved, left):
    """A limit on the size of files stands in for the disk; -1: the very last byte is missing."""
    net, path = saved
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left % len(before), hard))
    try:
        with pytest.raises(AdaptisError, match=r'net\.(params|json) cannot be written'):
            save_model(net, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ['net.json', 'net.params']
