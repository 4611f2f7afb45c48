"""The stochastic gradient descent that the official recipes were tuned for."""
from __future__ import annotations

from typing import Any

from adaptis.runtime import mx


@mx.optimizer.Optimizer.register
class TorchSGD(mx.optimizer.Optimizer):
    """SGD with momentum as in PyTorch, registered as 'torchsgd'.

    ``state = momentum * state + gradient + wd * weight``, then ``weight -= lr * state``.  MXNet's
    SGD adds ``lr * gradient`` to the state instead.  So after a change of the learning rate, its
    steps keep part of the old rate for a while: after a drop to a tenth, ten steps' worth.

    Parameters
    ----------
    momentum : the factor by which the state decays
    kwargs : arguments of ``mx.optimizer.Optimizer``
    """

    def __init__(self, momentum: float = 0.9, **kwargs: Any):
        super().__init__(**kwargs)
        self.momentum = momentum

    def create_state(self, index: int, weight: Any) -> Any:
        """Return the momentum, zeros like ``weight``."""
        return mx.nd.zeros(weight.shape, ctx=weight.context, dtype=weight.dtype)

    def update(self, index: int, weight: Any, grad: Any, state: Any) -> None:
        """Take one step in place, without temporary arrays: ``sgd_update`` is ``x - lr * y``."""
        self._update_count(index)
        lr, wd = self._get_lr(index), self._get_wd(index)
        clip = {} if self.clip_gradient is None else {'clip_gradient': self.clip_gradient}
        state *= self.momentum
        mx.nd.sgd_update(state, grad, lr=-1, rescale_grad=self.rescale_grad, out=state, **clip)
        if wd:
            mx.nd.sgd_update(state, weight, lr=-wd, out=state)
        mx.nd.sgd_update(weight, state, lr=lr, out=weight)
