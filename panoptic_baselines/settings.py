"""Every threshold of two-stage panoptic inference, named, with a preset per data set."""
from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, fields, replace
from typing import Any, Dict, Optional, Union

from adaptis.errors import AdaptisError


@dataclass(frozen=True)
class Settings:
    """Settings of Panoptic FPN and of Mask R-CNN.

    Raises AdaptisError, naming the setting, for a value that makes no sense.

    Attributes
    ----------
    short_side, max_side : the image is resized so that its shorter side has ``short_side``
        pixels, or less where the longer one would exceed ``max_side``; None = as it is

    proposals_per_level, proposals : boxes that enter and leave the proposals' suppression
    proposal_nms : proposals of a level suppress each other above this IoU

    score_threshold : a detection needs a higher score
    nms_threshold : detections of a class suppress each other above this IoU
    detections_per_image : the best so many are kept
    mask_threshold : a pixel belongs to a mask from this probability on, which is above 0

    instance_score : of a panoptic result's things, at least
    overlap_threshold : an instance is left out if better ones cover more than this share of it
    stuff_area_limit : a stuff class needs so many pixels in the image
    """

    short_side: Optional[int] = 800
    max_side: Optional[int] = 1333

    proposals_per_level: int = 1000
    proposals: int = 1000
    proposal_nms: float = 0.7

    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections_per_image: int = 100
    mask_threshold: float = 0.5

    instance_score: float = 0.5
    overlap_threshold: float = 0.5
    stuff_area_limit: int = 4096

    def __post_init__(self) -> None:
        for f in fields(self):
            kind = str(f.type)
            if kind.startswith('Optional') and getattr(self, f.name) is None:
                continue
            if kind == 'float':
                self._demand(f.name, numbers.Real, 0, 1, 'a number from 0 to 1')
            else:
                least = 0 if f.name == 'stuff_area_limit' else 1
                self._demand(f.name, numbers.Integral, least, math.inf,
                             f'a whole number, at least {least}')
        if self.mask_threshold == 0:
            raise AdaptisError('mask_threshold is 0, so that every mask would be the whole image: '
                               'it must be above 0.')

    def replace(self, **changes: Any) -> Settings:
        """A copy with some settings changed; AdaptisError for a name that does not exist."""
        known = [f.name for f in fields(self)]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise AdaptisError(f'There is no inference setting {unknown[0]!r}; '
                               f'there are {", ".join(known)}.')
        return replace(self, **changes)

    def _demand(self, name: str, kind: type, low: float, high: float, what: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, kind) or isinstance(value, bool) or not low <= value <= high:
            raise AdaptisError(f'{name} is {value!r} but must be {what}.')


PRESETS: Dict[str, Settings] = {
    'coco': Settings(),
    # The paper's test size for Cityscapes is that of its images (section 4.1); the area limit is
    # the one that others use there, as the paper gives none.
    'cityscapes': Settings(short_side=1024, max_side=2048, stuff_area_limit=2048),
    # 96x96 images, upsampled fourfold as the AdaptIS paper did it for Mask R-CNN (table 1).
    'toy': Settings(short_side=384, max_side=None, stuff_area_limit=0),
}
"""Settings by name."""


def get_settings(settings: Union[str, Settings]) -> Settings:
    """Settings as they are, or a preset by name; AdaptisError if there is none."""
    if isinstance(settings, Settings):
        return settings
    if not isinstance(settings, str) or settings not in PRESETS:
        raise AdaptisError(f'There is no preset {settings!r}; there are {", ".join(PRESETS)}.')
    return PRESETS[settings]
