"""Images of results: overlays, heat maps, contact sheets.  All are RGB ``uint8`` (H, W, 3)."""
from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Optional

import cv2
import numpy as np

from adaptis.categories import distinct_colors
from adaptis.errors import AdaptisError
from adaptis.types import PanopticResult, Taxonomy

_CAPTION_HEIGHT = 18


def color_ids(ids: np.ndarray, background: Sequence[int] = (0, 0, 0)) -> np.ndarray:
    """Return an id mask (H, W), 0 = none, with one colour per id."""
    present, index = np.unique(ids, return_inverse=True)
    colors = distinct_colors(len(present) - int((present == 0).any()))
    if (present == 0).any():
        zero = int(np.searchsorted(present, 0))
        colors = np.insert(colors, zero, background, axis=0)
    return colors[index.reshape(ids.shape)]


def overlay_instances(image: np.ndarray, ids: np.ndarray, alpha: float = 0.55,
                      colors: Optional[np.ndarray] = None) -> np.ndarray:
    """Return an image with its objects tinted and outlined; ``ids`` int (H, W), 0 = none.

    ``colors`` uint8 (H, W, 3) are the colours, by default one per id.
    """
    colors = color_ids(ids) if colors is None else colors
    inside = ids != 0
    blended = image.copy()
    blended[inside] = (image[inside] * (1 - alpha) + colors[inside] * alpha + 0.5).astype(np.uint8)
    edge = inside & _borders(ids)
    blended[edge] = colors[edge]
    return blended


def overlay_panoptic(image: np.ndarray, result: PanopticResult,
                     taxonomy: Optional[Taxonomy] = None, alpha: float = 0.55) -> np.ndarray:
    """Return an image with its things tinted and outlined, and its stuff in the taxonomy's colours.

    If the taxonomy has several classes of things, an object has a shade of its class's colour.
    Raises AdaptisError if the result and the image have different sizes.
    """
    if result.segment_map.shape != image.shape[:2]:
        raise AdaptisError(f'The result is {result.segment_map.shape} but the image is '
                           f'{image.shape[:2]}.')
    tinted = image.copy()
    for segment in result.segments if taxonomy is not None else ():
        if not segment.isthing:
            inside = result.segment_map == segment.id
            color = np.array(taxonomy.by_id(segment.category_id).color)
            tinted[inside] = (image[inside] * 0.7 + color * 0.3 + 0.5).astype(np.uint8)
    several = taxonomy is not None and taxonomy.num_things > 1
    colors = _class_shades(result, taxonomy) if several else None
    return overlay_instances(tinted, thing_ids(result), alpha, colors)


def thing_ids(result: PanopticResult) -> np.ndarray:
    """Return the segment map without stuff, int32 (H, W)."""
    top = int(result.segment_map.max(initial=0)) + 1
    keep = np.zeros(top, np.int32)
    for segment in result.things:
        if segment.id < top:
            keep[segment.id] = segment.id
    return keep[result.segment_map]


def overlay_mask(image: np.ndarray, mask: np.ndarray, x: Optional[float] = None,
                 y: Optional[float] = None) -> np.ndarray:
    """Return an image tinted red by a soft mask, float (H, W) in [0, 1], and the click if given."""
    weight = 0.7 * np.clip(mask, 0, 1)[..., None]
    tinted = (image * (1 - weight) + np.array([255, 40, 40]) * weight + 0.5).astype(np.uint8)
    if x is not None and y is not None:
        cv2.drawMarker(tinted, (round(x), round(y)), (0, 90, 255), cv2.MARKER_CROSS,
                       markerSize=7, thickness=1)
    return tinted


def heat_map(prob: np.ndarray) -> np.ndarray:
    """Return a probability map (H, W) as colours from dark blue (0) to yellow (1)."""
    grey = (np.clip(np.nan_to_num(prob), 0, 1) * 255 + 0.5).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)


def contact_sheet(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str] = (),
                  scale: int = 1, gap: int = 4) -> np.ndarray:
    """Return images in a grid, one list per row, on white.

    Parameters
    ----------
    rows : RGB uint8 (H, W, 3); sizes may differ, and a row is as high as its highest image
    titles : a caption above each column
    scale : enlarge every pixel to a square with this side
    """
    rows = [row for row in rows if len(row)]
    if not rows:
        raise AdaptisError('A contact sheet needs at least one picture.')
    columns = list(zip_longest(*rows))
    heights = [max(p.shape[0] for p in row) * scale + gap for row in rows]
    widths = [max(p.shape[1] for p in column if p is not None) * scale + gap for column in columns]
    tops = np.cumsum([gap + (_CAPTION_HEIGHT if titles else 0), *heights])
    lefts = np.cumsum([gap, *widths])
    sheet = np.full((tops[-1], lefts[-1], 3), 255, np.uint8)
    for y, row in zip(tops, rows):
        for x, picture in zip(lefts, row):
            big = picture.repeat(scale, axis=0).repeat(scale, axis=1)
            sheet[y:y + big.shape[0], x:x + big.shape[1]] = big
    for x, title in zip(lefts, titles):
        cv2.putText(sheet, title, (int(x), _CAPTION_HEIGHT - 4), cv2.FONT_HERSHEY_SIMPLEX,
                    0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return sheet


def result_row(image: np.ndarray, result: PanopticResult, proposals: Optional[np.ndarray] = None,
               truth: Optional[np.ndarray] = None,
               taxonomy: Optional[Taxonomy] = None) -> list[np.ndarray]:
    """Return a row of a contact sheet: image, proposal map, found objects, true id mask."""
    row = [image]
    if proposals is not None:
        row.append(heat_map(proposals))
    row.append(overlay_panoptic(image, result, taxonomy))
    if truth is not None:
        row.append(overlay_instances(image, truth))
    return row


def _class_shades(result: PanopticResult, taxonomy: Taxonomy) -> np.ndarray:
    """Return uint8 (H, W, 3): objects in the colours of their classes, each slightly different."""
    table = np.zeros((int(result.segment_map.max(initial=0)) + 1, 3), np.uint8)
    things = [s for s in result.things if s.id < len(table)]
    for segment, own in zip(things, distinct_colors(len(things))):
        shade = 0.7 * np.array(taxonomy.by_id(segment.category_id).color) + 0.3 * own
        table[segment.id] = shade + 0.5
    return table[result.segment_map]


def _borders(ids: np.ndarray) -> np.ndarray:
    """Return bool (H, W): pixels with another id to the right of or below them."""
    border = np.zeros(ids.shape, bool)
    border[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    border[:-1] |= ids[:-1] != ids[1:]
    return border
