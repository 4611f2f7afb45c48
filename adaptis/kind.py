"""AdaptIS as the commands see it (``adaptis.systems.Kind``)."""
from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from adaptis.files import PathLike
from adaptis.inference.settings import PRESETS, Settings, get_settings
from adaptis.types import PanopticResult, Taxonomy

_PRESET_BY_CLASSES = {65: 'vistas', 133: 'coco'}


class AdaptISKind:
    """Networks that find an object by a point of it."""

    stages = ('instances', 'proposals')
    by_points = True
    presets = PRESETS
    named = ('name', 'backbone')
    exported = 'adaptis.inference.predictor:make_exported'

    def get_settings(self, settings: Any) -> Settings:
        """See ``Kind``."""
        return get_settings(settings)

    def usual_preset(self, model: Mapping[str, Any]) -> str:
        """See ``Kind``."""
        if model.get('name', 'adaptis_toy') == 'adaptis_toy':
            return 'toy_v1'
        return _PRESET_BY_CLASSES.get(model.get('num_classes'), 'cityscapes')

    def class_counts(self, taxonomy: Taxonomy) -> dict[str, int]:
        """See ``Kind``."""
        return {'num_classes': len(taxonomy), 'num_stuff': taxonomy.num_stuff}

    def meaning(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Kind``."""
        return {'coordinates': 'relative', **model}  # else the default would fit to any network

    def get_model(self, name: str, **options: Any) -> Any:
        """See ``Kind``."""
        from adaptis.model import get_model
        return get_model(name, **options)

    def build(self, options: Mapping[str, Any], contexts: Sequence[Any]) -> Any:
        """See ``Kind``."""
        from adaptis.runtime import mx
        net = self.get_model(**options)
        net.initialize(mx.init.Xavier(), ctx=contexts)
        return net

    def system_options(self) -> list[str]:
        """See ``Kind``."""
        from adaptis.system import AdaptISSystem
        return [name for name in inspect.signature(AdaptISSystem).parameters
                if name not in ('net', 'stage')]

    def make_system(self, net: Any, taxonomy: Taxonomy, stage: str, **options: Any) -> Any:
        """See ``Kind``."""
        from adaptis.system import AdaptISSystem
        return AdaptISSystem(net, stage=stage, **options)

    def make_predictor(self, net: Any, settings: Settings, taxonomy: Taxonomy,
                       trained: Sequence[str], ctx: Any = None) -> Any:
        """See ``Kind``; points are random while the proposals are not trained."""
        from adaptis.inference.predictor import Predictor
        if 'proposals' not in trained:
            settings = settings.replace(sampling='random')
        return Predictor(net, settings, taxonomy, ctx)

    def load_predictor(self, checkpoint: Optional[PathLike], settings: Any, ctx: Any,
                       taxonomy: Optional[Taxonomy]) -> Any:
        """See ``Kind``."""
        from adaptis.inference.predictor import load_predictor
        return load_predictor(checkpoint, settings, ctx, taxonomy)

    def stages_of(self, net: Any) -> list[Any]:
        """See ``Kind``."""
        from adaptis.model.stages import stages_of
        return stages_of(net)

    def attributes_of(self, net: Any) -> dict[str, Any]:
        """See ``Kind``."""
        from adaptis.inference.encoded import attributes_of
        return attributes_of(net)

    def measurable(self, predictor: Any) -> PanopticResult:
        """See ``Kind``."""
        return predictor.panoptic()

    def measures(self, net: Any) -> tuple[str, ...]:
        """See ``Kind``."""
        return 'pq', 'ap', 'miou'


ADAPTIS = AdaptISKind()
