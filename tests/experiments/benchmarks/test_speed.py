"""The plain variant, and that the benchmarks run; their speed is not tested."""
from __future__ import annotations

import numpy as np
import pytest

from adaptis.model import get_model
from adaptis.runtime import mx
from experiments.benchmarks import speed
from experiments.benchmarks.__main__ import main
from experiments.benchmarks.plain import make_plain


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


def test_masks_of_both_forms_agree(half_a_second, monkeypatch):
    monkeypatch.setattr(speed, 'CANDIDATES', 3)
    result = speed.masks(width=4)
    assert result['plain'] == result['ours'] == 0.5
    assert result['largest difference of a mask'] < 1e-3


def test_a_training_step_runs_in_both_forms(half_a_second):
    assert speed.training(width=4)['images per second after'] == 8


def test_an_unknown_measure_is_named(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(['speed', 'maskz'])
    assert stopped.value.code == 2 and 'no measure maskz' in capsys.readouterr().err
