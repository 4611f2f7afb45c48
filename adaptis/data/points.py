"""Sample the points that AdaptIS is trained on, and the mask that belongs to each."""
from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from adaptis.errors import AdaptisError

STRATEGIES = ('objects', 'uniform')


def sample_points(instances: np.ndarray, n: int, rng: np.random.Generator, *,
                  ignored: Iterable[int] = (), min_object_area: int = 1,
                  strategy: str = 'objects', ignore_object_prob: float = 0.0,
                  background_prob: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Sample points on objects, and return for each the mask of the object that it lies on.

    Only the official code has ``ignore_object_prob`` and ``background_prob``; the masks of these
    points are this project's reading of it.  The proposal loss cannot judge a point without an
    object of its own (it leaves out the image), so use them only to train the masks.

    Parameters
    ----------
    instances : int (H, W), object ids, 0 = none, negative = unknown (padding): -1 in every mask
    n : number of points
    rng : the only source of randomness
    ignored : ids of objects that are neither right nor wrong (crowds): -1 in every mask
    min_object_area : objects with fewer pixels are not chosen; in the masks of other objects they
        are 0 like everything outside
    strategy : 'objects' chooses every object with the same probability, whatever its area, and then
        every pixel inside it with the same probability (stratified sampling, section 3, Training).
        The paper chooses a random object each time; here objects are dealt like cards from a
        shuffled deck, so that none comes twice before all came once.  'uniform' chooses every
        object pixel with the same probability (the ablation).
    ignore_object_prob : probability of a point on an ignored object instead, if there is one; a
        mask may then cover any part of it, but nothing outside
    background_prob : probability of a point on no object instead, so that its mask is empty

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
        choose = _by_object if strategy == 'objects' else _by_pixel
        pixels = choose(np.where(unknown, 0, flat), eligible, n, rng)
        masks = (flat == flat[pixels][:, None]).astype(np.int8)
    else:
        pixels = rng.integers(flat.size, size=n)
        masks = np.full((n, flat.size), -1, np.int8)
    crowd = np.isin(flat, ignored)
    if ignore_object_prob or background_prob:
        _move_some(pixels, masks, ((ignore_object_prob, crowd), (background_prob, flat == 0)), rng)
    masks[:, crowd | unknown] = -1
    return _coordinates(pixels, instances.shape), masks.reshape((n,) + instances.shape)


def eligible_objects(instances: np.ndarray, ignored: Iterable[int],
                     min_object_area: int) -> np.ndarray:
    """Return which ids belong to objects that points may lie on, bool (largest id + 1,)."""
    areas = np.bincount(np.maximum(instances, 0).ravel())
    eligible = areas >= max(min_object_area, 1)
    eligible[[0, *(i for i in ignored if i < len(areas))]] = False
    return eligible


def check_strategy(name: str) -> None:
    """Raise AdaptisError if there is no point sampling of this name."""
    if name not in STRATEGIES:
        raise AdaptisError(f'There is no point sampling "{name}"; known: {", ".join(STRATEGIES)}.')


def _by_object(flat: np.ndarray, eligible: np.ndarray, n: int,
               rng: np.random.Generator) -> np.ndarray:
    ids, areas = np.flatnonzero(eligible), np.bincount(flat)
    decks = [rng.permutation(ids) for _ in range(-(-n // len(ids)))]
    chosen = np.concatenate(decks)[:n]
    by_id = np.argsort(flat, kind='stable')  # pixels of one object side by side
    first = np.cumsum(areas) - areas
    return by_id[first[chosen] + rng.integers(areas[chosen])]


def _by_pixel(flat: np.ndarray, eligible: np.ndarray, n: int,
              rng: np.random.Generator) -> np.ndarray:
    return rng.choice(np.flatnonzero(eligible[flat]), size=n)


def _move_some(pixels: np.ndarray, masks: np.ndarray,
               places: Iterable[tuple[float, np.ndarray]], rng: np.random.Generator) -> None:
    """Move points, each with the given probability, to pixels without object, with empty masks."""
    lots = rng.random(len(pixels))
    low = 0.0
    for chance, place in places:
        chosen = (low <= lots) & (lots < low + chance)
        low += chance
        if chosen.any() and place.any():
            pixels[chosen] = rng.choice(np.flatnonzero(place), size=chosen.sum())
            masks[chosen] = 0


def _coordinates(pixels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.stack(np.unravel_index(pixels, shape), axis=1).astype(np.float32)
