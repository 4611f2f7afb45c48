"""The small golden set matches the full set, and samples of arrays are compared as such."""
from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.golden import make, weights
from tests.golden.reading import (
    KEPT,
    SMALL_SET,
    Absent,
    Arrays,
    Cases,
    absent_means_skip,
    places,
    stored,
)

FILES = sorted(str(path.relative_to(SMALL_SET)) for path in SMALL_SET.rglob('*') if path.is_file())


@pytest.fixture
def written(tmp_path):
    """A full folder of one sampled file, and the small set of it."""
    values = np.random.RandomState(1).standard_normal((4, 20, 30)).astype(np.float32)
    path = tmp_path / 'full' / 'condinst' / 'case_b.npz'
    path.parent.mkdir(parents=True)
    np.savez(path, p3=values, det_boxes=values, labels=np.arange(2000))
    for name in make.SAMPLED:
        (tmp_path / 'full' / name).parent.mkdir(parents=True, exist_ok=True)
        if name != 'condinst/case_b.npz':
            np.savez(tmp_path / 'full' / name, p3=values[0, 0])
    make.make(tmp_path / 'full', tmp_path / 'small')
    return values, tmp_path / 'small'


def test_equals_what_the_full_data_give(full_parity):
    names = make.chosen(full_parity)
    assert sorted(map(make.place, names)) == FILES
    for name in names:
        if name.endswith('.npz'):
            expected = make.reduced(full_parity, name)
            with np.load(SMALL_SET / name, allow_pickle=False) as file:
                assert file.files == list(expected), name
                for key, array in expected.items():
                    assert file[key].dtype == array.dtype, (name, key)
                    np.testing.assert_array_equal(file[key], array, f'{key} of {name}')
        else:
            found = (SMALL_SET / make.place(name)).read_bytes()
            assert found == make.content(full_parity, name), name


def test_weights_are_those_of_the_full_data(full_parity):
    spec = importlib.util.spec_from_file_location('full_weights', full_parity / 'weights.py')
    full = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(full)
    for rule in ('weight', 'weight:2', 'scale', 'bias', 'mean', 'var', 'const:3', 'linspace',
                 'bilinear'):
        for shape in ((3, 2, 4, 4), (0, 1, 4, 4)):
            np.testing.assert_array_equal(weights.fill('a.b', shape, rule),
                                          full.fill('a.b', shape, rule), rule)


def test_it_is_small_and_all_of_it_is_committed_data():
    assert sum((SMALL_SET / name).stat().st_size for name in FILES) <= make.LIMIT
    assert {Path(name).suffix for name in FILES} == {*make.SUFFIXES, weights.PACKED}
    assert {name.partition('/')[0] for name in FILES} == {
        'adaptis', 'condinst', 'panoptic_fpn', 'realtime', 'unified'}


def test_a_sample_has_unrounded_values_at_known_places(written):
    values, small = written
    arrays = Arrays.load(small / 'condinst' / 'case_b.npz')
    kept = ~np.isnan(arrays['p3'])
    assert arrays['p3'].shape == values.shape and KEPT * 0.9 < kept.sum() <= KEPT
    assert set(np.flatnonzero(kept)) == set(places(values.shape))
    np.testing.assert_array_equal(arrays['p3'][kept], values[kept])
    np.testing.assert_array_equal(arrays['det_boxes'], values)
    np.testing.assert_array_equal(arrays['labels'], np.arange(2000))


def test_the_same_data_give_the_same_bytes(written, tmp_path):
    _, small = written
    make.make(tmp_path / 'full', tmp_path / 'again')
    for path in small.rglob('*.npz'):
        assert path.read_bytes() == (tmp_path / 'again' / path.relative_to(small)).read_bytes()
        with zipfile.ZipFile(path) as archive:
            assert {member.date_time[0] for member in archive.infolist()} == {1980}


def test_only_what_was_kept_is_compared(written):
    values, small = written
    sample = Arrays.load(small / 'condinst' / 'case_b.npz')['p3']
    np.testing.assert_array_equal(*stored(values, sample))
    other = values.copy()
    other.flat[places(values.shape)[7]] += 1
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(*stored(other, sample))
    with pytest.raises(AssertionError):
        stored(values[:1], sample)
    with pytest.raises(AssertionError, match='no value here'):
        stored(values, np.full_like(values, np.nan))


def test_what_is_absent_skips_in_the_small_set_alone(written):
    small = Arrays.load(SMALL_SET / 'condinst' / 'case_b.npz')
    sentence = (r'needs all of "p3" of condinst/case_b\.npz, which the small set in tests/golden '
                'lacks: set ADAPTIS_PARITY to the full golden data')
    for ask, match in ((lambda: small.whole('p3'), sentence),
                       (lambda: small['?'], r'needs "\?" of'),
                       (lambda: np.load(SMALL_SET / 'a.npz'), r'needs a\.npz, which')):
        with pytest.raises(pytest.skip.Exception, match=match), absent_means_skip():
            ask()
    elsewhere = Arrays.load(written[1] / 'condinst' / 'case_b.npz')
    with pytest.raises(Absent, match='does not hold "labels2"'), absent_means_skip():
        elsewhere['labels2']
    with pytest.raises(FileNotFoundError), absent_means_skip():
        np.load(written[1] / 'a.npz')


def test_cases_are_read_when_asked_for():
    read = []
    cases = Cases(lambda name: read.append(name) or name)
    assert read == [] and cases['a'] == cases['a'] == 'a' and read == ['a']


def test_the_program_says_what_is_wrong(tmp_path):
    for folder, sentence in ((tmp_path / 'none', 'is no folder.'), (tmp_path, 'No such file')):
        done = subprocess.run([sys.executable, '-m', 'tests.golden.make', str(folder)],
                              cwd=SMALL_SET.parents[2], capture_output=True, text=True)
        assert done.returncode == 1 and sentence in done.stderr and 'Traceback' not in done.stderr
