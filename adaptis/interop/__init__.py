"""Convert results to the formats of other tools, and back.

``to_X(result, ...)`` returns the format of tool X, and ``from_X(..., taxonomy)`` returns a
``PanopticResult``; X is ``supervision``, ``transformers``, ``torchmetrics``, ``labelme``,
``label_studio``, ``coco_panoptic`` or ``coco_instances``.  These tools need not be installed,
except for ``to_supervision``, which returns an object of that library.

>>> from adaptis.interop import to_supervision
>>> detections = to_supervision(result, predictor.taxonomy)

Names are imported on first use.
"""
from __future__ import annotations

import importlib

_LAZY = {
    'supervision': ('to_supervision', 'from_supervision'),
    'transformers': ('to_transformers', 'from_transformers', 'id2label'),
    'torchmetrics': ('to_torchmetrics', 'from_torchmetrics', 'torchmetrics_categories'),
    'labelme': ('to_labelme', 'from_labelme'),
    'label_studio': ('to_label_studio', 'from_label_studio', 'label_config'),
    'coco': ('to_coco_panoptic', 'from_coco_panoptic', 'to_coco_instances',
             'from_coco_instances'),
    'files': ('ResultFiles',),
}
_MODULE_OF = {name: module for module, names in _LAZY.items() for name in names}
FILE_FORMATS = ('labelme', 'label-studio')
"""Tools for which ``ResultFiles`` writes files."""
__all__ = ['FILE_FORMATS', *_MODULE_OF]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(importlib.import_module(f'{__name__}.{_MODULE_OF[name]}'), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
