"""Types that all parts of the library share."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

from adaptis.errors import AdaptisError


@dataclass(frozen=True)
class Category:
    """A category as in COCO: a class of stuff or of things."""

    id: int
    name: str
    isthing: bool
    color: tuple[int, int, int] = (128, 128, 128)


class Taxonomy:
    """Categories and their contiguous class indices: stuff comes first, then things.

    The papers do not define this order.  It is that of the official AdaptIS code.

    Parameters
    ----------
    categories
        In any order; the order within stuff and within things is kept.
    """

    def __init__(self, categories: Sequence[Category]):
        stuff = [c for c in categories if not c.isthing]
        things = [c for c in categories if c.isthing]
        self.categories: tuple[Category, ...] = tuple(stuff + things)
        self.num_stuff = len(stuff)
        self.num_things = len(things)
        self._index = {c.id: i for i, c in enumerate(self.categories)}
        if len(self._index) != len(self.categories):
            raise AdaptisError('Two categories of the taxonomy share an id.')

    @classmethod
    def from_list(cls, entries: Any, where: Any) -> Taxonomy:
        """Return a taxonomy from its categories in the form of :func:`dataclasses.asdict`.

        Raises AdaptisError, naming the file ``where``, for anything else.
        """
        try:
            return cls([Category(int(e['id']), str(e['name']), bool(e['isthing']),
                                 tuple(int(c) for c in e['color'])) for e in entries])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise AdaptisError(f'{where}: its "taxonomy" is not a list of categories with id, '
                               'name, isthing and color.') from error

    def __len__(self) -> int:
        return len(self.categories)

    def index(self, category_id: int) -> int:
        """Return the class index of a category id; AdaptisError if there is none."""
        if category_id not in self._index:
            raise AdaptisError(f'There is no category {category_id}; the known ones are '
                               f'{sorted(self._index)}.')
        return self._index[category_id]

    def by_id(self, category_id: int) -> Category:
        """Return the category of an id; AdaptisError if there is none."""
        return self.categories[self.index(category_id)]


TOY_TAXONOMY = Taxonomy([
    Category(id=1, name='background', isthing=False, color=(230, 230, 230)),
    Category(id=2, name='object', isthing=True, color=(220, 40, 40)),
])


@dataclass(frozen=True)
class AnnotatedObjects:
    """Annotated objects of an image, which may overlap, as in COCO's instances files.

    Attributes
    ----------
    layers : int32 (L, H, W): object k has all its pixels in one layer, as k + 1; 0 = none
    classes : int64 (N,), class indices of the data set's taxonomy
    crowd : bool (N,), objects that are ignored
    boxes : float64 (N, 4), x0, y0, x1, y1 in pixels, as annotated; None = those around the pixels
    areas : float64 (N,), pixels as annotated; None = those of the layers
    """

    layers: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    boxes: Optional[np.ndarray] = None
    areas: Optional[np.ndarray] = None

    def __len__(self) -> int:
        return len(self.classes)

    def moved(self, layers: np.ndarray) -> AnnotatedObjects:
        """Return the same objects with other layers, which then define boxes and areas."""
        return AnnotatedObjects(np.ascontiguousarray(layers), self.classes, self.crowd)


@dataclass
class Sample:
    """One annotated image.

    Attributes
    ----------
    image : uint8 (H, W, 3), RGB
    instances : int32 (H, W), instance ids, 0 = none
    classes : instance id -> class index of the data set's taxonomy
    semantic : int32 (H, W), class indices, -1 = ignore
    ignored : ids of instances that are ignored (crowds)
    name : identifies the image in error messages and result files
    objects : the same objects or others, from a second annotation in which they may overlap;
        they are used to train detectors and to measure average precision
    """

    image: np.ndarray
    instances: np.ndarray
    classes: Mapping[int, int]
    semantic: np.ndarray
    ignored: frozenset[int] = frozenset()
    name: str = ''
    objects: Optional[AnnotatedObjects] = None

    def __post_init__(self) -> None:
        size = self.image.shape[:2]
        for what in ('instances', 'semantic'):
            if getattr(self, what).shape != size:
                raise AdaptisError(
                    f'{self.name or "A sample"}: the {what} map is '
                    f'{_size(getattr(self, what).shape)} but the image is {_size(size)}.')
        if self.objects is not None and self.objects.layers.shape[1:] != size:
            raise AdaptisError(f'{self.name or "A sample"}: the objects are '
                               f'{_size(self.objects.layers.shape[1:])} but the image is '
                               f'{_size(size)}.')


@dataclass(frozen=True)
class Segment:
    """One segment of a panoptic result.

    ``area`` is in pixels, ``score`` in [0, 1], and ``name`` is the name of the category, '' =
    unknown, which is ignored when segments are compared.
    """

    id: int
    category_id: int
    isthing: bool
    score: float
    area: int
    name: str = field(default='', compare=False)


@dataclass
class Objects:
    """Objects detected in an image, which may overlap.

    Attributes
    ----------
    masks : bool (N, H, W)
    scores : float (N,), in [0, 1]
    category_ids : int (N,)
    boxes : float (N, 4), x0, y0, x1, y1 in pixels; None = those around the masks
    """

    masks: np.ndarray
    scores: np.ndarray
    category_ids: np.ndarray
    boxes: Optional[np.ndarray] = None


@dataclass
class PanopticResult:
    """A panoptic segmentation.

    Attributes
    ----------
    segment_map : int32 (H, W), segment ids, 0 = no segment
    segments : the segments of the map
    masks : segment id -> float32 (H, W) in [0, 1], the soft masks of the things
    semantic : int32 (H, W), class indices of the taxonomy, -1 = none; the separate output of a
        semantic branch
    objects : the detections before overlaps were resolved, on which average precision is measured
    """

    segment_map: np.ndarray
    segments: list[Segment]
    masks: Optional[dict[int, np.ndarray]] = field(default=None, repr=False)
    semantic: Optional[np.ndarray] = field(default=None, repr=False)
    objects: Optional[Objects] = field(default=None, repr=False)

    @property
    def things(self) -> list[Segment]:
        """The segments that are things."""
        return [s for s in self.segments if s.isthing]


def _size(shape: Sequence[int]) -> str:
    return 'x'.join(str(s) for s in shape)
