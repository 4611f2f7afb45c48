"""Choosing the points that AdaptIS is trained on, and the mask that belongs to each."""
from __future__ import annotations

from typing import Iterable, Tuple

import numpy as np

from adaptis.errors import AdaptisError

STRATEGIES = ('objects', 'uniform')


def sample_points(instances: np.ndarray, n: int, rng: np.random.Generator, *,
                  ignored: Iterable[int] = (), min_object_area: int = 1,
                  strategy: str = 'objects') -> Tuple[np.ndarray, np.ndarray]:
    """Points on objects, and for each the mask of the object it lies on.

    Parameters
    ----------
    instances : int (H, W), object ids, 0 = none
    n : number of points
    rng : the only source of chance
    ignored : ids of objects that are neither right nor wrong: never chosen, -1 in every mask
    min_object_area : objects with fewer pixels are not chosen
    strategy : 'objects' gives every object the same chance whatever its area and then every pixel
        inside it the same chance (stratified sampling, paper appendix A): objects are dealt like
        cards from a shuffled deck, so none comes twice before all came once.  'uniform' gives
        every object pixel the same chance (the ablation).

    Returns
    -------
    points : float32 (n, 2), row and column
    masks : int8 (n, H, W), 1 inside the object of the point, 0 outside, -1 ignore.  Where there is
        no object to choose, points fall anywhere and all of their masks are -1.

    Raises AdaptisError for another strategy.
    """
    check_strategy(strategy)
    flat = instances.ravel()
    areas = np.bincount(flat)
    ignored = [i for i in ignored if i < len(areas)]
    eligible = areas >= max(min_object_area, 1)
    eligible[0] = False
    eligible[ignored] = False
    if not eligible.any():
        pixels = rng.integers(flat.size, size=n)
        masks = np.full((n,) + instances.shape, -1, np.int8)
        return _coordinates(pixels, instances.shape), masks
    choose = _by_object if strategy == 'objects' else _by_pixel
    pixels = choose(flat, areas, eligible, n, rng)
    masks = (instances[None] == flat[pixels][:, None, None]).astype(np.int8)
    if ignored:
        masks[:, np.isin(instances, ignored)] = -1
    return _coordinates(pixels, instances.shape), masks


def check_strategy(name: str) -> None:
    """Raise AdaptisError if there is no point sampling of this name."""
    if name not in STRATEGIES:
        raise AdaptisError(f'There is no point sampling "{name}"; known: {", ".join(STRATEGIES)}.')


def _by_object(flat: np.ndarray, areas: np.ndarray, eligible: np.ndarray, n: int,
               rng: np.random.Generator) -> np.ndarray:
    ids = np.flatnonzero(eligible)
    decks = [rng.permutation(ids) for _ in range(-(-n // len(ids)))]
    chosen = np.concatenate(decks)[:n]
    by_id = np.argsort(flat, kind='stable')  # pixels of one object side by side
    first = np.cumsum(areas) - areas
    return by_id[first[chosen] + rng.integers(areas[chosen])]


def _by_pixel(flat: np.ndarray, areas: np.ndarray, eligible: np.ndarray, n: int,
              rng: np.random.Generator) -> np.ndarray:
    return rng.choice(np.flatnonzero(eligible[flat]), size=n)


def _coordinates(pixels: np.ndarray, shape: Tuple[int, ...]) -> np.ndarray:
    return np.stack(np.unravel_index(pixels, shape), axis=1).astype(np.float32)
