"""The settings of a generated data set, and the rendering of one image."""
from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from .degrade import degrade, degrade_by
from .layer import MIN_VISIBLE
from .stream import Stream
from .street import EXTRAS, FIRST_OBJECT, render_street
from .v1 import render_v1
from .v2 import render_v2

SPLITS = ('train', 'val', 'test')
MAX_IDS = 65535          # the ids that 16 bits can hold, except 0
MAX_STREET_OBJECTS = FIRST_OBJECT - EXTRAS
MAX_PIXELS = 100_000_000
REVISION = {'v1': 1, 'v2': 1, 'street': 1}   # raised whenever the same seed gives other images
DEFAULTS: dict[str, dict] = {
    'v1': {'height': 96, 'width': 96, 'min_objects': 8, 'max_objects': 22},
    'v2': {'height': 128, 'width': 128, 'min_objects': 12, 'max_objects': 52},
    'street': {'height': 128, 'width': 256, 'min_objects': 6, 'max_objects': 18},
}
COUNTS: dict[str, dict[str, int]] = {
    'v1': {'train': 10_000, 'test': 2_000},
    'v2': {'train': 25_000, 'val': 1_000, 'test': 1_000},
    'street': {'train': 4_000, 'val': 500},
}
_RENDER = {'v1': render_v1, 'v2': render_v2, 'street': render_street}
_STREET_BLUR, _STREET_NOISE = (6, 12), (16 * 4, 16 * 12)   # sixteenths of a pixel, of a level


@dataclass(frozen=True)
class ToySettings:
    """Everything that the pixels depend on, except split and index.

    Attributes
    ----------
    version : 'v1', 'v2' or 'street'
    height, width : pixels
    min_objects, max_objects : the number of objects is uniform between them; a street scene has
        fewer if there is no room for all
    seed : >= 0
    """

    version: str
    height: int
    width: int
    min_objects: int
    max_objects: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.version not in DEFAULTS:
            raise ValueError(f'There is no toy data set {self.version!r}: '
                             f'choose {" or ".join(DEFAULTS)}.')
        self._check_numbers()
        if self.max_objects * MIN_VISIBLE > self.height * self.width:
            raise ValueError(
                f'{self.max_objects} objects do not fit on {self.height}x{self.width} pixels: '
                f'ask for at most {self.height * self.width // MIN_VISIBLE} or a larger size.')

    def _check_numbers(self) -> None:
        if min(self.height, self.width) < 1 or self.height * self.width > MAX_PIXELS:
            raise ValueError(f'The size {self.height}x{self.width} is out of range: both sides '
                             f'must be positive and their product at most {MAX_PIXELS:,}.')
        if self.min_objects < 1 or self.min_objects > self.max_objects:
            raise ValueError(f'The range of objects {self.min_objects} to {self.max_objects} is '
                             'empty: give a minimum of at least 1 and a maximum not below it.')
        if self.max_objects > MAX_IDS:
            raise ValueError(f'{self.max_objects} objects do not fit into 16-bit ids: '
                             f'ask for at most {MAX_IDS}.')
        if self.version == 'street' and self.max_objects > MAX_STREET_OBJECTS:
            raise ValueError(f'{self.max_objects} objects are more than the ids of a street scene '
                             f'can count: ask for at most {MAX_STREET_OBJECTS}.')
        if self.seed < 0:
            raise ValueError(f'The seed {self.seed} is negative: give 0 or more.')

    @classmethod
    def default(cls, version: str, **changes: int) -> ToySettings:
        """Return the default data set with ``changes`` to single fields.

        V1 is that of the paper (section 6).  V2 is that of the official code; the paper does not
        have it.
        """
        return cls(**{'version': version, **DEFAULTS.get(version, DEFAULTS['v1']), **changes})

    def as_dict(self) -> dict:
        """Return the settings for the manifest."""
        return {**asdict(self), 'revision': REVISION[self.version]}


def render(settings: ToySettings, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Render image ``index`` of ``split``; it depends only on the three arguments.

    Validation and test images of V1 are blurred and noisy.  Those of V2 and the training images of
    V1 are clean.  All street scenes are slightly blurred and noisy.

    Returns
    -------
    image : uint8 (height, width, 3), RGB
    ids : uint16 (height, width), 0 = none; for street scenes see ``street.render_street``

    Raises
    ------
    ValueError
        If the objects do not fit, or there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f'There is no split {split!r}: choose from {", ".join(SPLITS)}.')
    version = list(DEFAULTS).index(settings.version) + 1
    stream = Stream((settings.seed, version, SPLITS.index(split), index))
    count = stream.between(settings.min_objects, settings.max_objects)
    image, ids = _RENDER[settings.version](stream, settings.height, settings.width, count)
    if settings.version == 'v1' and split != 'train':
        image = degrade(image, stream)
    elif settings.version == 'street':
        blur, noise = stream.between(*_STREET_BLUR), stream.between(*_STREET_NOISE)
        image = degrade_by(image, stream, blur, noise)
    return image, ids
