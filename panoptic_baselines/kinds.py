"""The ports as the commands see them (``adaptis.systems.Kind``); loads MXNet only to work."""
from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from adaptis.files import PathLike
from adaptis.systems import load_place
from adaptis.types import PanopticResult, Taxonomy
from panoptic_baselines.settings import (
    CONDINST_PRESETS,
    DENSE_PRESETS,
    PRESETS,
    UNIFIED_PRESETS,
    BaseSettings,
    get_settings,
)

_PRESET_BY_THINGS = {1: 'toy', 8: 'cityscapes'}


class DetectorKind:
    """A system of this package.

    Parameters
    ----------
    system : 'module:class' of its losses
    presets : its settings by name
    defaults : arguments of its network which, not mentioned, mean these
    export : what its functions in ``stages`` and ``inference.exported`` are called after
    predictor : 'module:class' of what segments images with it
    named : see ``Kind``
    """

    stages = ('joint',)
    by_points = False

    def __init__(self, system: str, presets: Mapping[str, BaseSettings],
                 defaults: Mapping[str, Any], export: str,
                 predictor: str = 'panoptic_baselines.predictor:Predictor',
                 named: tuple[str, ...] = ('name', 'backbone')):
        self.presets, self.named = presets, named
        self.exported = f'panoptic_baselines.inference.exported:{export}'
        self._stages_of = f'panoptic_baselines.stages:stages_of_{export}'
        self._system, self._defaults, self._predictor = system, defaults, predictor

    def get_settings(self, settings: Any) -> Any:
        """See ``Kind``."""
        return get_settings(settings, self.presets)

    def usual_preset(self, model: Mapping[str, Any]) -> str:
        """See ``Kind``."""
        return _PRESET_BY_THINGS.get(model.get('num_things'), 'coco')

    def class_counts(self, taxonomy: Taxonomy) -> dict[str, int]:
        """See ``Kind``."""
        return {'num_things': taxonomy.num_things, 'num_stuff': taxonomy.num_stuff}

    def meaning(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Kind``."""
        from panoptic_baselines.zoo import MODELS
        network, fixed = MODELS.get(model['name'], (None, {}))
        name = network.__name__ if network else model['name']
        return {**self._defaults, **fixed, **model, 'name': name}

    def get_model(self, name: str, **options: Any) -> Any:
        """See ``Kind``."""
        from panoptic_baselines.zoo import get_model
        return get_model(name, **options)

    def build(self, options: Mapping[str, Any], contexts: Sequence[Any]) -> Any:
        """See ``Kind``; ``pretrained_base`` is the file of a backbone, ``pretrained`` that of a
        whole network, perhaps of other classes."""
        from panoptic_baselines.convert import load_backbone
        from panoptic_baselines.zoo import load_trained
        options = dict(options)
        backbone, whole = options.pop('pretrained_base', None), options.pop('pretrained', None)
        net = self.get_model(**options)
        net.initialize(ctx=contexts)
        if backbone:
            load_backbone(net, backbone)
        if whole:
            load_trained(net, whole)
        return net

    def system_options(self) -> list[str]:
        """See ``Kind``."""
        return [name for name in inspect.signature(load_place(self._system)).parameters
                if name not in ('net', 'taxonomy')]

    def make_system(self, net: Any, taxonomy: Taxonomy, stage: str, **options: Any) -> Any:
        """See ``Kind``."""
        return load_place(self._system)(net, taxonomy, **options)

    def make_predictor(self, net: Any, settings: BaseSettings, taxonomy: Taxonomy,
                       trained: Sequence[str], ctx: Any = None) -> Any:
        """See ``Kind``."""
        return load_place(self._predictor)(net, taxonomy, settings, ctx)

    def load_predictor(self, checkpoint: PathLike, settings: Any, ctx: Any,
                       taxonomy: Optional[Taxonomy]) -> Any:
        """See ``Kind``."""
        from adaptis.inference.sidecar import default_settings, find_taxonomy, read_sidecar
        from panoptic_baselines.zoo import load_model
        net = load_model(checkpoint, ctx=ctx)
        net.hybridize()
        taxonomy = taxonomy or find_taxonomy(read_sidecar(checkpoint), net.num_things
                                             + net.num_stuff, net.num_stuff, str(checkpoint))
        return self.make_predictor(net, settings or default_settings(checkpoint)[1], taxonomy,
                                   self.stages, ctx)

    def stages_of(self, net: Any) -> list[Any]:
        """See ``Kind``."""
        return load_place(self._stages_of)(net)

    def attributes_of(self, net: Any) -> dict[str, Any]:
        """See ``Kind``."""
        from panoptic_baselines.inference.exported import attributes_of
        return attributes_of(net)

    def measurable(self, predictor: Any) -> PanopticResult:
        """See ``Kind``; average precision is that of the instances before they are merged."""
        return predictor.panoptic(keep_objects=predictor.net.has_instances)

    def measures(self, net: Any) -> tuple[str, ...]:
        """See ``Kind``."""
        if net.has_instances and net.has_semantic:
            return 'pq', 'ap', 'miou'
        return ('ap',) if net.has_instances else ('miou',)


DETECTOR = DetectorKind('panoptic_baselines.panoptic_fpn_system:PanopticFPNSystem', PRESETS,
                        {'instances': True, 'semantic': True}, 'panoptic_fpn',
                        named=('name', 'backbone', 'instances', 'semantic'))
"""Panoptic FPN, and either of its branches alone."""

CONDINST = DetectorKind('panoptic_baselines.condinst_system:CondInstSystem', CONDINST_PRESETS,
                        {'semantic': False, 'semantic_join': 'sum', 'things': False, 'levels': 5,
                         'bifpn_repeats': 0, 'head_depth': 4, 'share_depth': 0,
                         'mask_channels': 8, 'mask_depth': 3, 'mask_width': 8,
                         'coordinates': 'relative', 'mask_factor': 2, 'deformable_stages': []},
                        'condinst')
"""CondInst, with or without a semantic branch, and whatever else its tables vary."""

DENSE = DetectorKind('panoptic_baselines.dense_detections_system:DenseDetectionsSystem',
                     DENSE_PRESETS, {'towers': 2, 'levelness': True, 'semantic_stride': 8},
                     'dense_detections')
"""Dense detections, with one tower or two, with and without levelness."""

UNIFIED = DetectorKind('panoptic_baselines.unified_system:UnifiedSystem', UNIFIED_PRESETS,
                       {'masks': True, 'affinity': True, 'potential': 'B', 'deformable': True},
                       'unified', 'panoptic_baselines.unified_predictor:UnifiedPredictor')
"""The unified network, whichever heads it has."""
