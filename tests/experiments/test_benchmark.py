"""The plain form that the benchmarks compare with, and that they run at all; not how fast."""
from __future__ import annotations

import sys

import numpy as np
import pytest

from adaptis.model import get_model
from adaptis.runtime import mx
from experiments import benchmark, timing
from experiments.plain import make_plain


@pytest.mark.parametrize('coordinates', ['relative', 'absolute', 'none'])
def test_the_plain_form_gives_the_same(coordinates):
    mx.random.seed(0)
    net = get_model('adaptis_toy', width=4, coordinates=coordinates)
    net.initialize(mx.init.Xavier(magnitude=4))
    rng = np.random.default_rng(0)
    images = mx.nd.array(rng.integers(0, 256, (2, 3, 20, 24)))
    points = mx.nd.array(rng.uniform(0, 19, (2, 3, 2)))
    ours = [a.asnumpy() for a in net(images, points)]
    for a, b in zip(make_plain(net)(images, points), ours):
        np.testing.assert_allclose(a.asnumpy(), b, rtol=1e-4, atol=1e-4)


@pytest.fixture
def once(monkeypatch):
    """Run every form once instead of timing it."""
    def alternate(forms, runs=1):
        for form in forms.values():
            form()
        return dict.fromkeys(forms, 0.5)
    monkeypatch.setattr(timing, 'alternate', alternate)
    monkeypatch.setattr(benchmark, 'CANDIDATES', 3)


def test_masks_of_both_forms_agree(once):
    result = benchmark.masks(width=4)
    assert result['plain'] == result['ours'] == 0.5
    assert result['largest difference of a mask'] < 1e-3


def test_a_training_step_runs_in_both_forms(once):
    assert benchmark.training(width=4)['images per second after'] == 8


def test_an_unknown_measure_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['benchmark', 'maskz'])
    with pytest.raises(SystemExit) as stopped:
        benchmark.main()
    assert stopped.value.code == 2 and 'no measure maskz' in capsys.readouterr().err
