"""The greedy algorithm: candidate points become masks, and masks compete for pixels.

The paper describes random points in section 4 and points from the proposal map in section 5.  This
module follows the official code; ``greedy_paper`` follows the paper exactly.

Candidates are accepted one after another, but the network evaluates them in batches: a batch
contains the next candidate and some later ones that are not occupied *yet*.  Candidates that are
occupied when their turn comes are dropped.  So batches may waste evaluations but never change a
result.
"""
from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Callable, Optional

import cv2
import numpy as np

from adaptis.errors import AdaptisError
from adaptis.inference.encoded_image import EncodedImage
from adaptis.inference.memory import append_mask
from adaptis.inference.proposals import Proposals, find_proposals
from adaptis.inference.settings import AdaptISSettings

Draw = Callable[[int, int], list[int]]
Accept = Callable[[np.ndarray], None]
Watch = Callable[[int, int, Optional[np.ndarray]], None]
"""``watch(done, total, mask)`` is called when a candidate is decided.  ``mask`` is the one that was
accepted, float32 (H, W), or None.  It must copy what it keeps."""

_SPACING = 16  # pixels; closer candidates are often on one object, so the later one is wasted


@dataclass
class Selection:
    """The accepted masks in order, and their cost.

    Attributes
    ----------
    masks : float32 (H, W) each
    queried : number of masks that were computed
    wasted : number of those that evaluation one by one would not have computed
    accept : if given, called with each mask, which is then not stored in ``masks``
    watch : if given, called for each candidate
    """

    masks: list[np.ndarray] = field(default_factory=list)
    queried: int = 0
    wasted: int = 0
    accept: Optional[Accept] = None
    watch: Optional[Watch] = None
    _latest: Optional[np.ndarray] = field(default=None, repr=False)

    def accept_mask(self, mask: np.ndarray) -> None:
        """Accept a mask; AdaptisError if the stored masks no longer fit into memory."""
        if self.accept is None:
            append_mask(self.masks, mask)
        else:
            self.accept(mask)
        self._latest = mask

    def tell(self, done: int, total: int) -> None:
        """Report to ``watch`` that ``done`` of ``total`` candidates are decided."""
        if self.watch is not None:
            self.watch(done, total, self._latest)
        self._latest = None


def seeded_draw(seed: int) -> Draw:
    """Return ``draw(left, n)``: n different indices below ``left`` from its own generator."""
    generator = random.Random(seed)
    return lambda left, n: generator.sample(range(left), n)


def select_masks(encoded: EncodedImage, settings: AdaptISSettings,
                 ignore: Optional[np.ndarray] = None,
                 sampling_mask: Optional[np.ndarray] = None, draw: Optional[Draw] = None,
                 accept: Optional[Accept] = None, watch: Optional[Watch] = None) -> Selection:
    """Run the greedy algorithm on one image or tile.

    Parameters
    ----------
    ignore : (H, W), > 0 where objects are not searched and must not occupy pixels
    sampling_mask : (H, W) in [0, 1], weight of a pixel as a candidate; 0 acts like ``ignore``
    draw : source of the random points; by default one seeded with ``settings.seed``
    accept : called with each mask as soon as it is accepted, and must copy what it keeps; by
        default the masks are collected
    watch : called with the progress and each accepted mask, see ``Watch``

    Raises
    ------
    AdaptisError
        If the settings use proposals and the network has no proposal branch, or the masks do not
        fit into memory.
    """
    if settings.sampling == 'random':
        draw = draw or seeded_draw(settings.seed)
        return _select_random(encoded, settings, ignore, sampling_mask, draw,
                              Selection(accept=accept, watch=watch))
    return _select_proposals(encoded, settings, ignore, sampling_mask,
                             Selection(accept=accept, watch=watch))


def proposal_map(encoded: EncodedImage, settings: AdaptISSettings,
                 ignore: Optional[np.ndarray] = None,
                 sampling_mask: Optional[np.ndarray] = None) -> np.ndarray:
    """Return the proposal probabilities, float32 (H, W), whose maxima are the candidates."""
    if encoded.proposals_prob is None:
        raise AdaptisError("This network has no proposal branch: use sampling='random'.")
    prob = encoded.proposals_prob * _is_thing(encoded, settings, ignore)
    if sampling_mask is not None:
        prob = prob * sampling_mask.astype(np.float32)
    if settings.proposal_blur > 1:
        prob = cv2.blur(prob, (settings.proposal_blur, settings.proposal_blur))
    return np.clip(prob, 0, 1)  # rounding in the blur may exceed these limits


def search_proposals(prob: np.ndarray, settings: AdaptISSettings,
                     with_colors: bool = False) -> Proposals:
    """Return the maxima of :func:`proposal_map` under these settings."""
    return find_proposals(prob, settings.proposal_threshold, settings.proposal_climb,
                          settings.proposal_step, with_colors)


def _select_proposals(encoded: EncodedImage, settings: AdaptISSettings,
                      ignore: Optional[np.ndarray],
                      sampling_mask: Optional[np.ndarray],
                      selection: Selection) -> Selection:
    occupied = never_free(encoded, ignore, sampling_mask)
    prob = proposal_map(encoded, settings, ignore, sampling_mask)
    points = search_proposals(prob, settings).candidates[:settings.candidate_limit(encoded.size)]
    ahead = LookAhead(encoded, points, settings)
    for index, (row, col) in enumerate(points):
        if not occupied[row, col]:
            _take_if_free(ahead.mask(index, occupied), row, col, occupied, settings, selection)
        selection.tell(index + 1, len(points))
    selection.queried, selection.wasted = ahead.queried, ahead.queried - ahead.used
    return selection


class LookAhead:
    """Evaluates candidates in batches, before it is known which of them are used."""

    def __init__(self, encoded: EncodedImage, points: np.ndarray, settings: AdaptISSettings):
        self._encoded, self._points = encoded, points
        limit = settings.batch_limit(encoded.size)
        self._size = limit if encoded.batch_size is None else min(limit, encoded.batch_size)
        self._masks: dict[int, np.ndarray] = {}
        self.queried = self.used = 0

    def mask(self, index: int, occupied: np.ndarray) -> np.ndarray:
        """Return the mask of a free candidate; call it with increasing indices."""
        self.used += 1
        if index not in self._masks:
            self._evaluate(self._batch(index, occupied))
        return self._masks.pop(index)

    def _evaluate(self, batch: list[int]) -> None:
        masks = self._encoded.masks_at(self._points[batch].astype(np.float32))
        self._masks.update(zip(batch, masks))
        self.queried += len(batch)

    def _batch(self, index: int, occupied: np.ndarray) -> list[int]:
        """Return the candidate and the next ones that will probably still be free after it."""
        later = np.arange(index + 1, len(self._points))
        rows, cols = self._points[later].T
        later = later[~occupied[rows, cols]]
        pending = [i for i in self._masks if i > index and not occupied[tuple(self._points[i])]]
        self._masks = {i: self._masks[i] for i in pending}
        batch = [index]
        for i in later:
            if len(batch) == self._size:
                break
            if i not in self._masks:
                gaps = np.abs(self._points[batch + pending] - self._points[i]).max(axis=1)
                if gaps.min() >= _SPACING:
                    batch.append(int(i))
        return batch


def _take_if_free(mask: np.ndarray, row: int, col: int, occupied: np.ndarray,
                  settings: AdaptISSettings, selection: Selection) -> None:
    """Accept the mask and occupy its pixels, unless it is tiny or mostly occupied."""
    mask = cut_mask(mask, row, col, settings)
    inside = mask > settings.mask_threshold
    area = np.count_nonzero(inside)
    if area == 0 or area < settings.min_area:
        return
    if np.count_nonzero(inside & occupied) / area >= settings.overlap_threshold:
        return
    selection.accept_mask(mask)
    occupied |= inside


def _select_random(encoded: EncodedImage, settings: AdaptISSettings, ignore: Optional[np.ndarray],
                   sampling_mask: Optional[np.ndarray], draw: Draw,
                   selection: Selection) -> Selection:
    free = _is_thing(encoded, settings, ignore) & ~never_free(encoded, ignore, sampling_mask)
    limit = settings.iteration_limit(encoded.size)
    for iteration in range(limit):
        free_pixels = np.flatnonzero(free)
        if not len(free_pixels):
            break
        mask, _ = best_random_mask(encoded, free_pixels, draw, settings, settings.confident_prob)
        selection.queried += min(settings.num_candidates, len(free_pixels))
        inside = mask > settings.mask_threshold
        if _has_enough_free(inside, free, settings):
            selection.accept_mask(mask)
            free &= ~inside
        selection.tell(iteration + 1, limit)
    return selection


def _has_enough_free(inside: np.ndarray, free: np.ndarray, settings: AdaptISSettings) -> bool:
    area = np.count_nonzero(inside)
    if area == 0:
        return settings.official  # where 0 / 0 < threshold is false, so the mask is accepted
    return np.count_nonzero(inside & free) / area >= settings.overlap_threshold


def best_random_mask(encoded: EncodedImage, pixels: np.ndarray, draw: Draw,
                     settings: AdaptISSettings, threshold: float
                     ) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Draw ``num_candidates`` of the pixels and return the most confident mask, after its cut.

    ``pixels`` are flat indices; ``threshold`` is that of :func:`mean_confidence`.  Also returns the
    rows and columns of the pixels that were drawn.
    """
    chosen = draw(len(pixels), min(settings.num_candidates, len(pixels)))
    rows, cols = np.divmod(pixels[chosen], encoded.size[1])
    masks = encoded.masks_at(np.stack([rows, cols], axis=1).astype(np.float32))
    best = int(np.argmax([mean_confidence(mask, threshold) for mask in masks]))
    return cut_mask(masks[best], rows[best], cols[best], settings), (rows, cols)


def mean_confidence(mask: np.ndarray, threshold: float) -> float:
    """Return the mean of a mask's probabilities above a threshold, 0 if there are none."""
    inside = mask[mask > threshold]
    return float(inside.mean()) if inside.size else 0.0


def _is_thing(encoded: EncodedImage, settings: AdaptISSettings,
              ignore: Optional[np.ndarray]) -> np.ndarray:
    """Return bool (H, W): where a thing class is probable enough to search for an object."""
    prob = encoded.things_prob.max(axis=0)
    if ignore is not None:
        prob = prob * (ignore <= 0)
    return prob >= settings.things_threshold


def never_free(encoded: EncodedImage, ignore: Optional[np.ndarray],
               sampling_mask: Optional[np.ndarray]) -> np.ndarray:
    """Return bool (H, W): the pixels that are occupied from the start."""
    never = np.zeros(encoded.size, bool)
    if ignore is not None:
        never |= ignore > 0
    if sampling_mask is not None:
        never |= sampling_mask == 0
    return never


def cut_mask(mask: np.ndarray, row: int, col: int, settings: AdaptISSettings) -> np.ndarray:
    """Return the mask, cut to the square around its point if ``cut_radius`` is positive."""
    radius = settings.cut_radius
    if radius <= 0:
        return mask
    reach = radius if settings.official else radius + 1
    inside = np.s_[max(row - radius, 0):row + reach, max(col - radius, 0):col + reach]
    cut = np.zeros_like(mask)
    cut[inside] = mask[inside]
    return cut
