"""The model families of the ports (``adaptis.registry.ModelFamily``).

MXNet is loaded only when a network is needed.
"""
from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from adaptis.errors import AdaptisError
from adaptis.files import PathLike
from adaptis.inference.sidecar import find_taxonomy, read_sidecar
from adaptis.registry import import_object
from adaptis.types import PanopticResult, Taxonomy
from panoptic_baselines.condinst.settings import CONDINST_PRESETS
from panoptic_baselines.convert.official import load_backbone
from panoptic_baselines.dense_detections.settings import DENSE_DETECTIONS_PRESETS
from panoptic_baselines.exported import export_attributes
from panoptic_baselines.models import MODELS
from panoptic_baselines.panoptic_fpn.settings import PANOPTIC_FPN_PRESETS
from panoptic_baselines.settings import BaseSettings, get_settings
from panoptic_baselines.unified.settings import UNIFIED_PRESETS

_PRESET_BY_THINGS = {1: 'toy', 8: 'cityscapes'}


class DetectorFamily:
    """The model family of one system of this package.

    Parameters
    ----------
    paper : authors, title, year
    system : 'module:class' of its training system
    presets : its settings by name
    defaults : values of the network's arguments that a description leaves out
    package : name of its package, whose modules ``stages`` and ``inference`` export the network
    predictor : 'module:class' of its predictor
    name_options : see ``ModelFamily``
    """

    stages = ('joint',)
    uses_points = False
    weights: Mapping[str, str] = {}

    def __init__(self, paper: str, system: str, presets: Mapping[str, BaseSettings],
                 defaults: Mapping[str, Any], package: str,
                 predictor: str = 'panoptic_baselines.predictor:Predictor',
                 name_options: tuple[str, ...] = ('name', 'backbone')):
        self.presets, self.name_options = presets, name_options
        self.exported_predictor = f'panoptic_baselines.{package}.inference:make_exported'
        self._stages = f'panoptic_baselines.{package}.stages:export_stages'
        self._system, self._defaults, self._predictor = system, defaults, predictor
        self.paper = paper
        self.models = {name: network for name, (network, _) in MODELS.items()
                       if network.startswith(f'panoptic_baselines.{package}.')}

    def get_settings(self, settings: Any) -> Any:
        """See ``ModelFamily``."""
        return get_settings(settings, self.presets)

    def default_preset(self, model: Mapping[str, Any]) -> str:
        """See ``ModelFamily``."""
        return _PRESET_BY_THINGS.get(model.get('num_things'), 'coco')

    def class_counts(self, taxonomy: Taxonomy) -> dict[str, int]:
        """See ``ModelFamily``."""
        return {'num_things': taxonomy.num_things, 'num_stuff': taxonomy.num_stuff}

    def check_taxonomy(self, model: Mapping[str, Any], taxonomy: Taxonomy) -> None:
        """See ``ModelFamily``; a detector without a semantic branch does not need stuff."""
        options = self.expand_options(model)
        if options.get('semantic', True) and not taxonomy.num_stuff:
            raise AdaptisError(
                f'The data have no category of stuff, but {model["name"]} learns both stuff and '
                'things: train a network that does not need stuff (adaptis_toy, adaptis_fpn, '
                'adaptis_deeplab, mask_rcnn, or condinst without semantic), or put the pixels '
                'around the objects into a stuff category ("adaptis import --background NAME").')
        if options.get('instances', True) and not taxonomy.num_things:
            raise AdaptisError(f'The data have no category of things, but {model["name"]} detects '
                               'objects: mark categories as things (isthing: 1), or train '
                               'semantic_fpn, which learns only stuff.')

    def expand_options(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """See ``ModelFamily``."""
        network, fixed = MODELS.get(model['name'], (model['name'], {}))
        return {**self._defaults, **fixed, **model, 'name': network.rpartition(':')[2]}

    def get_model(self, name: str, **options: Any) -> Any:
        """See ``ModelFamily``."""
        from panoptic_baselines.zoo import get_model  # loads MXNet
        return get_model(name, **options)

    def load_model(self, checkpoint: PathLike, ctx: Any = None) -> Any:
        """See ``ModelFamily``."""
        from panoptic_baselines.zoo import load_model  # loads MXNet
        return load_model(checkpoint, ctx)

    def load_pretrained(self, net: Any, path: PathLike) -> None:
        """See ``ModelFamily``."""
        from panoptic_baselines.zoo import load_pretrained  # loads MXNet
        load_pretrained(net, path)

    def build(self, options: Mapping[str, Any], contexts: Sequence[Any]) -> Any:
        """See ``ModelFamily``.

        ``pretrained_base`` is the file of a backbone, ``pretrained`` that of a complete network,
        whose classes may differ.
        """
        options = dict(options)
        backbone, whole = options.pop('pretrained_base', None), options.pop('pretrained', None)
        net = self.get_model(**options)
        net.initialize(ctx=contexts)
        if backbone:
            load_backbone(net, backbone)
        if whole:
            self.load_pretrained(net, whole)
        return net

    def system_options(self) -> list[str]:
        """See ``ModelFamily``."""
        return [name for name in inspect.signature(import_object(self._system)).parameters
                if name not in ('net', 'taxonomy')]

    def make_system(self, net: Any, taxonomy: Taxonomy, stage: str, **options: Any) -> Any:
        """See ``ModelFamily``."""
        return import_object(self._system)(net, taxonomy, **options)

    def make_predictor(self, net: Any, settings: BaseSettings, taxonomy: Taxonomy,
                       trained: Sequence[str], ctx: Any = None) -> Any:
        """See ``ModelFamily``."""
        return import_object(self._predictor)(net, taxonomy, settings, ctx)

    def load_predictor(self, checkpoint: PathLike, settings: Any, ctx: Any,
                       taxonomy: Optional[Taxonomy]) -> Any:
        """See ``ModelFamily``."""
        from panoptic_baselines.zoo import load_model  # loads MXNet
        net = load_model(checkpoint, ctx=ctx)
        net.hybridize()
        taxonomy = taxonomy or find_taxonomy(read_sidecar(checkpoint), net.num_things
                                             + net.num_stuff, net.num_stuff, str(checkpoint))
        return self.make_predictor(net, settings, taxonomy, self.stages, ctx)

    def export_stages(self, net: Any) -> list[Any]:
        """See ``ModelFamily``."""
        return import_object(self._stages)(net)

    def export_attributes(self, net: Any) -> dict[str, Any]:
        """See ``ModelFamily``."""
        return export_attributes(net)

    def evaluation_result(self, predictor: Any) -> PanopticResult:
        """See ``ModelFamily``; AP is measured on the instances before they are merged, and mIoU on
        the semantic branch."""
        return predictor.panoptic(keep_objects=True)

    def metrics(self, net: Any) -> tuple[str, ...]:
        """See ``ModelFamily``."""
        if net.has_instances and net.has_semantic:
            return 'pq', 'ap', 'miou'
        return ('ap',) if net.has_instances else ('miou',)


PANOPTIC_FPN = DetectorFamily(
    'Kirillov et al., Panoptic Feature Pyramid Networks, 2019',
    'panoptic_baselines.panoptic_fpn.training:PanopticFPNSystem', PANOPTIC_FPN_PRESETS,
    {'instances': True, 'semantic': True, 'separate': False}, 'panoptic_fpn',
    name_options=('name', 'backbone', 'instances', 'semantic'))
"""Panoptic FPN, and either of its branches alone."""

CONDINST = DetectorFamily(
    'Tian et al., Instance and Panoptic Segmentation Using Conditional Convolutions, 2021',
    'panoptic_baselines.condinst.training:CondInstSystem', CONDINST_PRESETS,
    {'semantic': False, 'semantic_join': 'sum', 'things': False, 'levels': 5, 'bifpn_repeats': 0,
     'head_depth': 4, 'share_depth': 0, 'mask_channels': 8, 'mask_depth': 3, 'mask_width': 8,
     'coordinates': 'relative', 'mask_factor': 2, 'deformable_stages': []}, 'condinst')
"""CondInst, with or without a semantic branch, and with every option that its tables vary."""

DENSE_DETECTIONS = DetectorFamily(
    'Hou et al., Real-Time Panoptic Segmentation from Dense Detections, 2020',
    'panoptic_baselines.dense_detections.training:DenseDetectionsSystem', DENSE_DETECTIONS_PRESETS,
    {'towers': 2, 'levelness': True, 'semantic_stride': 8}, 'dense_detections')
"""Dense detections, with one tower or two, with or without levelness."""

UNIFIED = DetectorFamily(
    'Li, Qi and Torr, Unifying Training and Inference for Panoptic Segmentation, 2020',
    'panoptic_baselines.unified.training:UnifiedSystem', UNIFIED_PRESETS,
    {'masks': True, 'affinity': True, 'potential': 'B', 'deformable': True}, 'unified',
    predictor='panoptic_baselines.unified.predictor:UnifiedPredictor')
"""The unified network, with or without mask head and affinity."""
