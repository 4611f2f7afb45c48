"""AdaptIS as stages: one that computes the features of an image, and others that use them."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from adaptis.deploy.stages import Signature, Stage
from adaptis.model.adaptis import AdaptIS, Encoder, PointHead
from adaptis.model.graph import trace
from adaptis.model.layers import HybridBlock

_IMAGE = Signature('image', (1, 3, 'H', 'W'))
_POINTS = Signature('points', (1, 'N', 2))
_EXAMPLE = {'H': 96, 'W': 128}
_EXAMPLE_POINTS = 3


def export_stages(net: AdaptIS) -> list[Stage]:
    """Return the stages of a network, which share its parameters and its hybridization.

    ``features``: image (1, 3, H, W), RGB 0..255 -> ``shared`` (1, C, h, w), the part of the point
    head that depends only on the features; ``query_map`` if the network has a controller; and the
    maps of the backbone, ``features``, ``level_1``, ...  The other stages take these by name.
    ``points``: (1, N, 2), (row, col) in pixels -> probabilities (N, 1, h, w). ``semantics``: class
    probabilities (1, K, h, w). ``proposals``, if the network has that branch: logits (1, 1, h, w).
    """
    share, head = net.point_head.split()
    encoder = net.encoder
    features = _Features(encoder, share)
    shapes = trace(features, (1, 3, _EXAMPLE['H'], _EXAMPLE['W'])).outputs
    shared, *others = _signatures(shapes, encoder.controller is not None)
    queries, maps = others[0], [s for s in others if s.name != 'query_map']
    sizes = {part: number for signature, shape in zip([shared, *others], shapes)
             for part, number in zip(signature.shape, shape) if isinstance(part, str)}
    names = tuple(signature.name for signature in (shared, *others))
    stages = [Stage('features', features, (_IMAGE,), names, _EXAMPLE),
              _stage('points', _Points(head), (shared, queries, _POINTS), 'masks', sizes),
              _stage('semantics', _Semantics(encoder.semantic), maps, 'classes', sizes)]
    if encoder.proposals is not None:
        stages.append(_stage('proposals', _Proposals(encoder.proposals), maps[:1], 'logits', sizes))
    if encoder._active:
        for stage in stages:
            stage.block.hybridize(True, **dict(encoder._flags))
    return stages


def _signatures(shapes: Sequence[tuple[int, ...]], has_queries: bool) -> list[Signature]:
    """Return the outputs of ``features``.  Coarser levels have their own sizes."""
    names = ['shared', *(['query_map'] if has_queries else []), 'features']
    coarser = len(shapes) - len(names)
    sizes = [('h', 'w')] * len(names) + [(f'h{i}', f'w{i}') for i in range(1, coarser + 1)]
    names += [f'level_{i}' for i in range(1, coarser + 1)]
    return [Signature(name, (1, shape[1], *size))
            for name, shape, size in zip(names, shapes, sizes)]


def _stage(name: str, block: HybridBlock, inputs: Sequence[Signature], output: str,
           sizes: Mapping[str, int]) -> Stage:
    parts = sorted({part for s in inputs for part in s.shape if isinstance(part, str)})
    example: dict[str, int] = {part: sizes.get(part, _EXAMPLE_POINTS) for part in parts}
    return Stage(name, block, tuple(inputs), (output,), example)


class _Features(HybridBlock):
    def __init__(self, encoder: Encoder, share: HybridBlock):
        super().__init__()
        self.normalize, self.backbone = encoder.normalize, encoder.backbone
        self.controller: Optional[HybridBlock] = encoder.controller
        self.share = share

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        maps = self.backbone(self.normalize(x))
        maps = maps if isinstance(maps, (list, tuple)) else (maps,)
        # The sum converts to MXNet's own layout once.  Otherwise every point would convert from
        # oneDNN's layout again.
        shared = self.share(maps[0]) + 0
        if self.controller is None:
            return (shared, *maps)
        return (shared, self.controller(maps[0]), *maps)


class _Points(HybridBlock):
    def __init__(self, head: PointHead):
        super().__init__()
        self.head = head

    def hybrid_forward(self, F: Any, shared: Any, query_map: Any, points: Any) -> Any:
        return F.sigmoid(self.head(shared, query_map, points))


class _Semantics(HybridBlock):
    def __init__(self, semantic: HybridBlock):
        super().__init__()
        self.semantic = semantic

    def hybrid_forward(self, F: Any, *maps: Any) -> Any:
        return F.softmax(self.semantic(*maps), axis=1)


class _Proposals(HybridBlock):
    def __init__(self, proposals: HybridBlock):
        super().__init__()
        self.proposals = proposals

    def hybrid_forward(self, F: Any, features: Any) -> Any:
        return self.proposals(features)
