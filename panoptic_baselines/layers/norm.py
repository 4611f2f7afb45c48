"""Normalisation layers, and a convolution with one."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional, Union

from adaptis.errors import AdaptisError
from adaptis.model.options import check_options
from adaptis.runtime import mx
from panoptic_baselines.arguments import check_counts

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock


class FrozenBatchNorm(HybridBlock):
    """Batch normalisation with stored statistics that training never changes; any (B, C, H, W).

    Its four arrays are fixed, so that a pretrained backbone keeps the statistics it was trained
    with even if batches are small (Mask R-CNN, section 3.1).  It accepts ``momentum`` without
    effect, so that it can replace a trained norm in a checkpoint.
    """

    def __init__(self, in_channels: int, epsilon: float = 1e-5, momentum: float = 0.9):
        super().__init__()
        self._epsilon = epsilon
        fixed = dict(shape=(in_channels,), grad_req='null', differentiable=False)
        with self.name_scope():
            self.gamma = self.params.get('gamma', init='ones', **fixed)
            self.beta = self.params.get('beta', init='zeros', **fixed)
            self.running_mean = self.params.get('running_mean', init='zeros', **fixed)
            self.running_var = self.params.get('running_var', init='ones', **fixed)

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        return F.BatchNorm(x, gamma, beta, running_mean, running_var, eps=self._epsilon,
                           fix_gamma=False, use_global_stats=True)


class GroupNorm(HybridBlock):
    """Group normalisation with a scale and a shift per channel; (B, C, H, W).

    C is a multiple of ``num_groups``.  MXNet's GroupNorm has a scale and a shift per group instead,
    unlike the paper and all checkpoints.
    """

    def __init__(self, in_channels: int, num_groups: int = 32, epsilon: float = 1e-5):
        super().__init__()
        check_counts(num_groups=num_groups)
        if in_channels % num_groups:
            raise AdaptisError(f'{in_channels} channels cannot be divided into {num_groups} equal '
                               'groups.')
        self._num_groups, self._epsilon = num_groups, epsilon
        with self.name_scope():
            self.gamma = self.params.get('gamma', shape=(in_channels,), init='ones')
            self.beta = self.params.get('beta', shape=(in_channels,), init='zeros')

    def hybrid_forward(self, F, x, gamma, beta):
        # Computing the sums as matrix products is 3 times as fast as MXNet's GroupNorm on a CPU.
        flat = x.reshape((0, -4, self._num_groups, -1, 0, 0)).reshape((-3, -1))
        ones = F.ones_like(F.BlockGrad(F.slice_axis(flat, axis=0, begin=0, end=1)).reshape((-1,)))
        share = 1 / F.sum(ones)
        flat = F.broadcast_sub(flat, F.expand_dims(F.broadcast_mul(F.dot(flat, ones), share), 1))
        squares = F.dot(F.square(flat), ones).reshape((-1, self._num_groups))
        inverse = 1 / F.sqrt(F.broadcast_mul(squares, share) + self._epsilon)
        scale = F.broadcast_mul(F.expand_dims(inverse, 2),
                                gamma.reshape((1, self._num_groups, -1))).reshape((0, -1, 1, 1))
        x = F.broadcast_mul(F.reshape_like(flat, x), scale)
        return F.broadcast_add(x, beta.reshape((1, -1, 1, 1)))


NORMS = {
    'FrozenBatchNorm': FrozenBatchNorm,
    'GroupNorm': GroupNorm,
    'BatchNorm': nn.BatchNorm,
    'SyncBatchNorm': mx.gluon.contrib.nn.SyncBatchNorm,
}


def make_norm(norm: Union[str, type], channels: int,
              kwargs: Optional[Mapping[str, Any]] = None) -> HybridBlock:
    """Create a normalisation layer from its name or class, with its options.

    Raises AdaptisError for an unknown name or option.
    """
    if not isinstance(norm, type):
        if not isinstance(norm, str) or norm not in NORMS:
            raise AdaptisError(f'There is no norm_layer "{norm}": choose one of {sorted(NORMS)}.')
        norm = NORMS[norm]
    return norm(in_channels=channels, **check_options(norm, kwargs))


class ConvNorm(nn.Conv2D):
    """Convolution without bias, then a norm, then ReLU unless ``relu`` is False; "same" padding.

    The layer itself holds the ``weight``, and its child ``norm`` holds the other parameters.
    """

    def __init__(self, channels: int, in_channels: int, kernel: int = 3, strides: int = 1,
                 groups: int = 1, relu: bool = True, norm_layer: Union[str, type] = 'GroupNorm',
                 norm_kwargs: Optional[Mapping[str, Any]] = None):
        super().__init__(channels, kernel, strides=strides, padding=kernel // 2, groups=groups,
                         in_channels=in_channels, use_bias=False)
        self._relu = relu
        with self.name_scope():
            self.norm = make_norm(norm_layer, channels, norm_kwargs)

    def hybrid_forward(self, F, x, weight):
        x = self.norm(super().hybrid_forward(F, x, weight))
        return F.Activation(x, 'relu') if self._relu else x
