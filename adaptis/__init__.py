"""AdaptIS (Sofiiuk, Barinova, Konushin, ICCV 2019) in Apache MXNet Gluon, and four other systems.

>>> import adaptis
>>> image = adaptis.read_image('picture.png') >>> predictor =
adaptis.load_predictor().set_image(image)   # the network that ships >>> click =
predictor.mask_at(x=40, y=57)                   # the object at a pixel >>> result =
predictor.panoptic()                           # everything >>> picture = adaptis.draw(image,
result)

Names are imported on first use, so ``import adaptis`` does not load MXNet.
"""
from __future__ import annotations

import importlib

from adaptis.blas import choose_blas_kernels

__version__ = '0.2.0'

_LAZY = {
    'AdaptisError': 'adaptis.errors:AdaptisError',
    'PanopticResult': 'adaptis.types:PanopticResult',
    'Predictor': 'adaptis.inference.predictor:Predictor',
    'Taxonomy': 'adaptis.types:Taxonomy',
    'draw': 'adaptis.viz:overlay_panoptic',
    'get_model': 'adaptis.loading:get_model',
    'list_models': 'adaptis.loading:list_models',
    'load_predictor': 'adaptis.loading:load_predictor',
    'predict': 'adaptis.loading:predict',
    'read_image': 'adaptis.files:read_image',
}
__all__ = ['__version__', *_LAZY]

choose_blas_kernels()   # before NumPy is loaded


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module, _, attribute = _LAZY[name].partition(':')
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
