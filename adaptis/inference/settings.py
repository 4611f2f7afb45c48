"""The settings of the greedy algorithm, with presets for the data sets.

The official notebooks and samplers use other names; ``OFFICIAL_NAMES`` and
:meth:`AdaptISSettings.from_official` translate them.
"""
from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, fields, replace
from typing import Any, Optional, Union

from adaptis.errors import AdaptisError

BATCH_PIXELS = 2 ** 18
"""Upper limit of the number of pixels in all masks of a batch; more costs memory and is not
faster."""

SAMPLING = ('proposals', 'random')
ALGORITHMS = ('official', 'paper')

# Declared type -> the Python type to check, and its name in messages; Optional also allows None.
_KINDS = {'bool': (bool, 'true or false'), 'str': (str, 'a text'),
          'int': (numbers.Integral, 'a whole number'), 'float': (numbers.Real, 'a finite number')}

OFFICIAL_NAMES = {
    'sampling_algorithm': 'sampling',
    'thresh1': 'mask_threshold',
    'thresh2': 'overlap_threshold',
    'ithresh': 'things_threshold',
    'fl_prob': 'proposal_threshold',
    'fl_eps': 'proposal_climb',
    'fl_step': 'proposal_step',
    'fl_blur': 'proposal_blur',
    'max_iters': 'max_candidates',
    'num_candidates': 'num_candidates',
    'num_iters': 'num_iterations',
    'cut_radius': 'cut_radius',
    'min_things_prob': 'min_things_prob',
    'min_stuff_prob': 'min_stuff_prob',
    'stuff_prob_mult': 'stuff_prob_mult',
    'use_flip': 'flip',
    'crop_size': 'tile',
    'min_overlap': 'min_tile_overlap',
}


@dataclass(frozen=True)
class AdaptISSettings:
    """Settings of the panoptic algorithm (official name in brackets).

    Raises AdaptisError, naming the setting, for an invalid value.

    Attributes
    ----------
    algorithm : 'official' as in the authors' code, or 'paper' exactly as in sections 4 and 5 (see
        ``adaptis.inference.greedy_paper``), where min_area, things_threshold, confident_prob and
        stuff_prob_mult have no effect
    sampling : [sampling_algorithm] where candidate points come from: 'proposals', the maxima of
        the proposal map (section 5), or 'random' pixels of things (section 4)
    mask_threshold : [thresh1] a pixel belongs to a candidate's mask above this probability
    overlap_threshold : [thresh2] with proposals, a mask is rejected if at least this fraction of it
        is already occupied; with random points, if less than this fraction is still free
    things_threshold : [ithresh] points where the most probable thing class has a lower probability
        are not tried
    min_area : with proposals, a mask with fewer pixels is rejected (a constant in the official
        code)

    proposal_threshold : [fl_prob, prob_thresh] lower maxima of the proposal map are ignored
    proposal_climb : [fl_eps] maxima separated by slopes of less than this per pixel count as one
    proposal_step : [fl_step] step of the level by which maxima are ordered
    proposal_blur : [fl_blur] side of the box that smooths the map first; 0 or 1 = none
    max_candidates : [max_iters] maximum number of maxima to try in an image or tile, including
        skipped ones; None = 100 for 96x96 pixels as in the official toy notebooks, in proportion to
        the area for larger images, and no limit in the paper's algorithm

    num_candidates : random points compared in one iteration
    num_iterations : [num_iters] iterations of random sampling in an image or tile; None = 40 for
        96x96 pixels, in proportion to the area for larger images, and no limit in the paper's
        algorithm
    confident_prob : random masks are ranked by the mean of their values above this (a constant in
        the official code)
    seed : seed of the random points

    cut_radius : a mask is cut to the square of this radius around its point; 0 or less = not cut
    min_things_prob : a pixel belongs to an object only if a mask exceeds this
    min_stuff_prob : a pixel gets a stuff class only if that class has at least this probability
    stuff_prob_mult : weight of "no object" against the masks
    flip : [use_flip] average with the horizontally mirrored image
    short_side : length of the shorter side of the network's input, in pixels; results keep the size
        of the image; None = not resized
    max_side : upper limit of the longer side of the network's input; never enlarges an image
    tile : [crop_size] (height, width) of overlapping tiles of the network's input; None = the whole
        image at once
    min_tile_overlap : [min_overlap] minimum fraction of a tile that its neighbour also contains

    batch_size : maximum number of candidates that are evaluated together (fewer on large images,
        and one with ONNX Runtime on a CPU, where more is not faster); results do not depend on it
    memory_mib : memory that the masks of a batch may take, in MiB, so that batches on large images
        are smaller than ``batch_size``; results do not depend on it
    max_pixels : larger images must be cut into tiles, because memory grows with the image
    official : reproduce the bugs of the official code.  If true, the point is mirrored to W - x
        (not W - 1 - x); ``cut_radius`` is one pixel short at the far sides; random sampling accepts
        a mask without a pixel; an object without a pixel above ``mask_threshold`` gets the first
        thing class; a tile without objects, or an image smaller than its tile, stops with an error;
        with very many tiles, some lie outside the image.
    """

    algorithm: str = 'official'
    sampling: str = 'proposals'
    mask_threshold: float = 0.4
    overlap_threshold: float = 0.5
    things_threshold: float = 0.3
    min_area: int = 10

    proposal_threshold: float = 0.10
    proposal_climb: float = 0.003
    proposal_step: float = 0.025
    proposal_blur: int = 2
    max_candidates: Optional[int] = None

    num_candidates: int = 7
    num_iterations: Optional[int] = None
    confident_prob: float = 0.2
    seed: int = 0

    cut_radius: int = 0
    min_things_prob: float = 0.0
    min_stuff_prob: float = 0.0
    stuff_prob_mult: float = 1.0
    flip: bool = False
    short_side: Optional[int] = None
    max_side: Optional[int] = None
    tile: Optional[tuple[int, int]] = None
    min_tile_overlap: float = 0.2

    batch_size: int = 4
    memory_mib: int = 3072
    max_pixels: int = 2 ** 22
    official: bool = False

    def __post_init__(self) -> None:
        for f in fields(self):
            self._check_type(f.name, str(f.type))
        for name, known in (('algorithm', ALGORITHMS), ('sampling', SAMPLING)):
            value = getattr(self, name)
            if value not in known:
                raise AdaptisError(f'{name} is {value!r} but must be one of {known}.')
        for name in ('mask_threshold', 'overlap_threshold', 'things_threshold', 'confident_prob',
                     'proposal_threshold', 'min_things_prob', 'min_stuff_prob'):
            self._demand(name, 0 <= getattr(self, name) <= 1, 'between 0 and 1')
        for name in ('num_candidates', 'batch_size', 'memory_mib', 'max_pixels'):
            self._demand(name, getattr(self, name) >= 1, 'at least 1')
        for name in ('min_area', 'proposal_blur', 'stuff_prob_mult', 'max_candidates',
                     'num_iterations'):
            self._demand(name, (getattr(self, name) or 0) >= 0, 'at least 0')
        for name in ('short_side', 'max_side'):
            pixels = getattr(self, name)
            self._demand(name, pixels is None or pixels >= 1, 'at least 1')
        self._demand('min_tile_overlap', 0 <= self.min_tile_overlap < 1, 'at least 0, less than 1')
        if self.tile is not None:
            self._check_tile()

    def candidate_limit(self, size: tuple[int, int]) -> int:
        """Return ``max_candidates`` for an image or tile of (H, W)."""
        return _by_area(self.max_candidates, 100, size)

    def iteration_limit(self, size: tuple[int, int]) -> int:
        """Return ``num_iterations`` for an image or tile of (H, W)."""
        return _by_area(self.num_iterations, 40, size)

    def batch_limit(self, size: tuple[int, int]) -> int:
        """Return ``batch_size`` for an image or tile of (H, W)."""
        return max(1, min(self.batch_size, BATCH_PIXELS // (size[0] * size[1])))

    def replace(self, **changes: Any) -> AdaptISSettings:
        """Return a copy with some settings changed; AdaptisError for an unknown name."""
        known = {f.name for f in fields(self)}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise AdaptisError(f'There is no inference setting {unknown[0]!r}; '
                               f'there are {", ".join(sorted(known))}.')
        return replace(self, **changes)

    @classmethod
    def from_official(cls, params: dict[str, Any], **changes: Any) -> AdaptISSettings:
        """Return settings for the keyword arguments of the official ``get_panoptic_segmentation``.

        ``changes`` are settings of this project.  Raises AdaptisError for an unknown name.
        """
        unknown = sorted(set(params) - set(OFFICIAL_NAMES))
        if unknown:
            raise AdaptisError(f'The official code has no parameter {unknown[0]!r}; '
                               f'it has {", ".join(OFFICIAL_NAMES)}.')
        return cls().replace(**{OFFICIAL_NAMES[k]: v for k, v in params.items()}, **changes)

    def _check_type(self, name: str, declared: str) -> None:
        """Check the type; values from the command line and from files can be anything."""
        value = getattr(self, name)
        if declared.startswith('Optional['):
            if value is None:
                return
            declared = declared[len('Optional['):-1]
        kind, what = _KINDS.get(declared, (object, ''))
        fits = isinstance(value, kind) and (kind in (bool, object) or not isinstance(value, bool))
        self._demand(name, fits and (declared != 'float' or math.isfinite(value)), what)

    def _check_tile(self) -> None:
        sides = (self.tile,) * 2 if isinstance(self.tile, numbers.Integral) else self.tile
        self._demand('tile', isinstance(sides, (tuple, list)) and len(sides) == 2
                     and all(isinstance(n, numbers.Integral) and n >= 1 for n in sides),
                     'a positive height and width')
        object.__setattr__(self, 'tile', tuple(int(n) for n in sides))

    def _demand(self, name: str, fulfilled: bool, what: str) -> None:
        if not fulfilled:
            raise AdaptisError(f'{name} is {getattr(self, name)!r} but must be {what}.')


def _by_area(limit: Optional[int], usual: int, size: tuple[int, int]) -> int:
    """Return the limit; if it is None, ``usual`` for a 96x96 image, scaled by the area."""
    if limit is not None:
        return limit
    return max(usual, usual * size[0] * size[1] // 96 ** 2)


# Each value names its source: paper (AdaptIS, with the section), official (the authors' code: its
# notebooks for the toy data, the defaults of its sampling functions for photographs, because the
# settings for those were not published), or choice where neither gives a value.
_PHOTO_OFFICIAL = dict(
    mask_threshold=0.40,                  # official
    overlap_threshold=0.4,                # official
    things_threshold=0.6,                 # official
    proposal_threshold=0.35,              # official
    proposal_climb=0.003,                 # official
    proposal_step=0.025,                  # official
    proposal_blur=5,                      # official
    max_candidates=500,                   # official
    flip=True)                            # official, and paper 7
_PHOTO = dict(
    _PHOTO_OFFICIAL,                      # except what the paper says:
    overlap_threshold=0.5)                # paper 4: less than 50 % of a mask is already segmented

PRESETS: dict[str, AdaptISSettings] = {
    # official, the notebook: mask 0.4, things 0.3, proposals 0.10, blur 2, 100 points, or 40 times
    # 7 random ones; paper 4: overlap 50 %; paper 6: 7 random points.  The official mirrored image
    # is --flip.
    'toy_v1': AdaptISSettings(),
    # For networks after short training, whose proposals and masks are less confident.  Chosen on
    # separate images (adaptis toy --version v1 --split val --count 80 --seed 5).
    # The second is for toy_v1, the third for toy_v1_wide.
    'toy_v1_cpu': AdaptISSettings(proposal_threshold=0.01),
    'toy_v1_long': AdaptISSettings(mask_threshold=0.55, overlap_threshold=0.6,
                                   proposal_threshold=0.01),
    'toy_v1_wide': AdaptISSettings(mask_threshold=0.45, overlap_threshold=0.6,
                                   proposal_threshold=0.01),
    # official, the notebook: one image of 250 objects, processed as a whole (Figure 3d).
    'toy_v1_250': AdaptISSettings(mask_threshold=0.7, overlap_threshold=0.6, max_candidates=2000,
                                  cut_radius=40, flip=True),
    'toy_v2': AdaptISSettings(mask_threshold=0.5),                     # official; else as toy_v1
    'cityscapes': AdaptISSettings(**_PHOTO),                           # paper 7: mask 0.40, size
    'cityscapes_official': AdaptISSettings(**_PHOTO_OFFICIAL),
    'vistas': AdaptISSettings(**{**_PHOTO, 'mask_threshold': 0.35},    # paper 7
                              max_side=2000),                          # paper 7: only made smaller
    'coco': AdaptISSettings(**{**_PHOTO, 'mask_threshold': 0.35},      # paper 7
                            short_side=600),                           # paper 7
}
"""Settings by name.  For random points, use them with ``sampling='random'``."""


def get_settings(settings: Union[str, AdaptISSettings]) -> AdaptISSettings:
    """Return settings as they are, or a preset by name.

    Raises AdaptisError if the preset does not exist, or if the settings belong to another system.
    """
    if isinstance(settings, AdaptISSettings):
        return settings
    if not isinstance(settings, str):
        raise AdaptisError(f'{type(settings).__name__} are not for this network, which needs '
                           f'{AdaptISSettings.__name__}: check that the JSON file beside the '
                           'checkpoint names the right network.')
    if settings not in PRESETS:
        raise AdaptisError(f'There is no preset {settings!r}; there are {", ".join(PRESETS)}.')
    return PRESETS[settings]
