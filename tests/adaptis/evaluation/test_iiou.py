from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from test_cityscapes_ap import street

from adaptis.data.cityscapes import CITYSCAPES_TAXONOMY
from adaptis.evaluation.miou import semantic_map
from adaptis.evaluation.run import Evaluator
from adaptis.evaluation.shards import Shard
from adaptis.types import PanopticResult, Segment


def evaluator_of(numbers, branch=False):
    """Of streets; with a semantic branch that is up to two pixels off what was found."""
    evaluator = Evaluator(CITYSCAPES_TAXONOMY, cityscapes=True)
    for number in numbers:
        truth, found, crowd = street(number)
        if branch:
            said = semantic_map(found, CITYSCAPES_TAXONOMY)
            found = replace(found, semantic=np.roll(said, number % 3, axis=1))
        evaluator.add(number, truth, found, crowd)
    return evaluator


@pytest.mark.parametrize('branch, mean, per_class, miou', [
    (False, 0.763906440064899, [0.7165409002174168, 0.7952280820303161, 0.779950337946964],
     0.72558935914429),
    (True, 0.7048131993605152, [0.6551728832356403, 0.7267316630820028, 0.7325350517639024],
     0.6866698717047366)])
def test_equals_the_scripts_of_the_benchmark(branch, mean, per_class, miou):
    """Figures of cityscapesscripts 2.3.0 (evalPixelLevelSemanticLabeling) on these streets."""
    scores = evaluator_of(range(8), branch).result()
    assert scores['iiou']['iiou'] == pytest.approx(mean, abs=1e-12)
    assert [scores['iiou']['per_class'][c] for c in (24, 25, 26)] == pytest.approx(per_class,
                                                                                  abs=1e-12)
    assert all(math.isnan(scores['iiou']['per_class'][c]) for c in (27, 28, 31, 32, 33))
    assert scores['miou']['miou'] == pytest.approx(miou, abs=1e-12)


def test_a_small_object_counts_as_much_as_a_large_one():
    truth = np.repeat([[1] * 90 + [2] * 10], 10, axis=0).astype(np.int32)
    segments = [Segment(i, 26, True, 1.0, 0) for i in (1, 2)]
    found = PanopticResult(np.where(truth == 2, 0, truth), segments[:1])
    evaluator = Evaluator(CITYSCAPES_TAXONOMY, cityscapes=True)
    evaluator.add(0, PanopticResult(truth, segments), found)
    scores = evaluator.result()
    assert scores['iiou']['iiou'] == pytest.approx(.5) and scores['miou']['miou'] == .9


def test_shards_give_the_whole_exactly(tmp_path):
    for k in range(3):
        evaluator_of(range(k, 8, 3), True).save(tmp_path / f'{k}.npz', Shard(k + 1, 3))
    merged = Evaluator.merge_files([tmp_path / f'{k}.npz' for k in (1, 2, 0)]).result()
    whole = evaluator_of(range(8), True).result()
    assert merged['iiou'].keys() == whole['iiou'].keys()
    assert merged['iiou']['iiou'] == whole['iiou']['iiou']
