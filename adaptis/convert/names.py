"""Map parameter names of the official AdaptIS code to this library's names."""
from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Callable, Optional

DEEPEST_UP_LEVEL = 3


def _unit(index: str) -> str:
    """Map a layer of an official flat [conv, norm, conv, norm, ...] stack to a layer of a unit."""
    index = int(index)
    return f'{index // 2}.{0 if index % 2 == 0 else 2}'


def _dense_unit(index: str) -> str:
    """Do the same for a flat [dense, ReLU, norm, ...] stack."""
    return '{}.{}'.format(*divmod(int(index), 3))


def _head_unit(index: str) -> str:
    """Do the same for the toy point head, whose first convolution is separate."""
    index = int(index)
    if index < 2:
        return 'first' if index == 0 else 'before.1'
    return f'before.{index // 2 + 1}.{0 if index % 2 == 0 else 2}'


def _level(level: str, unit: Optional[str]) -> str:
    """Map a block of the official pyramid's semantic head, counted from 1, to level and unit."""
    return f'{int(level) - 1}.{int(unit or 1) - 1}'


_FIELDS = '(weight|bias|gamma|beta|running_mean|running_var)'
_Rules = list[tuple[str, Callable[..., str]]]

_TOY: _Rules = [
    (r'feature_extractor\.image_bn\.', lambda: 'encoder.backbone.image_norm.'),
    (r'feature_extractor\.d0\.(\d)\.(\d)\.', lambda u, i: f'encoder.backbone.down.0.{u}.{i}.'),
    (r'feature_extractor\.d([1-4])\.1\.(\d)\.(\d)\.',
     lambda d, u, i: f'encoder.backbone.down.{d}.{u}.{i}.'),
    (r'feature_extractor\.u([0-3])\.upsampler\.',
     lambda u: f'encoder.backbone.up.{DEEPEST_UP_LEVEL - int(u)}.upsample.'),
    (r'feature_extractor\.u([0-3])\.conv1\.(\d)\.',
     lambda u, i: f'encoder.backbone.up.{DEEPEST_UP_LEVEL - int(u)}.reduce.{i}.'),
    (r'feature_extractor\.u([0-3])\.conv3_([01])\.(\d)\.',
     lambda u, k, i: f'encoder.backbone.up.{DEEPEST_UP_LEVEL - int(u)}.join.{k}.{i}.'),
    (r'feature_extractor\.fe\.(\d)\.', lambda i: f'encoder.backbone.final.{_unit(i)}.'),
    (r'adaptis_head\.controller_net\.layers\.(\d)\.', lambda i: f'encoder.controller.{_unit(i)}.'),
    (r'adaptis_head\.block0\.([0-5])\.', lambda i: f'point_head.{_head_unit(i)}.'),
    (r'adaptis_head\.adain\.affine_(scale|bias)\.', lambda kind: f'point_head.adain.{kind}.'),
    (r'adaptis_head\.block1\.([01])\.', lambda i: f'point_head.after.{_unit(i)}.'),
    (r'adaptis_head\.block1\.2\.', lambda: 'point_head.after.1.'),
    (r'segmentation_head\.layers\.([0-5])\.', lambda i: f'encoder.semantic.{_unit(i)}.'),
    (r'segmentation_head\.layers\.6\.', lambda: 'encoder.semantic.3.'),
    (r'proposals_head\.layers\.([0-3])\.', lambda i: f'encoder.proposals.{_unit(i)}.'),
    (r'proposals_head\.layers\.4\.', lambda: 'encoder.proposals.2.'),
]

_RESNET: _Rules = [
    (r'feature_extractor\.backbone\.conv1\.', lambda: 'encoder.backbone.trunk.stem.0.'),
    (r'feature_extractor\.backbone\.conv1\.(\d)\.',
     lambda i: f'encoder.backbone.trunk.stem.0.{i}.'),
    (r'feature_extractor\.backbone\.bn1\.', lambda: 'encoder.backbone.trunk.stem.1.'),
    (r'feature_extractor\.backbone\.layer([1-4])\.(\d+)\.(conv[123]|bn[123]|downsample\.[01])\.',
     lambda stage, block, layer:
     f'encoder.backbone.trunk.stages.{int(stage) - 1}.{block}.{layer}.'),
    (r'adaptis_head\.controller_net\.fc_net\.(\d)\.',
     lambda i: f'point_head.controller.{_dense_unit(i)}.'),
    (r'adaptis_head\.block0\.0\.', lambda: 'point_head.first.'),
    (r'adaptis_head\.block0\.([13])\.', lambda i: f'point_head.before.{i}.'),
    (r'adaptis_head\.block0\.2\.body\.([012])\.', lambda i: f'point_head.before.2.{i}.'),
    (r'adaptis_head\.adain\.affine_(scale|bias)\.', lambda kind: f'point_head.adain.{kind}.'),
    (r'adaptis_head\.block1\.([012])\.body\.([012])\.',
     lambda unit, i: f'point_head.after.{unit}.{i}.'),
    (r'adaptis_head\.block1\.3\.', lambda: 'point_head.after.3.'),
    (r'proposals_head\.layers\.([02])\.body\.([012])\.',
     lambda unit, i: f'encoder.proposals.{unit}.{i}.'),
    (r'proposals_head\.layers\.3\.', lambda: 'encoder.proposals.3.'),
]

_DEEPLAB: _Rules = _RESNET + [
    (r'feature_extractor\.head\.block\.([01])\.body\.([012])\.',
     lambda unit, i: f'encoder.backbone.join.{unit}.{i}.'),
    (r'feature_extractor\.head\.block\.2\.', lambda: 'encoder.backbone.join.2.'),
    (r'feature_extractor\.skip_project\.skip_project\.([01])\.',
     lambda i: f'encoder.backbone.skip.{i}.'),
    (r'feature_extractor\.aspp\.concurent\.([0-3])\.([01])\.',
     lambda branch, i: f'encoder.backbone.aspp.branches.{branch}.{i}.'),
    (r'feature_extractor\.aspp\.concurent\.4\.gap\.([12])\.',
     lambda i: f'encoder.backbone.aspp.pooled.{int(i) - 1}.'),
    (r'feature_extractor\.aspp\.project\.([01])\.',
     lambda i: f'encoder.backbone.aspp.project.{i}.'),
    (r'segmentation_head\.layers\.([01])\.body\.([012])\.',
     lambda unit, i: f'encoder.semantic.{unit}.{i}.'),
    (r'segmentation_head\.layers\.2\.', lambda: 'encoder.semantic.2.'),
]

_FPN: _Rules = _RESNET + [
    (r'feature_extractor\.head\.block([1-4])\.body\.([01])\.',
     lambda level, i: f'encoder.backbone.lateral.{int(level) - 1}.{2 * int(i)}.'),
    (r'segmentation_head\.block([1-4])(?:_([123]))?\.body\.([01])\.',
     lambda level, unit, i: f'encoder.semantic.levels.{_level(level, unit)}.{2 * int(i)}.'),
    (r'segmentation_head\.postprocess_block\.', lambda: 'encoder.semantic.classes.'),
]

NETWORKS: dict[str, tuple[str, _Rules]] = {
    'adaptis_toy': (r'feature_extractor\.image_bn\.', _TOY),
    'adaptis_deeplab': (r'feature_extractor\.aspp\.', _DEEPLAB),
    'adaptis_fpn': (r'feature_extractor\.head\.block4\.', _FPN),
}
"""Network name -> a pattern that matches only its official parameter names, and its rules."""


def detect_network(names: Iterable[str]) -> str:
    """Return the name of the network whose official parameters have these names.

    If no pattern matches, the network with the most known names is returned.
    """
    names = list(names)
    for network, (sign, _) in NETWORKS.items():
        if any(re.match(sign, name) for name in names):
            return network
    return max(NETWORKS, key=lambda network: len(map_names(names, network)[0]))


def map_name(official: str, network: str = 'adaptis_toy') -> Optional[str]:
    """Return this library's name for an official parameter; None if there is none."""
    for pattern, build in NETWORKS[network][1]:
        match = re.fullmatch(pattern + _FIELDS, official)
        if match:
            *parts, field = match.groups()
            return build(*parts) + field
    return None


def map_names(names: Iterable[str], network: str = 'adaptis_toy'
              ) -> tuple[dict[str, str], list[str]]:
    """Return ``{official name: our name}``, and the official names without a counterpart."""
    mapped = {name: map_name(name, network) for name in names}
    unknown = [name for name, ours in mapped.items() if ours is None]
    return {name: ours for name, ours in mapped.items() if ours is not None}, unknown
