"""Sample the points on which AdaptIS is trained, and the mask of each point."""
from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from adaptis.errors import AdaptisError

STRATEGIES = ('objects', 'independent', 'one_object', 'uniform', 'occluded')
IN_PARTS = 0.5
"""Fraction of the points that 'occluded' puts on objects with several visible parts."""


def sample_points(instances: np.ndarray, n: int, rng: np.random.Generator, *,
                  ignored: Iterable[int] = (), min_object_area: int = 1,
                  strategy: str = 'objects', ignore_object_prob: float = 0.0,
                  background_prob: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Sample points on objects, and return the mask of the object at each point.

    ``ignore_object_prob`` and ``background_prob`` exist only in the official code; the masks of
    these points are this library's interpretation of it.  The proposal loss cannot use a point
    without an object (it skips the image), so use them only to train the masks.

    Parameters
    ----------
    instances : int (H, W), object ids, 0 = none, negative = unknown (padding): -1 in every mask
    n : number of points
    rng : the only source of randomness
    ignored : ids of ignored objects (crowds): -1 in every mask
    min_object_area : objects with fewer pixels are not chosen; in the masks of other objects they
        are 0, like everything outside
    strategy : 'independent' chooses a random object for every point, each with the same
        probability, whatever its area, and then every pixel inside it with the same probability
        (stratified sampling, section 3, Training).  'objects' does the same, but draws the objects
        without replacement until all were drawn once (our choice).  'one_object' chooses one object
        for all points (section 5, for the proposal branch).  'uniform' chooses every object pixel
        with the same probability (the ablation). 'occluded' is like 'objects', but puts half of the
        points (``IN_PARTS``) on objects that others divide into several parts, if there are any,
        because these are learned last (a training trick that is not in the paper).
    ignore_object_prob : probability that a point is on an ignored object instead, if there is one;
        its mask may then cover any part of the object, but nothing outside; 'one_object' draws once
        for all points
    background_prob : probability that a point is on no object instead, so that its mask is empty

    Returns
    -------
    points : float32 (n, 2), row and column
    masks : int8 (n, H, W), 1 inside the object of the point, 0 outside, -1 ignore.  If there is no
        object to choose, the points are random and all masks are -1.

    Raises AdaptisError for another strategy.
    """
    check_strategy(strategy)
    flat = instances.ravel()
    unknown, ignored = flat < 0, list(ignored)
    eligible = eligible_objects(instances, ignored, min_object_area)
    if eligible.any():
        pixels = _choose_pixels(strategy, np.maximum(instances, 0), eligible, n, rng)
        masks = (flat == flat[pixels][:, None]).astype(np.int8)
    else:
        pixels = rng.integers(flat.size, size=n)
        masks = np.full((n, flat.size), -1, np.int8)
    crowd = np.isin(flat, ignored)
    if ignore_object_prob or background_prob:
        lots = rng.random(n) if strategy != 'one_object' else np.full(n, rng.random())
        _move_some(pixels, masks, ((ignore_object_prob, crowd), (background_prob, flat == 0)),
                   lots, rng)
    masks[:, crowd | unknown] = -1
    return _coordinates(pixels, instances.shape), masks.reshape((n,) + instances.shape)


def eligible_objects(instances: np.ndarray, ignored: Iterable[int],
                     min_object_area: int) -> np.ndarray:
    """Return which ids belong to objects on which points may lie, bool (largest id + 1,)."""
    areas = np.bincount(np.maximum(instances, 0).ravel())
    eligible = areas >= max(min_object_area, 1)
    eligible[[0, *(i for i in ignored if i < len(areas))]] = False
    return eligible


def check_strategy(name: str) -> None:
    """Raise AdaptisError if the name is not a point sampling strategy."""
    if name not in STRATEGIES:
        raise AdaptisError(f'There is no point sampling "{name}": choose from '
                           f'{", ".join(STRATEGIES)}.')


def _choose_pixels(strategy: str, instances: np.ndarray, eligible: np.ndarray, n: int,
                   rng: np.random.Generator) -> np.ndarray:
    """Return ``n`` indices of pixels of ``instances.ravel()`` that lie on eligible objects."""
    flat = instances.ravel()
    if strategy == 'uniform':
        return rng.choice(np.flatnonzero(eligible[flat]), size=n)
    ids, areas = np.flatnonzero(eligible), np.bincount(flat)
    divided = _divided(instances, ids) if strategy == 'occluded' else ids[:0]
    chosen = _choose_objects(strategy, ids, divided, n, rng)
    by_id = np.argsort(flat, kind='stable')  # groups the pixels of each object
    first = np.cumsum(areas) - areas
    return by_id[first[chosen] + rng.integers(areas[chosen])]


def _choose_objects(strategy: str, ids: np.ndarray, divided: np.ndarray, n: int,
                    rng: np.random.Generator) -> np.ndarray:
    if strategy == 'one_object':
        return np.full(n, rng.choice(ids))
    if strategy == 'independent':
        return rng.choice(ids, size=n)
    special = int(n * IN_PARTS) if len(divided) else 0
    return np.concatenate([_deal(divided, special, rng), _deal(ids, n - special, rng)])


def _deal(ids: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``n`` of the ids; none is repeated before all were used once."""
    decks = [rng.permutation(ids) for _ in range(-(-n // max(len(ids), 1)))]
    return np.concatenate([ids[:0], *decks])[:n]


def _divided(instances: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return those of the ids whose pixels are not connected."""
    return ids[count_parts(instances, ids) > 1]


def count_parts(instances: np.ndarray, ids: Iterable[int]) -> np.ndarray:
    """Return the number of connected parts (side by side or corner to corner) of each id: (N,)."""
    return np.array([cv2.connectedComponents((instances == i).astype(np.uint8))[0] - 1
                     for i in ids], dtype=int)


def _move_some(pixels: np.ndarray, masks: np.ndarray,
               places: Iterable[tuple[float, np.ndarray]], lots: np.ndarray,
               rng: np.random.Generator) -> None:
    """Move points to pixels without an object, with empty masks.

    ``lots`` are random numbers in [0, 1), one for each point, which decide which points move.
    """
    low = 0.0
    for chance, place in places:
        chosen = (low <= lots) & (lots < low + chance)
        low += chance
        if chosen.any() and place.any():
            pixels[chosen] = rng.choice(np.flatnonzero(place), size=chosen.sum())
            masks[chosen] = 0


def _coordinates(pixels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.stack(np.unravel_index(pixels, shape), axis=1).astype(np.float32)
