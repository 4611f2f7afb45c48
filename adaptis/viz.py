"""Pictures of results: overlays, heat maps, contact sheets.  All are RGB ``uint8`` (H, W, 3)."""
from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Optional

import cv2
import numpy as np

from adaptis.categories import distinct_colors
from adaptis.errors import AdaptisError
from adaptis.types import PanopticResult, Taxonomy

_CAPTION_HEIGHT = 18
_GRID = 8


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
                     taxonomy: Optional[Taxonomy] = None, alpha: float = 0.55,
                     labels: bool = False, like: Optional[PanopticResult] = None) -> np.ndarray:
    """Return an image with its things tinted and outlined, and its stuff in the taxonomy's colours.

    Parameters
    ----------
    image : RGB uint8 (H, W, 3)
    result : of the same size
    taxonomy : the colours of the classes; without it stuff is not tinted
    alpha : how strongly things are tinted
    labels : also write class names and scores, see :func:`write_labels`
    like : another result for the image, usually the ground truth, from which objects take their
        colours, see :func:`instance_colors`

    Raises AdaptisError if the result and the image have different sizes.
    """
    if result.segment_map.shape != image.shape[:2]:
        raise AdaptisError(f'The result is {result.segment_map.shape}, but the image is '
                           f'{image.shape[:2]}.')
    tinted = image.copy()
    for segment in result.segments if taxonomy is not None else ():
        if not segment.isthing:
            inside = result.segment_map == segment.id
            color = np.array(taxonomy.by_id(segment.category_id).color)
            tinted[inside] = (image[inside] * 0.7 + color * 0.3 + 0.5).astype(np.uint8)
    ids = thing_ids(result)
    table = np.zeros((int(ids.max(initial=0)) + 1, 3), np.uint8)
    for number, color in instance_colors(result, taxonomy, like).items():
        table[number] = color
    picture = overlay_instances(tinted, ids, alpha, table[ids])
    return write_labels(picture, result, taxonomy) if labels else picture


def instance_colors(result: PanopticResult, taxonomy: Optional[Taxonomy] = None,
                    like: Optional[PanopticResult] = None) -> dict[int, np.ndarray]:
    """Return segment id -> colour, uint8 (3,), for the things that have a pixel.

    The colour depends on the position of the object: on the cell of an 8x8 grid that contains its
    centre.  So an object keeps its colour when other objects appear or disappear, and usually when
    its outline changes slightly.  Objects in the same cell get different colours.  If the taxonomy
    has several thing classes, the colour is a shade of the class's colour.

    With ``like``, an object gets the colour of the object there with which it has an IoU above 1/2.
    """
    slots = _color_numbers(result, {} if like is None else _matched_numbers(result, like))
    palette = distinct_colors(max(slots.values(), default=0) + 1)
    if taxonomy is None or taxonomy.num_things < 2:
        return {number: palette[slot] for number, slot in slots.items()}
    color_of = {s.id: np.array(taxonomy.by_id(s.category_id).color) for s in result.things}
    return {number: (0.7 * color_of[number] + 0.3 * palette[slot] + 0.5).astype(np.uint8)
            for number, slot in slots.items()}


def write_labels(picture: np.ndarray, result: PanopticResult,
                 taxonomy: Optional[Taxonomy] = None) -> np.ndarray:
    """Return an image with the class name of each segment and, for things, the score in percent.

    A label is written where its segment is widest.  It is omitted if it is wider than twice the
    segment, or would cover another label; larger segments come first.
    """
    picture = np.ascontiguousarray(picture.copy())
    scale = float(np.clip(min(picture.shape[:2]) / 900, 0.33, 1.0))
    used = np.zeros(picture.shape[:2], bool)
    for segment in sorted(result.segments, key=lambda s: -s.area):
        mask = (result.segment_map == segment.id).astype(np.uint8)
        if not mask.any():
            continue
        name = segment.name if taxonomy is None else taxonomy.by_id(segment.category_id).name
        text = f'{name} {segment.score:.0%}' if segment.isthing else name
        _write_label(picture, text.encode('ascii', 'replace').decode(), mask, used, scale)
    return picture


def thing_ids(result: PanopticResult) -> np.ndarray:
    """Return the segment map without stuff, int32 (H, W)."""
    top = int(result.segment_map.max(initial=0)) + 1
    keep = np.zeros(top, np.int32)
    for segment in result.things:
        if segment.id < top:
            keep[segment.id] = segment.id
    return keep[result.segment_map]


def overlay_mask(image: np.ndarray, mask: np.ndarray, x: Optional[float] = None,
                 y: Optional[float] = None, color: Sequence[int] = (255, 40, 40)) -> np.ndarray:
    """Return an image tinted by a soft mask, float (H, W) in [0, 1], and the click if given."""
    weight = 0.7 * np.clip(mask, 0, 1)[..., None]
    tinted = (image * (1 - weight) + np.array(color) * weight + 0.5).astype(np.uint8)
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
        raise AdaptisError('A contact sheet needs at least one image.')
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
               truth: Optional[PanopticResult] = None,
               taxonomy: Optional[Taxonomy] = None) -> list[np.ndarray]:
    """Return a row of a contact sheet: image, proposal map, prediction, ground truth.

    A predicted object has the colour of its ground-truth object.
    """
    row = [image]
    if proposals is not None:
        row.append(heat_map(proposals))
    row.append(overlay_panoptic(image, result, taxonomy, like=truth))
    if truth is not None:
        row.append(overlay_panoptic(image, truth, taxonomy))
    return row


def _color_numbers(result: PanopticResult, known: Mapping[int, int]) -> dict[int, int]:
    """Return segment id -> number of a unique colour, for the things that have a pixel."""
    height, width = result.segment_map.shape
    places = []
    for segment in result.things:
        rows, cols = np.nonzero(result.segment_map == segment.id)
        if rows.size:
            cell = int(rows.mean() * _GRID / height) * _GRID + int(cols.mean() * _GRID / width)
            places.append((-rows.size, cell, segment.id))
    numbers = {number: known[number] for *_, number in places if number in known}
    taken = set(numbers.values())
    for _, cell, number in sorted(places):
        if number not in numbers:
            numbers[number] = next(k for k in itertools.count(cell) if k not in taken)
            taken.add(numbers[number])
    return numbers


def _matched_numbers(result: PanopticResult, like: PanopticResult) -> dict[int, int]:
    """Return segment id -> number of the colour of the object in ``like`` that it matches."""
    theirs = _color_numbers(like, {})
    found = {}
    for segment in result.things:
        mine = result.segment_map == segment.id
        ids, counts = np.unique(like.segment_map[mine], return_counts=True)
        for other, shared in zip(ids.tolist(), counts.tolist()):
            union = np.count_nonzero(like.segment_map == other) + np.count_nonzero(mine) - shared
            if other in theirs and 2 * shared > union:
                found[segment.id] = theirs[other]
    return found


def _write_label(picture: np.ndarray, text: str, mask: np.ndarray, used: np.ndarray,
                 scale: float) -> None:
    """Write a text on a dark box in the middle of a mask, and mark the box as used."""
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    width, height = width + 4, height + below + 2
    if width > 2 * cv2.boundingRect(mask)[2] or width > mask.shape[1] or height > mask.shape[0]:
        return
    depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, col = np.unravel_index(depth.argmax(), depth.shape)
    left = int(np.clip(col - width // 2, 0, mask.shape[1] - width))
    top = int(np.clip(row - height // 2, 0, mask.shape[0] - height))
    box = np.s_[top:top + height, left:left + width]
    if used[box].any():
        return
    used[box] = True
    picture[box] = picture[box] // 4
    cv2.putText(picture, text, (left + 2, top + height - below - 1), cv2.FONT_HERSHEY_SIMPLEX,
                scale, (255, 255, 255), 1, cv2.LINE_AA)


def _borders(ids: np.ndarray) -> np.ndarray:
    """Return bool (H, W): pixels whose right or lower neighbour has another id."""
    border = np.zeros(ids.shape, bool)
    border[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    border[:-1] |= ids[:-1] != ids[1:]
    return border
