"""The benchmarks of data loading, on small data sets."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaptis.errors import AdaptisError
from adaptis.evaluation.pq import compute_record_overlap
from experiments.benchmarks import loader, pq, size

SMALL = 40, 56


def test_the_plain_way_counts_the_same_segments(tmp_path: Path) -> None:
    data = pq.load(*pq.write_pairs(tmp_path, 3, SMALL, 'Pillow'))
    ours = pq.our_quality(compute_record_overlap(*pair) for pair in data.pairs)
    plain = pq.plain_quality(data.maps, data.kinds)
    assert sum(counts[1] for counts in ours.values()) > 5      # matches
    assert sum(counts[2] + counts[3] for counts in ours.values()) > 0
    pq._check_equal(ours, plain)
    for both, maps in zip(data.paths, data.maps):
        np.testing.assert_array_equal([pq.plain_map(path) for path in both], maps)
    plain[next(k for k, counts in ours.items() if counts[1])][1] += 1
    with pytest.raises(AdaptisError, match='in the plain way'):
        pq._check_equal(ours, plain)


@pytest.mark.parametrize('system', loader.SYSTEMS)
def test_batches_of_each_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                system: str) -> None:
    loader.write_coco(tmp_path, 2, SMALL)
    monkeypatch.setattr(loader, 'SHORT_SIDES', (48,))
    monkeypatch.setattr(loader, 'BATCHES', 1)
    for part in (loader.decode, loader.read, loader.batches):
        part(str(tmp_path), system)
    batch = loader.make_source(str(tmp_path), system).batch(0)
    assert batch['sizes'].min() == 48 and (batch['classes'] >= 0).sum() > 5


def test_large_data_sets_are_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, 'COCO_SIZE', SMALL)
    monkeypatch.setattr(size, 'VISTAS_SIZE', SMALL)
    size.write_large_coco(tmp_path / 'coco', 5)
    size.write_vistas(tmp_path / 'vistas', 5)
    for kind, annotation in (('coco', 'panoptic'), ('coco', 'instances'), ('vistas', 'panoptic')):
        found = size._open(kind, str(tmp_path / kind), annotation)
        assert found['images'] == 5 and found['sent to a worker, MiB'] < 0.1
    assert size._crops(str(tmp_path / 'vistas'))['crops per second'] > 0
