"""``adaptis import``: convert images labelled with other tools into training data."""
from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from adaptis.categories import fill_colors
from adaptis.data.layouts import SPLITS
from adaptis.data.panoptic import PanopticIndex
from adaptis.data.sources import FORMATS, LabelledImage, Source, open_sources
from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import PanopticWriter
from adaptis.files import atomic_folder
from adaptis.progress import progress_bar
from adaptis.types import Category, PanopticResult, Segment, Taxonomy

HELP = """Import images that were labelled with another tool.  The labels can be COCO instances
JSON, JSON files of labelme, XML files of LabelMe, or masks in folders.  The command writes panoptic
data to DIR/train and DIR/val, which other commands read with --dataset coco."""
BACKGROUND = 'background'
SHOWN = 10


class Part(NamedTuple):
    """Some images of a source, which become one split."""

    split: str
    source: Source
    indices: Sequence[int]


class Drawn(NamedTuple):
    """A panoptic result, the ids of its crowds, and the number of objects that others hide."""

    result: PanopticResult
    crowd: frozenset[int]
    hidden: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('source', type=Path, metavar='SOURCE',
                        help='a JSON file, or the folder that holds the annotations')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument('--format', choices=FORMATS, help='format of the labels (default: detected '
                                                          'from the files)')
    parser.add_argument('--images', type=Path, metavar='DIR',
                        help='folder of the images, if they are not where the annotations say')
    parser.add_argument('--split', choices=SPLITS,
                        help='put all images into this split, e.g. to import train and val one '
                        'after the other')
    parser.add_argument('--val', type=float, default=0.2, metavar='SHARE',
                        help='fraction of the images that become the val split, unless the files '
                        'define one (default: %(default)s; 0 = no val split)')
    parser.add_argument('--seed', type=int, default=0, help='seed for the random choice of these '
                                                            'images (default: %(default)s)')
    parser.add_argument('--stuff', nargs='+', default=[], metavar='LABEL',
                        help='labels that are stuff, such as sky or road; all others are things')
    surroundings = parser.add_mutually_exclusive_group()
    surroundings.add_argument('--background', metavar='NAME',
                              help='make a stuff category with this name of all unlabelled pixels '
                              f'(default: "{BACKGROUND}" if there is no --stuff)')
    surroundings.add_argument('--no-background', action='store_true',
                              help='mark unlabelled pixels as void, which is ignored in training '
                              'and evaluation; use it if some objects have no label')
    parser.add_argument('--link', action='store_true',
                        help='link to the images instead of copying them')


def run(args: argparse.Namespace) -> int:
    """Import the images, and print what to do next; return 0."""
    if not 0 <= args.val < 1:
        raise AdaptisError('--val must be at least 0 and less than 1.')
    sources = open_sources(args.source, args.format, args.images)
    parts = _parts(sources, args)
    background = _background_name(args)
    taxonomy = _taxonomy(sources, args, background)
    for part in parts:
        if (args.out / part.split).exists():
            raise AdaptisError(f'{args.out / part.split} already exists: choose another --out or '
                               'another --split.')
    problems = [problem for source in sources for problem in source.problems]
    for problem in problems[:SHOWN]:
        print(problem)
    if len(problems) > SHOWN:
        print(f'... and {len(problems) - SHOWN} more.')
    for part in parts:
        _write(part, args.out, taxonomy, background, args.link)
    names = ', '.join(f'{c.name} ({"things" if c.isthing else "stuff"})'
                      for c in taxonomy.categories)
    print(f'Categories: {names}.\nNext: adaptis init-config adaptis_toy --data {args.out}')
    return 0


def draw_segments(image: LabelledImage, taxonomy: Taxonomy,
                  background: Optional[str] = None) -> Drawn:
    """Return the objects of an image as a panoptic result, with one segment per pixel.

    Things cover stuff, and of two things the one with fewer pixels covers the other.  All pixels of
    a stuff class are one segment.  Pixels without an object belong to ``background`` if it is
    given, else to no segment.
    """
    by_name = {c.name: c for c in taxonomy.categories}
    canvas = _Canvas(image.size)
    for item in sorted(image.objects, key=lambda o: (by_name[o.label].isthing,
                                                     -np.count_nonzero(o.mask))):
        canvas.paint(by_name[item.label], item.mask, item.crowd)
    void = np.zeros(image.size, bool) if image.void is None else image.void
    if background is not None:
        canvas.paint(by_name[background], (canvas.segment_map == 0) & ~void)
    canvas.segment_map[void] = 0
    return canvas.result()


class _Canvas:
    """A segment map on which later segments cover earlier ones."""

    def __init__(self, size: tuple[int, int]):
        self.segment_map = np.zeros(size, np.int32)
        self._categories: list[Category] = []
        self._crowd: set[int] = set()
        self._stuff: dict[int, int] = {}   # category id -> segment id

    def paint(self, category: Category, mask: np.ndarray, crowd: bool = False) -> None:
        """Add a thing, or pixels to the segment of a stuff class."""
        number = self._stuff.get(category.id)
        if number is None:
            self._categories.append(category)
            number = len(self._categories)
        if not category.isthing:
            self._stuff[category.id] = number
        if crowd:
            self._crowd.add(number)
        self.segment_map[mask] = number

    def result(self) -> Drawn:
        """Return the segments that have at least one pixel."""
        areas = np.bincount(self.segment_map.ravel(), minlength=len(self._categories) + 1)
        numbered = list(enumerate(self._categories, start=1))
        segments = [Segment(k, c.id, c.isthing, 1.0, int(areas[k]), c.name)
                    for k, c in numbered if areas[k]]
        hidden = sum(c.isthing and not areas[k] for k, c in numbered)
        return Drawn(PanopticResult(self.segment_map, segments), frozenset(self._crowd), hidden)


def _parts(sources: Sequence[Source], args: argparse.Namespace) -> list[Part]:
    if args.split is not None:
        if len(sources) > 1:
            raise AdaptisError(f'{args.source} contains several splits: leave out --split, or give '
                               'the JSON of one split.')
        return [Part(args.split, sources[0], range(len(sources[0])))]
    if sources[0].split is not None:
        return [Part(str(source.split), source, range(len(source))) for source in sources]
    source, = sources
    order = np.random.default_rng(args.seed).permutation(len(source)).tolist()
    held_out = round(len(order) * args.val)
    if args.val and len(order) > 1:
        held_out = min(max(held_out, 1), len(order) - 1)
    parts = [Part('train', source, sorted(order[held_out:])),
             Part('val', source, sorted(order[:held_out]))]
    return [part for part in parts if part.indices]


def _background_name(args: argparse.Namespace) -> Optional[str]:
    if args.no_background:
        return None
    return args.background or (None if args.stuff else BACKGROUND)


def _taxonomy(sources: Sequence[Source], args: argparse.Namespace,
              background: Optional[str]) -> Taxonomy:
    """Return the categories of all labels, or those of previously imported splits."""
    labels = list(dict.fromkeys(label for source in sources for label in source.labels))
    unknown = [label for label in args.stuff if label not in labels]
    if unknown:
        raise AdaptisError(f'--stuff {unknown[0]}: the data have no label of this name; the labels '
                           f'are {", ".join(labels)}.')
    if background is not None and background not in labels:
        labels.append(background)
    stuff = {*args.stuff, *([background] if background else [])}
    earlier = next((args.out / split / 'panoptic.json' for split in SPLITS
                    if (args.out / split / 'panoptic.json').is_file()), None)
    if earlier is not None:
        return _earlier_taxonomy(earlier, labels, stuff)
    return Taxonomy([Category(number, label, label not in stuff, color) for number, (label, color)
                     in enumerate(zip(labels, fill_colors([None] * len(labels))), start=1)])


def _earlier_taxonomy(path: Path, labels: Sequence[str], stuff: set[str]) -> Taxonomy:
    taxonomy = Taxonomy(PanopticIndex(path).categories)
    known = {c.name: c for c in taxonomy.categories}
    for label in labels:
        if label not in known or known[label].isthing == (label in stuff):
            have = 'no category' if label not in known else 'a different type (thing or stuff)'
            raise AdaptisError(f'The label {label} has {have} in {path}, which was imported '
                               'before: import all splits with the same labels, --stuff and '
                               '--background, or into another --out.')
    return taxonomy


def _write(part: Part, out: Path, taxonomy: Taxonomy, background: Optional[str],
           link: bool) -> None:
    """Write one split; its folder appears only when it is complete."""
    objects = hidden = 0
    with atomic_folder(out / part.split, replaceable=lambda _: False) as folder, PanopticWriter(
            folder / 'panoptic.json', folder / 'panoptic', taxonomy) as writer:
        for number, index in enumerate(progress_bar(part.indices, 'image'), start=1):
            image = part.source.read(index)
            drawn = draw_segments(image, taxonomy, background)
            _place(image.path, folder / 'images' / image.name, link)
            nested = '/' in image.name
            writer.add(number, image.name, drawn.result, crowd=drawn.crowd,
                       png=str(Path(image.name).with_suffix('.png')) if nested else None)
            objects += len(drawn.result.things)
            hidden += drawn.hidden
    note = f', {hidden} more left out because others cover them completely' if hidden else ''
    print(f'{out / part.split}: {len(part.indices)} image{"s" * (len(part.indices) != 1)}, '
          f'{objects} objects{note}.')


def _place(source: Path, target: Path, link: bool) -> None:
    if target.exists():
        raise AdaptisError(f'Two images are called {target.name}: rename one of them.')
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        os.symlink(source.resolve(), target)
    else:
        shutil.copyfile(source, target)
