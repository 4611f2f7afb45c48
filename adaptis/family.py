"""AdaptIS as a model family (``adaptis.registry.ModelFamily``)."""
from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from adaptis.errors import AdaptisError
from adaptis.files import PathLike
from adaptis.inference.encoded import export_attributes
from adaptis.inference.predictor import Predictor
from adaptis.inference.settings import PRESETS, AdaptISSettings, get_settings
from adaptis.inference.sidecar import find_taxonomy, read_sidecar
from adaptis.types import PanopticResult, Taxonomy
from adaptis.weights import DEFAULT_CHECKPOINT

_PRESET_BY_CLASSES = {65: 'vistas', 133: 'coco'}


class AdaptISFamily:
    """Networks that segment the object at a point."""

    paper = 'Sofiiuk et al., AdaptIS: Adaptive Instance Selection Network, 2019'
    models = {'adaptis_toy': 'adaptis.model.unet:ToyAdaptIS',
              'adaptis_deeplab': 'adaptis.model.deeplab:DeepLabAdaptIS',
              'adaptis_fpn': 'adaptis.model.fpn:FPNAdaptIS'}
    weights = {'adaptis_toy': 'toy_v1'}
    stages = ('instances', 'proposals')
    uses_points = True
    presets = PRESETS
    name_options = ('name', 'backbone')
    exported_predictor = 'adaptis.inference.predictor:make_exported'

    def get_settings(self, settings: Any) -> AdaptISSettings:
        """See ``ModelFamily``."""
        return get_settings(settings)

    def default_preset(self, model: Mapping[str, Any]) -> str:
        """See ``ModelFamily``."""
        if model.get('name', 'adaptis_toy') == 'adaptis_toy':
            return 'toy_v1'
        return _PRESET_BY_CLASSES.get(model.get('num_classes'), 'cityscapes')

    def class_counts(self, taxonomy: Taxonomy) -> dict[str, int]:
        """See ``ModelFamily``."""
        return {'num_classes': len(taxonomy), 'num_stuff': taxonomy.num_stuff}

    def check_taxonomy(self, model: Mapping[str, Any], taxonomy: Taxonomy) -> None:
        """See ``ModelFamily``."""
        if not taxonomy.num_things:
            raise AdaptisError(f'The data have no category of things, but {model["name"]} segments '
                               'things: mark categories as things (isthing: 1), or train '
                               'semantic_fpn, which needs only stuff.')

    def expand_options(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """See ``ModelFamily``."""
        return {'coordinates': 'relative', **model}  # so that the default is also compared

    def get_model(self, name: str, **options: Any) -> Any:
        """See ``ModelFamily``."""
        from adaptis.model import get_model  # loads MXNet
        return get_model(name, **options)

    def load_model(self, checkpoint: PathLike, ctx: Any = None) -> Any:
        """See ``ModelFamily``."""
        from adaptis.model import load_model  # loads MXNet
        return load_model(checkpoint, ctx)

    def load_pretrained(self, net: Any, path: PathLike) -> None:
        """See ``ModelFamily``."""
        from adaptis.model.zoo import load_pretrained  # loads MXNet
        load_pretrained(net, path, {net.num_classes})

    def build(self, options: Mapping[str, Any], contexts: Sequence[Any]) -> Any:
        """See ``ModelFamily``."""
        from adaptis.runtime import mx  # loads MXNet
        net = self.get_model(**options)
        net.initialize(mx.init.Xavier(), ctx=contexts)
        return net

    def system_options(self) -> list[str]:
        """See ``ModelFamily``."""
        from adaptis.system import AdaptISSystem  # loads MXNet
        return [name for name in inspect.signature(AdaptISSystem).parameters
                if name not in ('net', 'stage')]

    def make_system(self, net: Any, taxonomy: Taxonomy, stage: str, **options: Any) -> Any:
        """See ``ModelFamily``."""
        from adaptis.system import AdaptISSystem  # loads MXNet
        return AdaptISSystem(net, stage=stage, **options)

    def make_predictor(self, net: Any, settings: AdaptISSettings, taxonomy: Taxonomy,
                       trained: Sequence[str], ctx: Any = None) -> Any:
        """See ``ModelFamily``; points are random until the proposals are trained."""
        if 'proposals' not in trained:
            settings = settings.replace(sampling='random')
        return Predictor(net, settings, taxonomy, ctx)

    def load_predictor(self, checkpoint: Optional[PathLike], settings: Any, ctx: Any,
                       taxonomy: Optional[Taxonomy]) -> Predictor:
        """See ``ModelFamily``; ``settings.official`` reproduces bugs of the official network."""
        from adaptis.model import load_model  # loads MXNet
        settings = get_settings(settings)
        net = load_model(checkpoint or DEFAULT_CHECKPOINT, ctx=ctx, official=settings.official)
        net.hybridize()
        taxonomy = taxonomy or find_taxonomy(read_sidecar(checkpoint), net.num_classes,
                                             net.num_stuff, str(checkpoint))
        return Predictor(net, settings, taxonomy, ctx=ctx)

    def export_stages(self, net: Any) -> list[Any]:
        """See ``ModelFamily``."""
        from adaptis.model.stages import export_stages  # loads MXNet
        return export_stages(net)

    def export_attributes(self, net: Any) -> dict[str, Any]:
        """See ``ModelFamily``."""
        return export_attributes(net)

    def evaluation_result(self, predictor: Any) -> PanopticResult:
        """See ``ModelFamily``."""
        return predictor.panoptic()

    def metrics(self, net: Any) -> tuple[str, ...]:
        """See ``ModelFamily``."""
        return 'pq', 'ap', 'miou'


ADAPTIS = AdaptISFamily()
