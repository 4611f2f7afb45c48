"""``.npz`` files: arrays are read, programs and zip bombs are refused."""
from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from adaptis import npz
from adaptis.npz import NPZ_ERRORS, read_npz


def test_arrays_come_back(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / 'a.npz', a=np.arange(3), b=np.ones((2, 2), np.float32))
    found = read_npz(tmp_path / 'a.npz')
    assert found['a'].tolist() == [0, 1, 2] and found['b'].dtype == np.float32


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / 'a.npz', a=np.array([print], dtype=object))
    with pytest.raises(ValueError, match='allow_pickle=False'):
        read_npz(tmp_path / 'a.npz')


def test_a_small_file_cannot_fill_the_memory(tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / 'bomb.npz', a=np.zeros(3_000_000))
    assert (tmp_path / 'bomb.npz').stat().st_size < 100_000
    monkeypatch.setattr(npz, 'MOST_BYTES', 20_000_000)
    with pytest.raises(ValueError, match='contains more than'):
        read_npz(tmp_path / 'bomb.npz')


def test_an_array_that_is_larger_than_its_file_says(tmp_path: Path) -> None:
    """A header may promise any shape; memory is taken only for what is there."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {'descr': '<f8', 'fortran_order': False, 'shape': (10 ** 12,)})
    with zipfile.ZipFile(tmp_path / 'a.npz', 'w') as archive:
        archive.writestr('a.npy', header.getvalue() + bytes(80))
    with pytest.raises(NPZ_ERRORS):
        read_npz(tmp_path / 'a.npz')


@pytest.mark.parametrize('member', [
    b'no array', b"\x93NUMPY\x01\x00\x08\x00{'a\0': (", b'\x93NUMPY\x01\x00\x04\x00(((\n',
    b'\x93NUMPY\x01\x00\x10\x27' + b'-' * 9999 + b'\n'])
def test_members_that_are_no_arrays(tmp_path: Path, member: bytes) -> None:
    with zipfile.ZipFile(tmp_path / 'a.npz', 'w') as archive:
        archive.writestr('a.npy', member)
    with pytest.raises(NPZ_ERRORS):
        read_npz(tmp_path / 'a.npz')
