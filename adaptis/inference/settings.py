"""Every threshold of the greedy algorithm, with a name and with presets for the data sets.

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
"""Upper limit of the pixels of all masks of a batch: more costs memory and is not faster."""

SAMPLING = ('proposals', 'random')
ALGORITHMS = ('official', 'paper')

# The Python type of each kind of setting, and its name in messages; Optional may also be None.
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
    algorithm : 'official', as the authors' code does it, or 'paper', to the letter of sections 4
        and 5 (see ``adaptis.inference.greedy_paper``); then min_area, things_threshold,
        confident_prob and stuff_prob_mult have no effect
    sampling : [sampling_algorithm] where candidate points come from: 'proposals', the maxima of
        the proposal map (section 5), or 'random' pixels of things (section 4)
    mask_threshold : [thresh1] a pixel belongs to a candidate's mask above this probability
    overlap_threshold : [thresh2] with proposals, a mask is refused if at least this share of it is
        already occupied; with random points, if less than this share is still free
    things_threshold : [ithresh] no object is searched where the most probable thing class has less
        than this probability
    min_area : with proposals, a mask of fewer pixels is refused (a constant in the official code)

    proposal_threshold : [fl_prob, prob_thresh] maxima of the proposal map below it do not count
    proposal_climb : [fl_eps] maxima separated by slopes of less than this per pixel are one
    proposal_step : [fl_step] how finely maxima are ordered by height
    proposal_blur : [fl_blur] side of the box that smooths the map first; 0 or 1 = none
    max_candidates : [max_iters] how many maxima of an image or tile are tried, skipped ones
        included; None = 100 on 96x96 as in the official toy notebooks, more on larger images in
        proportion to their area; no limit in the paper's algorithm

    num_candidates : random points compared in one iteration
    num_iterations : [num_iters] iterations of random sampling in an image or tile; None = 40 on
        96x96, more on larger images in proportion to their area; no limit in the paper's algorithm
    confident_prob : random masks are ranked by the mean of their values above this (a constant in
        the official code)
    seed : seed of the random points

    cut_radius : a mask is cut to the square of this radius around its point; 0 or less = not cut
    min_things_prob : a pixel belongs to no object where no mask exceeds this
    min_stuff_prob : a pixel has no class where the most probable stuff class has less than this
    stuff_prob_mult : weight of "no object" against the masks
    flip : [use_flip] average with the horizontally mirrored image
    short_side : pixels of the shorter side of the network's input; results have the size of the
        image; None = not resized
    max_side : upper limit of the longer side of the network's input; never enlarges an image
    tile : [crop_size] (height, width) of overlapping tiles of the network's input; None = the whole
        image at once
    min_tile_overlap : [min_overlap] smallest share of a tile that its neighbour contains, too

    batch_size : largest number of candidates that are evaluated together (fewer on large images,
        and one with ONNX Runtime on a CPU, where more is not faster); results do not depend on it
    memory_mib : MiB that the masks of points computed together may take, so that fewer than
        ``batch_size`` are computed together on a large image; results do not depend on it
    max_pixels : a larger image must be cut into tiles, because memory grows with the image
    official : reproduce the errors of the official code.  If true, the point is mirrored to W - x
        (not W - 1 - x); ``cut_radius`` is one pixel short at the far sides; random sampling accepts
        a mask without a pixel; an object without a pixel above ``mask_threshold`` gets the first
        thing class; a tile without objects, or an image smaller than its tile, stops with an error;
        some of very many tiles lie outside.
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
        """Check the type; values come from the command line and from files and can be anything."""
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
    """Return the limit; if it is None, ``usual`` of a 96x96 image in proportion to the area."""
    if limit is not None:
        return limit
    return max(usual, usual * size[0] * size[1] // 96 ** 2)


# Each value says where it is from: paper (AdaptIS, with its section), official (the authors' code:
# its notebooks for the toys, the defaults of its sampling functions for photographs, as nothing was
# published about how those were measured), or choice where both are silent.
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
    _PHOTO_OFFICIAL,                      # but where the paper speaks:
    overlap_threshold=0.5)                # paper 4: less than 50 % of a mask is segmented already

PRESETS: dict[str, AdaptISSettings] = {
    # official, the notebook: mask 0.4, things 0.3, proposals 0.10, blur 2, 100 points, or 40 times
    # 7 random ones; paper 4: overlap 50 %; paper 6: 7 random points.  Its mirrored image is --flip.
    'toy_v1': AdaptISSettings(),
    # For networks after short training, which are less sure of their proposals and masks.  Chosen
    # on further images (adaptis toy --version v1 --split val --count 80 --seed 5): the first on all
    # 80, the second on 40.  The second is for the network in the package.
    'toy_v1_cpu': AdaptISSettings(proposal_threshold=0.01),
    'toy_v1_long': AdaptISSettings(mask_threshold=0.5, overlap_threshold=0.4,
                                   proposal_threshold=0.01),
    # official, the notebook: one image of 250 objects, seen whole (Figure 3d).
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
"""Settings by name.  Random points use the same ones with ``sampling='random'``."""


def get_settings(settings: Union[str, AdaptISSettings]) -> AdaptISSettings:
    """Return settings as they are, or a preset by name.

    Raises AdaptisError if there is no such preset, or if the settings are those of another system.
    """
    if isinstance(settings, AdaptISSettings):
        return settings
    if not isinstance(settings, str):
        raise AdaptisError(f'{type(settings).__name__} are not for this network, which needs '
                           f'{AdaptISSettings.__name__}: does the file beside the checkpoint '
                           'say which network it is?')
    if settings not in PRESETS:
        raise AdaptisError(f'There is no preset {settings!r}; there are {", ".join(PRESETS)}.')
    return PRESETS[settings]
