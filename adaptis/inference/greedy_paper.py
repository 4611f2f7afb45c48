"""The greedy algorithm exactly as in the paper (sections 4 and 5), for ``algorithm: paper``.

All pixels of stuff classes are segmented from the start.  Points come from the other pixels.  They
are the maxima of the proposal map, the highest first, or random points, of which the one whose mask
has the highest mean confidence is kept.  The mask of a point consists of the pixels whose
probability is above ``mask_threshold``.  It is accepted if less than ``overlap_threshold`` of it is
already segmented; its pixels then count as segmented.  The search ends when all pixels are
segmented or no point is left.  Finally each pixel belongs to the accepted object with the highest
probability.

The paper leaves these points open, so they are choices of this library:

* the first mask must pass the overlap test, too, because stuff is segmented before it;
* a mask without a pixel is not accepted;
* random points whose best mask is not accepted are not drawn again, or the search might not end;
* a pixel at which no accepted object is above ``mask_threshold`` belongs to none (``Merger``);
* an object gets the most probable thing class, even if stuff is more probable;
* the minimum height and the smoothing of the proposals come from the settings; so does their number
  if ``max_candidates`` is set, which counts only proposals that are not on stuff.
"""
from __future__ import annotations

import itertools
from typing import Optional

import numpy as np

from adaptis.inference.encoded_image import EncodedImage
from adaptis.inference.greedy import (
    Accept,
    Draw,
    LookAhead,
    Selection,
    Watch,
    best_random_mask,
    cut_mask,
    never_free,
    proposal_map,
    search_proposals,
    seeded_draw,
)
from adaptis.inference.settings import AdaptISSettings


def select_masks(encoded: EncodedImage, settings: AdaptISSettings,
                 ignore: Optional[np.ndarray] = None,
                 sampling_mask: Optional[np.ndarray] = None, draw: Optional[Draw] = None,
                 accept: Optional[Accept] = None, watch: Optional[Watch] = None) -> Selection:
    """Run the greedy algorithm on one image or tile; see ``adaptis.inference.greedy``.

    Raises AdaptisError if the settings use proposals and the network has no proposal branch, or if
    the masks do not fit into memory.
    """
    segmented = never_free(encoded, ignore, sampling_mask) | _is_stuff(encoded)
    selection = Selection(accept=accept, watch=watch)
    if settings.sampling == 'random':
        _select_random(encoded, settings, segmented, draw or seeded_draw(settings.seed), selection)
    else:
        _select_proposals(encoded, settings, segmented, sampling_mask, selection)
    return selection


def _select_proposals(encoded: EncodedImage, settings: AdaptISSettings, segmented: np.ndarray,
                      sampling_mask: Optional[np.ndarray], selection: Selection) -> None:
    prob = proposal_map(encoded, settings.replace(things_threshold=0.0), None, sampling_mask)
    points = search_proposals(prob, settings).candidates
    points = points[~segmented[tuple(points.T)]]
    by_height = np.argsort(-prob[tuple(points.T)], kind='stable')
    points = points[by_height][:settings.max_candidates]
    ahead = LookAhead(encoded, points, settings)
    for index, (row, col) in enumerate(points):
        if not segmented[row, col]:
            mask = cut_mask(ahead.mask(index, segmented), row, col, settings)
            _accept(mask, segmented, settings, selection)
        selection.tell(index + 1, len(points))
    selection.queried, selection.wasted = ahead.queried, ahead.queried - ahead.used


def _select_random(encoded: EncodedImage, settings: AdaptISSettings, segmented: np.ndarray,
                   draw: Draw, selection: Selection) -> None:
    given_up = np.zeros_like(segmented)
    limit = settings.num_iterations
    for iteration in itertools.count() if limit is None else range(limit):
        places = np.flatnonzero(~(segmented | given_up))
        if not len(places):
            break
        mask, drawn = best_random_mask(encoded, places, draw, settings, settings.mask_threshold)
        selection.queried += min(settings.num_candidates, len(places))
        if not _accept(mask, segmented, settings, selection):
            given_up[drawn] = True
        if limit is None:  # then the search ends when no pixel is free
            selection.tell(np.count_nonzero(segmented | given_up), segmented.size)
        else:
            selection.tell(iteration + 1, limit)


def _accept(mask: np.ndarray, segmented: np.ndarray, settings: AdaptISSettings,
            selection: Selection) -> bool:
    """Accept the mask if it passes the test and mark its pixels; return whether it did."""
    inside = mask > settings.mask_threshold
    area = np.count_nonzero(inside)
    if area == 0 or (np.count_nonzero(inside & segmented) / area
                     >= settings.overlap_threshold):
        return False
    selection.accept_mask(mask)
    segmented |= inside
    return True


def _is_stuff(encoded: EncodedImage) -> np.ndarray:
    """Return bool (H, W): where the most probable class is stuff."""
    stuff = encoded.stuff_prob
    if not len(stuff):
        return np.zeros(encoded.size, bool)
    return stuff.max(axis=0) >= encoded.things_prob.max(axis=0)
