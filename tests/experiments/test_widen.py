"""A widened network has the same outputs."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaptis.model import get_model, load_model, save_model
from adaptis.runtime import mx
from experiments import widen


@pytest.fixture
def narrow() -> object:
    mx.random.seed(1)
    net = get_model('adaptis_toy', width=4)
    net.initialize(mx.init.Xavier())
    with mx.autograd.record():      # running means and variances that are not 0 and 1
        net(mx.nd.random.uniform(0, 255, (2, 3, 40, 36)), mx.nd.ones((2, 3, 2)))
    return net


@pytest.mark.parametrize('width', [6, 8])
def test_the_outputs_stay_the_same(narrow, tmp_path: Path, width: int) -> None:
    save_model(narrow, tmp_path / 'narrow.params')
    assert widen.main([str(tmp_path / 'narrow.params'), '--width', str(width),
                       '--out', str(tmp_path / 'wide.params')]) == 0
    wide = load_model(tmp_path / 'wide.params')
    assert wide.description['width'] == width
    image = mx.nd.random.uniform(0, 255, (2, 3, 40, 36))
    points = mx.nd.random.uniform(0, 36, (2, 3, 2))
    for before, after in zip(narrow(image, points), wide(image, points)):
        scale = before.abs().max().asscalar()     # the sums have more terms, all of them zeros
        np.testing.assert_allclose(after.asnumpy(), before.asnumpy(), atol=1e-5 * scale)


def test_new_channels_can_learn(narrow) -> None:
    wide = widen.widen(narrow, 8)
    with mx.autograd.record():
        masks = wide(mx.nd.random.uniform(0, 255, (2, 3, 40, 36)), mx.nd.ones((2, 3, 2)))[0]
    masks.backward()
    into_old = wide.encoder.backbone.down[0][1][0].weight.grad()[:4, 4:]
    assert into_old.abs().min().asscalar() > 0


def test_a_network_does_not_become_narrower(narrow, tmp_path: Path,
                                            capsys: pytest.CaptureFixture) -> None:
    save_model(narrow, tmp_path / 'narrow.params')
    assert widen.main([str(tmp_path / 'narrow.params'), '--width', '4',
                       '--out', str(tmp_path / 'wide.params')]) == 1
    assert 'only to more channels' in capsys.readouterr().err
    assert not (tmp_path / 'wide.params').exists()
