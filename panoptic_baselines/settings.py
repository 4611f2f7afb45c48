"""The inference settings that all systems share, and how presets are chosen."""
from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Optional, TypeVar, Union

from adaptis.errors import AdaptisError

Self = TypeVar('Self', bound='BaseSettings')


def one_of(*choices: str) -> Any:
    """Return a dataclass field that allows only ``choices``; the first is the default."""
    return field(default=choices[0], metadata={'choices': choices})


def _within(value: Any, kind: type, low: float, high: float) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and bool(low <= value <= high)


@dataclass(frozen=True)
class BaseSettings:
    """The inference settings that all systems have.

    Raises AdaptisError, naming the setting, for an invalid value.

    Attributes
    ----------
    short_side, max_side : the image is resized so that its shorter side has ``short_side``
        pixels, or fewer if the longer side would exceed ``max_side``; None = do not resize

    score_threshold : keep detections with a score above this
    nms_threshold : IoU threshold of non-maximum suppression among detections of a class
    detections_per_image : maximum number of detections to keep
    mask_threshold : a pixel belongs to a mask if its probability is at least this; above 0

    instance_score : minimum score of a thing in a panoptic result
    overlap_threshold : an instance is dropped if better ones cover more than this share of it
    stuff_area_limit : minimum number of pixels of a stuff class in the image
    """

    short_side: Optional[int] = 800
    max_side: Optional[int] = 1333

    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections_per_image: int = 100
    mask_threshold: float = 0.5

    instance_score: float = 0.5
    overlap_threshold: float = 0.5
    stuff_area_limit: int = 4096

    def __post_init__(self) -> None:
        for f in fields(self):
            value, kind = getattr(self, f.name), str(f.type)
            if kind.startswith('Optional') and value is None:
                continue
            if kind == 'bool':
                self._demand(f.name, isinstance(value, bool), 'true or false')
            elif kind == 'str':
                self._demand(f.name, value in f.metadata['choices'],
                             f'one of {", ".join(f.metadata["choices"])}')
            elif kind == 'float':
                self._demand(f.name, _within(value, numbers.Real, 0, 1), 'a number from 0 to 1')
            else:
                least = 0 if f.name == 'stuff_area_limit' else 1
                self._demand(f.name, _within(value, numbers.Integral, least, math.inf),
                             f'a whole number, at least {least}')
        if self.mask_threshold == 0:
            raise AdaptisError('mask_threshold is 0 but must be above 0; otherwise every mask '
                               'would cover the whole image.')

    def replace(self: Self, **changes: Any) -> Self:
        """Return a copy with some settings changed; AdaptisError for an unknown name."""
        known = [f.name for f in fields(self)]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise AdaptisError(f'There is no inference setting {unknown[0]!r}; '
                               f'choose one of {", ".join(known)}.')
        return replace(self, **changes)

    def _demand(self, name: str, fits: bool, what: str) -> None:
        if not fits:
            raise AdaptisError(f'{name} is {getattr(self, name)!r} but must be {what}.')


# The size is that of the data (Panoptic FPN, section 4.1; dense detections, section 5.4).  The area
# limit is UPSNet's, because none of the papers gives one.
CITYSCAPES: dict[str, Any] = dict(short_side=1024, max_side=2048, stuff_area_limit=2048)
# 96x96 images, upsampled by 4 as the AdaptIS paper did for Mask R-CNN (table 1).
TOY: dict[str, Any] = dict(short_side=384, max_side=None, stuff_area_limit=0)


def get_settings(settings: Union[str, BaseSettings],
                 presets: Mapping[str, BaseSettings]) -> Any:
    """Return the settings themselves, or look up a preset by name.

    Raises AdaptisError if there is no such preset, or if the settings belong to another system.
    """
    if isinstance(settings, BaseSettings):
        kind = type(next(iter(presets.values())))
        if type(settings) is not kind:
            raise AdaptisError(f'{type(settings).__name__} are not for this network: pass '
                               f'{kind.__name__}.')
        return settings
    if not isinstance(settings, str) or settings not in presets:
        raise AdaptisError(f'There is no preset {settings!r}; choose one of {", ".join(presets)}.')
    return presets[settings]
