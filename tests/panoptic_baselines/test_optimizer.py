"""The optimizer against PyTorch's steps, and through a Gluon trainer."""
from __future__ import annotations

import numpy as np

from adaptis.runtime import mx
from panoptic_baselines.optimizer import TorchSGD


def steps(name, w0, grads, rates, **kwargs):
    """The weights after each step of a trainer whose gradients are given."""
    weight = mx.gluon.Parameter('weight', shape=w0.shape, init='zeros')
    weight.initialize()
    weight.set_data(mx.nd.array(w0))
    trainer = mx.gluon.Trainer([weight], mx.optimizer.create(name, **kwargs),
                               update_on_kvstore=False)
    seen = []
    for grad, rate in zip(grads, rates):
        with mx.autograd.record():
            loss = (weight.data() * mx.nd.array(grad)).sum()
        loss.backward()
        trainer.set_learning_rate(float(rate))
        trainer.step(1)
        seen.append(weight.data().asnumpy())
    return np.array(seen)


def test_official_steps_with_a_changing_rate(parity_root):
    case = np.load(parity_root / 'panoptic_fpn' / 'training' / 'sgd.npz')
    options = dict(momentum=float(case['momentum']), wd=float(case['weight_decay']))
    got = steps('torchsgd', case['w0'], case['grads'], case['lr'], **options)
    np.testing.assert_allclose(got, case['w'], rtol=1e-6, atol=1e-7)
    other = steps('sgd', case['w0'], case['grads'], case['lr'], **options)
    assert np.abs(other - case['w']).max() > 1e-3   # why MXNet's own does not do


def test_by_hand():
    got = steps('torchsgd', np.array([1.0]), np.array([[1.0], [1.0]]), [0.1, 0.01], momentum=0.5,
                wd=0.1)
    first = 1 - 0.1 * 1.1
    second = first - 0.01 * (0.5 * 1.1 + 1 + 0.1 * first)
    np.testing.assert_allclose(got.ravel(), [first, second], rtol=1e-6)


def test_gradients_are_clipped_before_weight_decay():
    got = steps('torchsgd', np.array([1.0]), np.array([[5.0]]), [1.0], wd=0.5, clip_gradient=2.0)
    assert got.ravel().tolist() == [1 - (2 + 0.5)]


def test_weight_decay_can_be_left_out():
    weights = mx.gluon.ParameterDict()
    for name, mult in (('a', 1), ('b', 0)):
        weights.get(name, shape=(1,), init='ones', wd_mult=mult)
    weights.initialize()
    trainer = mx.gluon.Trainer(weights, TorchSGD(learning_rate=1.0, wd=0.5))
    with mx.autograd.record():
        loss = sum(p.data().sum() * 0 for p in weights.values())
    loss.backward()
    trainer.step(1)
    assert [p.data().asscalar() for p in weights.values()] == [0.5, 1.0]


def test_half_precision_weights():
    optimizer = TorchSGD(learning_rate=1.0, multi_precision=True)
    weight = mx.nd.array([1.0], dtype='float16')
    state = optimizer.create_state_multi_precision(0, weight)
    optimizer.update_multi_precision(0, weight, mx.nd.array([0.25], dtype='float16'), state)
    assert weight.asscalar() == 0.75
