"""The settings of inference that all systems share, and how presets are chosen."""
from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Optional, TypeVar, Union

from adaptis.errors import AdaptisError

Self = TypeVar('Self', bound='BaseSettings')


def one_of(*choices: str) -> Any:
    """Return a field of a dataclass for one of some texts; the first is the default."""
    return field(default=choices[0], metadata={'choices': choices})


def _within(value: Any, kind: type, low: float, high: float) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and bool(low <= value <= high)


@dataclass(frozen=True)
class BaseSettings:
    """The settings of inference that all systems have.

    Raises AdaptisError, naming the setting, for a value that makes no sense.

    Attributes
    ----------
    short_side, max_side : the image is resized so that its shorter side has ``short_side``
        pixels, or fewer if the longer side would exceed ``max_side``; None = it is not resized

    score_threshold : a detection needs a higher score
    nms_threshold : detections of a class suppress each other above this IoU
    detections_per_image : number of the best detections that are kept
    mask_threshold : a pixel belongs to a mask from this probability on; it must be above 0

    instance_score : lowest score of a thing in a panoptic result
    overlap_threshold : an instance is left out if better ones cover more than this share of it
    stuff_area_limit : fewest pixels of a stuff class in the image
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
            raise AdaptisError('mask_threshold is 0, so that every mask would be the whole image: '
                               'it must be above 0.')

    def replace(self: Self, **changes: Any) -> Self:
        """Return a copy with some settings changed; AdaptisError for a name that does not exist."""
        known = [f.name for f in fields(self)]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise AdaptisError(f'There is no inference setting {unknown[0]!r}; '
                               f'there are {", ".join(known)}.')
        return replace(self, **changes)

    def _demand(self, name: str, fits: bool, what: str) -> None:
        if not fits:
            raise AdaptisError(f'{name} is {getattr(self, name)!r} but must be {what}.')


# The paper's test size for Cityscapes is that of its images (Panoptic FPN, section 4.1); the area
# limit is the one that others use there, as the paper gives none.
CITYSCAPES: dict[str, Any] = dict(short_side=1024, max_side=2048, stuff_area_limit=2048)
# 96x96 images, upsampled fourfold as the AdaptIS paper did it for Mask R-CNN (table 1).
TOY: dict[str, Any] = dict(short_side=384, max_side=None, stuff_area_limit=0)


def get_settings(settings: Union[str, BaseSettings],
                 presets: Mapping[str, BaseSettings]) -> Any:
    """Return settings as they are, or a preset by name.

    Raises AdaptisError if there is no such preset, or if the settings belong to another system.
    """
    if isinstance(settings, BaseSettings):
        kind = type(next(iter(presets.values())))
        if type(settings) is not kind:
            raise AdaptisError(f'{type(settings).__name__} are not for this network, which takes '
                               f'{kind.__name__}.')
        return settings
    if not isinstance(settings, str) or settings not in presets:
        raise AdaptisError(f'There is no preset {settings!r}; there are {", ".join(presets)}.')
    return presets[settings]
