from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from evaluation_cases import TAXONOMY
from random_cases import random_images

from adaptis.errors import AdaptisError
from adaptis.evaluation.miou import semantic_map
from adaptis.evaluation.run import Evaluator
from adaptis.evaluation.shards import Shard
from adaptis.types import TOY_TAXONOMY, PanopticResult, Taxonomy

RUN = {'data': 'made up', 'settings': {'flip': True, 'tile': (4, 5)}}


def numbers(value):
    """All leaves of a result by their path; NaN as text, because it differs from itself."""
    if isinstance(value, dict):
        return {f'{k}.{p}': leaf for k, v in value.items() for p, leaf in numbers(v).items()}
    if isinstance(value, list):
        return numbers(dict(enumerate(value)))
    return {'': 'NaN' if isinstance(value, float) and math.isnan(value) else value}


def evaluator_of(triples, indices, **options):
    evaluator = Evaluator(TAXONOMY, {**RUN, **options}, cityscapes=True)
    for index in indices:
        truth, found, crowd = triples[index]
        if index % 3 == 0:
            found = PanopticResult(found.segment_map, found.segments,
                                   semantic=np.roll(semantic_map(truth, TAXONOMY), 1))
        evaluator.add(index, truth, found, crowd)
    return evaluator


@pytest.fixture(scope='module')
def triples():
    return list(random_images(15, cell=11))  # objects large enough for Cityscapes' AP


@pytest.fixture(scope='module')
def whole(triples):
    return numbers(evaluator_of(triples, range(len(triples))).result())


def save_all(triples, folder, count=3):
    paths = [folder / f'{k}.npz' for k in range(1, count + 1)]
    for k, path in enumerate(paths, start=1):
        shard = Shard(k, count)
        evaluator_of(triples, shard.indices(len(triples))).save(path, shard)
    return paths


@pytest.mark.parametrize('count', [1, 2, 3, 4, 5])
def test_any_split_in_any_order_is_exactly_the_whole(triples, whole, tmp_path, count):
    rng = np.random.default_rng(count)
    for _ in range(4):
        part_of = rng.integers(0, count, len(triples))
        paths = [tmp_path / f'{k}.npz' for k in range(count)]
        for k, path in enumerate(paths):
            mine = rng.permutation(np.flatnonzero(part_of == k)).tolist()
            evaluator_of(triples, mine).save(path, Shard(k + 1, count))
        merged = Evaluator.merge_files([paths[k] for k in rng.permutation(count)])
        assert numbers(merged.result()) == whole
    assert whole['images.'] == 15 and 0 < whole['ap_by_class.ap.'] < 1
    assert 0 < whole['ap_cityscapes.ap.'] < 1


def test_the_shards_of_a_data_set_are_its_images():
    shards = [Shard.parse(f'{k}/4') for k in (1, 2, 3, 4)]
    parts = [list(s.indices(10)) for s in shards]
    assert sorted(i for part in parts for i in part) == list(range(10))
    assert {len(p) for p in parts} == {2, 3}
    assert str(shards[1]) == '2/4'


@pytest.mark.parametrize('text', ['', '3', '0/2', '3/2', '1/0', '1/2/3', '-1/2', 'a/b'])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(AdaptisError, match='is not a shard'):
        Shard.parse(text)


def test_a_file_gives_back_the_evaluator(triples, tmp_path):
    evaluator = evaluator_of(triples, range(5))
    evaluator.save(tmp_path / 'a.npz', Shard(2, 3))
    loaded = Evaluator.load(tmp_path / 'a.npz')
    assert numbers(loaded.result()) == numbers(evaluator.result())
    assert loaded.taxonomy.categories == TAXONOMY.categories
    assert loaded.run == {'data': 'made up', 'settings': {'flip': True, 'tile': [4, 5]}}
    for each in (evaluator, loaded):  # and it can go on
        each.add(9, *triples[9])
    assert numbers(loaded.result()) == numbers(evaluator.result())
    with pytest.raises(AdaptisError, match='Image 9 was added twice'):
        loaded.add(9, *triples[9])


def test_sums_of_iou_survive_beyond_64_bits(tmp_path):
    evaluator = Evaluator(TOY_TAXONOMY)
    evaluator.quality._iou = [3 ** 60, 1]
    evaluator.save(tmp_path / 'a.npz')
    assert Evaluator.load(tmp_path / 'a.npz').quality._iou == [3 ** 60, 1]


def test_nothing_is_pickled(triples, tmp_path):
    path = save_all(triples, tmp_path, 1)[0]
    with np.load(path, allow_pickle=False) as data:
        assert all(data[key].dtype != object for key in data.files)


def test_shards_must_be_complete(triples, tmp_path):
    paths = save_all(triples, tmp_path)
    with pytest.raises(AdaptisError, match='it lacks shard 2/3'):
        Evaluator.merge_files([paths[0], paths[2]])
    with pytest.raises(AdaptisError, match=r'1.npz and .*copy.npz are both shard 1/3'):
        (tmp_path / 'copy.npz').write_bytes(paths[0].read_bytes())
        Evaluator.merge_files([*paths, tmp_path / 'copy.npz'])
    with pytest.raises(AdaptisError, match='other.npz is shard 1/2, but .*1.npz is shard 1/3'):
        evaluator_of(triples, []).save(tmp_path / 'other.npz', Shard(1, 2))
        Evaluator.merge_files([*paths, tmp_path / 'other.npz'])
    with pytest.raises(AdaptisError, match='nothing to merge'):
        Evaluator.merge_files([])


def test_images_counted_in_two_shards_are_refused(triples, tmp_path):
    for k in (1, 2):
        evaluator_of(triples, [k, 7]).save(tmp_path / f'{k}.npz', Shard(k, 2))
    with pytest.raises(AdaptisError, match='Image 7 was added twice'):
        Evaluator.merge_files([tmp_path / '1.npz', tmp_path / '2.npz'])


def test_shards_of_different_runs_are_refused(triples, tmp_path):
    paths = save_all(triples, tmp_path, 2)
    fewer = Taxonomy(TAXONOMY.categories[1:])
    for other, message in (
            (evaluator_of(triples, [1], settings={'flip': False, 'tile': (4, 5)}),
             'different evaluations: run.settings.flip is true in one and false in the other'),
            (evaluator_of(triples, [1], limit=5), 'run.limit is null in one and 5 in the other'),
            (Evaluator(fewer, RUN, cityscapes=True), 'taxonomy differs'),
            (Evaluator(TAXONOMY, RUN), 'measures (is|differs)')):
        other.save(paths[1], Shard(2, 2))
        with pytest.raises(AdaptisError, match=message):
            Evaluator.merge_files(paths)
        with pytest.raises(AdaptisError, match='belong to different evaluations'):
            Evaluator.load(paths[0]).merge(other)


def test_refused_merges_change_nothing(triples):
    evaluator = evaluator_of(triples, range(4))
    before = numbers(evaluator.result())
    with pytest.raises(AdaptisError, match='Image 3 was added twice'):
        evaluator.merge(evaluator_of(triples, [3, 5]))
    with pytest.raises(AdaptisError, match='Image 3 was added twice'):
        evaluator.add(3, *triples[3])
    assert numbers(evaluator.result()) == before


@pytest.mark.parametrize('damage', [
    lambda path: path.write_bytes(path.read_bytes()[:400]),
    lambda path: path.write_bytes(b''),
    lambda path: path.write_text('{}'),
    lambda path: np.save(path.open('wb'), np.zeros(3)),
    lambda path: np.savez(path.open('wb'), a=np.zeros(3)),
    lambda path: np.savez(path.open('wb'), header=np.frombuffer(b'{"format": 99}', np.uint8)),
    lambda path: np.savez(path.open('wb'), header=np.frombuffer(b'{"format": 2}', np.uint8)),
    lambda path: alter(path, **{'pq.counts': np.zeros((3, 2), np.int64)}),
    lambda path: alter(path, **{'pq.iou': np.array(['1', 'x', '2', '3'])}),
    lambda path: alter(path, **{'ap.records': np.zeros(2)}),
    lambda path: alter(path, **{'ap.images': np.zeros((0, 2), np.int64)}),
])
def test_files_that_are_broken_are_named(triples, tmp_path, damage):
    path = save_all(triples, tmp_path, 1)[0]
    damage(path)
    with pytest.raises(AdaptisError, match='1.npz .*evaluate that shard again'):
        Evaluator.load(path)


def alter(path, **arrays):
    with np.load(path) as data:
        content = dict(data)
    np.savez(path.open('wb'), **{**content, **arrays})


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(AdaptisError, match='absent.npz cannot be read: No such file'):
        Evaluator.load(tmp_path / 'absent.npz')
    with pytest.raises(AdaptisError, match='cannot be written'):
        (tmp_path / 'file').write_text('')
        Evaluator(TAXONOMY).save(tmp_path / 'file' / 'a.npz')


def test_memory_grows_by_a_few_bytes_per_object(triples):
    """Not by masks: 20 bytes per detection and measure of AP, 0.1 kB per image and measure."""
    evaluator = Evaluator(TAXONOMY, cityscapes=True)
    parts = [t for t in triples if t[1].things]
    for index in range(50):
        evaluator.add(index, *parts[index % len(parts)])
    detections = 0
    tracemalloc.start()
    for index in range(50, 450):
        evaluator.add(index, *parts[index % len(parts)])
        detections += sum(s.isthing for s in parts[index % len(parts)][1].segments)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    # A growing buffer may be an eighth larger than what it holds.
    assert grown < 3 * (1.13 * 20 * detections + 130 * 400)
    assert detections > 3000
