"""Street scenes: a toy panoptic problem with labels and ids like those of Cityscapes.

There are five classes of stuff and three of things with different shapes (boxy cars, tall persons,
round bicycles).  Objects stand on the ground and are smaller the closer they are to the horizon.
They are drawn from far to near, many of them close to the previous one, so that they cover each
other.  Some bushes stand in front.  Distant persons can form a group that is one crowd region.
The observer's car and some litter are void.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from .layer import MIN_VISIBLE, IdLayer, Window
from .scenery import HEDGE, VOID_COLOR, Canvas, Color, Ground, bush, draw_ground, jitter
from .stream import Stream
from .vehicles import BODIES, Body, Pose, paint

FIRST_OBJECT = 1000        # id = label * 1000 + number; a crowd has its label for an id
BUSH, EGO, LITTER = 21, 1, 4
PERSON, CAR, BICYCLE = 24, 26, 33
SHARES = (PERSON,) * 4 + (CAR,) * 4 + (BICYCLE,) * 2
NEAR, FAR = 100, 24        # position of things, in percent of the way from horizon to bottom
TWINS = 45                 # percent of the objects that are placed beside the previous one
MIN_SHARE = 20             # smallest visible percentage of every object
CROWDS, LITTERS, EGOS = 35, 40, 50   # percent of the images
TRIES = 12
EXTRAS = 4                 # crowd, bush, litter and the observer's car have numbers, too


class Category(NamedTuple):
    """A class of the data set, with the fields of COCO."""

    id: int
    name: str
    isthing: bool
    color: tuple[int, int, int]


CATEGORIES = (
    Category(7, 'road', False, (128, 64, 128)),
    Category(8, 'sidewalk', False, (244, 35, 232)),
    Category(11, 'building', False, (70, 70, 70)),
    Category(21, 'vegetation', False, (107, 142, 35)),
    Category(23, 'sky', False, (70, 130, 180)),
    Category(24, 'person', True, (220, 20, 60)),
    Category(26, 'car', True, (0, 0, 142)),
    Category(33, 'bicycle', True, (119, 11, 32)),
)
"""Ids, names and colours are those of Cityscapes."""


def render_street(stream: Stream, height: int, width: int, count: int
                  ) -> tuple[np.ndarray, np.ndarray]:
    """Render one sharp image of at most ``count`` objects; fewer if there is no room for them.

    Every object keeps ``layer.MIN_VISIBLE`` pixels and ``MIN_SHARE`` percent of its area.

    Returns
    -------
    image : uint8 (height, width, 3), RGB
    ids : uint16 (height, width): the label of stuff and void, ``FIRST_OBJECT`` times the label plus
        a number for an object, and only the label of a thing for a crowd
    """
    ground = Ground.draw(stream, height, width)
    scene = _Scene(draw_ground(stream, ground), ground,
                   IdLayer(height, width, count + EXTRAS, MIN_SHARE), {})
    if stream.chance(CROWDS):
        _add_crowd(stream, scene)
    _add_objects(stream, scene, count)
    if stream.chance(HEDGE):
        _add_bush(stream, scene, height, width)
    if stream.chance(LITTERS):
        _add_litter(stream, scene, height, width)
    if stream.chance(EGOS):
        _add_ego(stream, scene, height, width)
    return scene.canvas.image(), scene.finish(stream)


class _Scene(NamedTuple):
    """The scene that is painted; ``labels`` maps numbers in ``layer`` to label and is-a-group."""

    canvas: Canvas
    ground: Ground
    layer: IdLayer
    labels: dict[int, tuple[int, bool]]

    def add(self, window: Window, mask: np.ndarray, label: int, group: bool) -> bool:
        """Let an object cover what is there; False if it would cover too much of another one."""
        if not self.layer.add(window, mask, len(self.labels) + 1):
            return False
        self.labels[len(self.labels) + 1] = label, group
        return True

    def color(self, window: Window, drawn: np.ndarray, colors: Sequence[Color]) -> None:
        """Paint the pixels where ``drawn`` is k > 0 in the k-th of the colours."""
        first = self.canvas.mix(colors)
        np.copyto(self.canvas.paints[window], np.add(drawn, first - 1, dtype=np.int32),
                  where=drawn > 0)

    def finish(self, stream: Stream) -> np.ndarray:
        """Return the final ids; objects are numbered in random order, not by their depth."""
        table = np.zeros(len(self.labels) + 1, np.uint16)
        ids = self.layer.ids
        order = stream.shuffled(len(self.labels))
        for number, (label, group) in self.labels.items():
            table[number] = label if group else label * FIRST_OBJECT + order[number - 1]
        return np.where(ids > 0, table.take(ids), self.canvas.labels())


def _add_objects(stream: Stream, scene: _Scene, count: int) -> None:
    depths = sorted(min(stream.between(FAR, NEAR), stream.between(FAR, NEAR))
                    for _ in range(count))
    before = None
    for depth in depths:
        for _ in range(TRIES):
            pose = _draw_pose(stream, scene.ground, depth, before)
            window, drawn, colors = paint(BODIES[pose.label], pose, scene.layer.ids.shape, stream)
            if drawn.size and scene.add(window, drawn > 0, pose.label, False):
                scene.color(window, drawn, colors)
                before = pose
                break


def _draw_pose(stream: Stream, ground: Ground, depth: int, before: Optional[Pose]) -> Pose:
    twin = before is not None and stream.chance(TWINS)
    label = before.label if twin else SHARES[stream.below(len(SHARES))]
    body: Body = BODIES[label]
    unit = ground.unit(depth)
    tall = unit * stream.between(*body.height) // 100
    wide = tall * stream.between(*body.aspect) // 100
    if twin:
        x = before.x + stream.bell(-before.wide * 4 // 5, before.wide * 4 // 5)
    else:
        x = stream.between(0, 16 * ground.width)
    return Pose(label, x, ground.bottom(depth), wide, tall)


def _add_crowd(stream: Stream, scene: _Scene) -> None:
    """Add some distant persons that cannot be told apart."""
    depth = stream.between(FAR - 8, FAR + 6)
    unit = scene.ground.unit(depth)
    x = stream.between(0, 16 * scene.ground.width)
    height, width = scene.layer.ids.shape
    covered = np.zeros((height, width), bool)
    painted: list = []
    for _ in range(stream.between(4, 8)):
        tall = unit * stream.between(*BODIES[PERSON].height) // 100
        pose = Pose(PERSON, x, scene.ground.bottom(depth), tall * 40 // 100, tall)
        window, drawn, colors = paint(BODIES[PERSON], pose, (height, width), stream)
        covered[window] |= drawn > 0
        painted.append((window, drawn, colors))
        x += tall * stream.between(20, 38) // 100
    if covered.sum() >= MIN_VISIBLE and scene.add((slice(0, height), slice(0, width)), covered,
                                                  PERSON, True):
        for person in painted:
            scene.color(*person)


def _add_bush(stream: Stream, scene: _Scene, height: int, width: int) -> None:
    window, mask, color = bush(stream, height, width)
    if scene.add(window, mask, BUSH, True):
        scene.color(window, mask, [color])


def _add_litter(stream: Stream, scene: _Scene, height: int, width: int) -> None:
    side = max(2, height // stream.between(14, 24))
    top = stream.between(height * 6 // 10, height - side)
    left = stream.between(0, width - side)
    window = slice(top, top + side), slice(left, left + 2 * side)
    mask = np.ones(scene.layer.ids[window].shape, bool)
    if scene.add(window, mask, LITTER, True):
        scene.color(window, mask, [jitter(stream, VOID_COLOR, 40)])


def _add_ego(stream: Stream, scene: _Scene, height: int, width: int) -> None:
    """Add the bonnet of the observer's car."""
    rows = max(1, height * stream.between(4, 9) // 100)
    window = slice(height - rows, height), slice(0, width)
    x = (np.arange(width) + 0.5) * 2 / width - 1
    y = (np.arange(rows) + 0.5) / rows
    mask = y[:, None] >= x * x
    if scene.add(window, mask, EGO, True):
        scene.color(window, mask, [jitter(stream, VOID_COLOR, 20)])
