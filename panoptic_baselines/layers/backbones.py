"""Create any backbone by name."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from panoptic_baselines.layers.dla import DLA34
from panoptic_baselines.layers.resnet import RESNET_SPECS, ResNet

BACKBONES = (*sorted(RESNET_SPECS), 'dla34')


def make_backbone(name: str, norm_layer: Union[str, type] = 'FrozenBatchNorm',
                  norm_kwargs: Optional[Mapping[str, Any]] = None,
                  deformable_stages: Sequence[int] = (), **deformable: Any) -> mx.gluon.HybridBlock:
    """Return a backbone: (B, 3, H, W) -> features at strides 4, 8, 16, 32.

    Its input is a BGR image, minus ``mean``, divided by ``std``.

    Parameters
    ----------
    name : one of ``BACKBONES``
    norm_layer, norm_kwargs : type and options of the normalisation layers
    deformable_stages, deformable : see ``ResNet``

    The block has the ``channels`` of the four feature maps, the ``mean`` and ``std`` (RGB) that its
    ImageNet weights expect, and ``freeze(stages)``.  Raises AdaptisError for an unknown name, and
    for deformable convolutions in a backbone that is not a ResNet.
    """
    if isinstance(name, str) and name in RESNET_SPECS:
        return ResNet(RESNET_SPECS[name], norm_layer, norm_kwargs, deformable_stages, **deformable)
    if name != 'dla34':
        raise AdaptisError(f'There is no backbone "{name}": choose one of {list(BACKBONES)}.')
    if deformable_stages:
        raise AdaptisError('deformable_stages are stages of a ResNet, but dla34 is not a ResNet: '
                           'leave them out, or choose another backbone.')
    return DLA34(norm_layer, norm_kwargs)
