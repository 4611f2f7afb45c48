"""One step: pieces and devices add up to the whole batch."""
from __future__ import annotations

import numpy as np
import pytest
from toy_setup import TinyNet, TinySystem, tiny_net

from adaptis.config import OptimizerConfig, StageConfig
from adaptis.engine.steps import (
    make_optimizer,
    make_trainer,
    prepare_gradients,
    seed_everything,
    set_backbone_lr_mult,
    split_batch,
    train_step,
)
from adaptis.errors import AdaptisError
from adaptis.model import get_model
from adaptis.runtime import mx


class Plain(TinySystem):
    """Losses that depend on nothing but the batch."""

    def losses(self, batch: dict) -> dict:
        self.threshold = 0.0
        losses = super().losses(batch)
        return {**losses, 'instances': losses['instances'] / (1 + self.threshold)}


def batch(size: int = 8) -> dict:
    rng = np.random.default_rng(0)
    return {'image': rng.integers(0, 255, (size, 3, 8, 8)).astype(np.uint8),
            'points': rng.random((size, 2, 2)).astype(np.float32),
            'instances': rng.integers(0, 2, (2 * size, 1, 8, 8)).astype(np.int8),
            'semantic': rng.integers(0, 2, (size, 8, 8)).astype(np.int16)}


def after(contexts: list, pieces: int, steps: int = 3, backbone: float = 1.0,
          **optimizer: object) -> dict:
    net = tiny_net(dropout=0.0, contexts=contexts)
    set_backbone_lr_mult(net, backbone)
    stage = StageConfig(batch_size=8, points=2, steps=9, optimizer=OptimizerConfig(
        **{'lr': 0.1, 'name': 'sgd', **optimizer}))
    system = Plain(net)
    trainer = make_trainer(system, stage, 'device')
    prepare_gradients(trainer, accumulate=pieces > 1)
    losses: dict = {}
    for _ in range(steps):
        losses = train_step(system, trainer, batch(), contexts, pieces)
    values = {name: p.data(contexts[-1]).asnumpy()
              for name, p in net._collect_params_with_prefix().items()}
    return {**values, **losses}


@pytest.mark.parametrize('contexts, pieces', [(1, 2), (1, 8), (2, 1), (2, 4)])
def test_pieces_and_devices_learn_what_the_whole_batch_teaches(contexts: int,
                                                                pieces: int) -> None:
    whole = after([mx.current_context()], 1)
    parts = after([mx.cpu(i) for i in range(contexts)], pieces)
    for name, value in whole.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_options_reach_the_optimizer() -> None:
    plain = after([mx.current_context()], 1)
    for options in ({'clip_gradient': 1e-3}, {'wd': 0.5}, {'options': {'momentum': 0.9}},
                    {'name': 'adam'}):
        assert not np.allclose(after([mx.current_context()], 1, **options)['body.weight'],
                               plain['body.weight'], atol=1e-4)


def test_the_backbone_learns_at_its_own_rate() -> None:
    contexts = [mx.current_context()]
    start, plain, slow, still = (after(contexts, 1, steps, factor) for steps, factor in (
        (0, 1.0), (1, 1.0), (1, 0.1), (1, 0.0)))
    for name, factor in (('body.weight', 0.1), ('head.weight', 1.0), ('semantic.bias', 1.0)):
        np.testing.assert_allclose(slow[name] - start[name],
                                   factor * (plain[name] - start[name]), rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(still['body.weight'], start['body.weight'])


@pytest.mark.parametrize('optimizer', [{'name': 'adamant'}, {'options': {'beta7': 1}}])
def test_an_optimizer_that_does_not_exist_is_named(optimizer: dict) -> None:
    with pytest.raises(AdaptisError, match='optimizer "(adamant|sgd)" cannot be built'):
        after([mx.current_context()], 1, **optimizer)


def test_an_option_that_yaml_takes_for_text_is_named() -> None:
    with pytest.raises(AdaptisError, match='option "epsilon" is \'1e-8\': .* write 1.0e-8'):
        make_optimizer(OptimizerConfig(lr=0.1, options={'epsilon': '1e-8'}))


def test_a_batch_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(AdaptisError, match='8 images cannot be split into 3'):
        split_batch(batch(), 3)


def test_dropout_is_a_function_of_seed_stage_and_step() -> None:
    net = TinyNet(dropout=0.5)
    net.initialize()
    image, points = mx.nd.ones((1, 3, 8, 8)), mx.nd.zeros((1, 2, 2))
    results = []
    for state in ((0, 0, 1), (0, 0, 2), (0, 1, 1), (1, 0, 1), (0, 0, 1)):
        seed_everything(*state)
        with mx.autograd.record():
            results.append(net(image, points)[0].asnumpy().tobytes())
    assert results[0] == results[4] and len(set(results)) == 4


def test_a_slower_backbone_needs_a_backbone():
    net = get_model('adaptis_fpn', backbone='resnet18', width=8)
    set_backbone_lr_mult(net, 0.1)
    assert net.encoder.backbone.trunk.stem[0].weight.lr_mult == 0.1
    assert net.encoder.backbone.lateral[0][0].weight.lr_mult == 1
    toy = get_model('adaptis_toy', width=4)
    set_backbone_lr_mult(toy, 1)
    with pytest.raises(AdaptisError, match='backbone_lr_mult'):
        set_backbone_lr_mult(toy, 0.1)
