"""Chunks, retries, order and ends of work on a cluster, with a stand-in for Ray."""
from __future__ import annotations

import random
import sys
import types
from collections import Counter
from typing import Optional

import pytest

from adaptis import cli
from adaptis.errors import AdaptisError
from adaptis.evaluation import ray_workers
from adaptis.evaluation.ray_workers import NodeInfo, RayWorkers


class Died(Exception):
    """Ray's error for a dead actor, and all others of Ray."""


class Raised(Died):
    """Ray's error for an exception of the function, which is its cause."""

    def __init__(self, cause: Exception):
        self.cause = cause


class Actor:
    """Runs its tasks one after the other, when the driver asks for the result."""

    def __init__(self, ray: FakeRay):
        self.ray, self.alive, self.queued = ray, True, 0
        self.describe, self.run = (types.SimpleNamespace(
            remote=lambda *args, name=name: self._submit(name, args))
            for name in ('describe', 'run'))

    def _submit(self, name: str, args: tuple) -> tuple:
        self.queued += name == 'run'
        self.ray.most_queued = max(self.ray.most_queued, self.queued)
        return self, name, args, object()


class FakeRay:
    """The calls of Ray that are used.  ``deadly`` says how many actors each item kills."""

    exceptions = types.SimpleNamespace(RayError=Died, RayTaskError=Raised)

    def __init__(self, cores: int, deadly: Optional[dict[int, int]] = None,
                 node: Optional[NodeInfo] = None, start_error: str = ''):
        self.cores, self.deadly, self.node = cores, Counter(deadly), node or NodeInfo.here()
        self.start_error = start_error
        self.actors: list[Actor] = []
        self.calls: list[int] = []
        self.most_queued = 0
        self.random = random.Random(0)

    def init(self, **_: object) -> None:
        """Start."""

    shutdown = init

    def cluster_resources(self) -> dict[str, float]:
        return {'CPU': float(self.cores)}

    def remote(self, _: type) -> FakeRay:
        return types.SimpleNamespace(options=lambda **_: types.SimpleNamespace(remote=self.start))

    def start(self, _: str) -> Actor:
        self.actors.append(Actor(self))
        return self.actors[-1]

    def wait(self, tasks: list, num_returns: int, timeout: float) -> tuple[list, list]:
        return [self.random.choice(tasks)], []

    def get(self, task: tuple) -> object:
        actor, name, args, _ = task
        if name == 'describe':
            if self.start_error:
                raise Died(self.start_error)
            return self.node
        function, item = args
        actor.queued -= 1
        assert actor.alive
        if self.deadly[item] > 0:
            self.deadly[item] -= 1
            raise Died(f'of {item}')
        self.calls.append(item)
        try:
            return function(item)
        except Exception as error:
            raise Raised(error) from error

    def kill(self, actor: Actor) -> None:
        actor.alive = False


def square(number: int) -> int:
    if number < 0:
        raise AdaptisError(f'{number} is negative')
    return number * number


def results(ray: FakeRay, items: list[int]) -> list[int]:
    with RayWorkers(ray=ray) as workers:
        return list(workers.map(square, items, lambda item: f'image {item}'))


def test_order_retries_and_a_bounded_number_of_chunks(capsys):
    ray = FakeRay(4, deadly={0: 2, 17: 1, 29: 1})
    assert results(ray, list(range(30))) == [n * n for n in range(30)]
    assert sorted(ray.calls) == list(range(30)) and ray.calls != list(range(30))
    assert ray.most_queued == 2 and len(ray.actors) == 8
    assert not any(actor.alive for actor in ray.actors)
    assert capsys.readouterr().err.count('was lost') == 1   # one line for a node


def test_results_do_not_pile_up_behind_a_slow_one():
    ray = FakeRay(4)
    with RayWorkers(ray=ray) as workers:
        one = workers.map(square, range(1000))
        assert next(one) == 0 and len(ray.calls) <= 16
        one.close()
    assert not any(actor.alive for actor in ray.actors)


@pytest.mark.parametrize('ray, items, message', [
    (FakeRay(2, deadly={3: 9}), [1, 2, 3], '3 processes ended while they computed image 3, '),
    (FakeRay(2), [1, -1, 2], '-1 is negative'),
    (FakeRay(2, node=NodeInfo('n7', {'numpy': '1.0'})), [1], r'Node n7 has numpy 1.0, but this '),
    (FakeRay(2, start_error="x\nModuleNotFoundError: No module named 'adaptis'"), [1],
     'lacks the Python package adaptis'),
    (FakeRay(2, start_error='no space'), [1, 2], 'No process .* could start: no space'),
    (FakeRay(0), [1], 'The Ray cluster has no core'),
])
def test_errors(ray, items, message):
    with pytest.raises(AdaptisError, match=message):
        results(ray, items)
    assert not any(actor.alive for actor in ray.actors)


def test_a_cluster_that_stays_full_is_given_up(monkeypatch):
    ray = FakeRay(2)
    monkeypatch.setattr(ray, 'wait', lambda tasks, num_returns, timeout: ([], tasks))
    monkeypatch.setattr(ray_workers, '_PATIENCE', -1.0)
    with pytest.raises(AdaptisError, match='no free core or GPU'):
        results(ray, [1])


@pytest.mark.parametrize('address, error, message', [
    ('auto', ConnectionError('none'), 'start one with "ray start --head"'),
    ('auto', RuntimeError('Version mismatch: Ray: 2.9'), r'has another version of Ray .*Ray: 2.9'),
    ('localhost:1', None, 'No Ray cluster answers at localhost:1'),
    ('pictures', None, '"pictures" is not the address'),
    ('ray://head:10001', None, 'with --ray auto'),
])
def test_clusters_that_cannot_be_used(monkeypatch, address, error, message):
    ray = FakeRay(2)
    monkeypatch.setattr(ray, 'init', lambda **_: (_ for _ in ()).throw(error))
    with pytest.raises(AdaptisError, match=message), RayWorkers(address, ray=ray):
        pass


def test_chunks_are_small_and_hold_all_images():
    with RayWorkers(ray=FakeRay(4)) as workers:
        for total, largest in ((1, 1), (100, 3), (5000, 8)):
            chunks = workers.chunks(range(total))
            assert [i for chunk in chunks for i in chunk] == list(range(total))
            assert max(map(len, chunks)) == largest


def test_options_are_checked_first(tmp_path, monkeypatch, capsys):
    for options, message in ((['--ray', 'in'], 'is not the address'),
                             (['--ray', '--click', '1', '1'], 'leave out --processes and --ray'),
                             (['--processes', '0'], 'at least 1')):
        assert cli.main(['predict', str(tmp_path), '--out', 'out', *options]) == 1
        assert message in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, 'ray', None)
    assert cli.main(['evaluate', '--data', str(tmp_path), '--ray']) == 1
    assert 'Ray, which is not installed: python -m pip install ray' in capsys.readouterr().err
