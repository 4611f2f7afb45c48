"""Threads that share a network of this package get the same results as a single thread."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.panoptic_baselines.networks import TAXONOMY, build, picture, same

OTHERS = ('panoptic_fpn', 'dense', 'unified')


@pytest.mark.parametrize('case', [
    'condinst', *(pytest.param(case, marks=pytest.mark.slow) for case in OTHERS)])
def test_predictors_of_one_network(case):
    net, family, predictor = build(case)
    image = picture((64, 64))
    expected = predictor.predict(image)

    def segment(_):
        return family.make_predictor(net, predictor.settings, TAXONOMY, ()).predict(image)

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(segment, range(8)):
            same(found, expected)
