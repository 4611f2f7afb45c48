"""``adaptis toy``: generate the toy data sets."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Optional

from adaptis.data.toy import IMAGE_SUFFIX, ToyDataset
from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import InstanceAnnotationsWriter, PanopticWriter
from adaptis.evaluation.segments import sample_truth
from adaptis.machine import usable_cores
from adaptis.progress import open_bar
from adaptis.toy_data import (
    COUNTS,
    DEFAULTS,
    SPLITS,
    ToySettings,
    generate,
    street_sheet,
    write_contact_sheet,
    write_sheet,
)
from adaptis.types import TOY_TAXONOMY

HELP = 'Draw ToyV1 (section 6 of the paper), ToyV2 (official code), or street scenes.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('--version', choices=tuple(DEFAULTS), default='v1', help='which data set '
                                                                                 'to draw '
                                                                                 '(default: v1)')
    parser.add_argument('--out', type=Path, help='folder to write to; an interrupted run can be '
                                                 'resumed')
    parser.add_argument('--split', nargs='+', choices=SPLITS,
                        help='splits to draw (default: all splits that have a default count)')
    parser.add_argument('--count', nargs='+', type=int, metavar='N',
                        help='number of images: one for all splits, or one for each (default for '
                             'v1: as in the paper)')
    parser.add_argument('--size', nargs='+', type=int, metavar='PIXELS',
                        help='side of the images, or height and width (default: 96 for v1, 128 for '
                             'v2, 128 256 for street)')
    parser.add_argument('--objects', nargs=2, type=int, metavar=('MIN', 'MAX'),
                        help='number of objects in an image (default: 8 22 for v1, 12 52 for v2, 6 '
                             '18 for street)')
    parser.add_argument('--seed', type=int, default=0, help='random seed (default: 0)')
    parser.add_argument('--workers', type=int, default=usable_cores(),
                        help='number of processes; the images do not depend on it (default: one '
                             'per core)')
    parser.add_argument('--coco', action='store_true',
                        help='v1 and v2 only: also write COCO panoptic and instances annotations')
    parser.add_argument('--layout', choices=('coco', 'cityscapes'),
                        help='street only: write COCO panoptic format or the folders of Cityscapes '
                             '(default: coco)')
    parser.add_argument('--contact-sheet', type=Path, metavar='PNG',
                        help='instead of a data set, write one picture that compares real and '
                             'generated samples (street: that shows scenes and their labels)')
    parser.add_argument('--beside', type=Path, metavar='DIR',
                        help='folder with the real samples for --contact-sheet')


def run(args: argparse.Namespace) -> int:
    """Generate the data set or the contact sheet; return 0.

    Raises
    ------
    AdaptisError
        If the settings are invalid, the folder has other content, or the disk is full.
    """
    if (args.contact_sheet is None) == (args.out is None):
        raise AdaptisError('Nothing to write: give a folder with --out, or a PNG file with '
                           '--contact-sheet.')
    _check_options(args)
    try:
        if args.contact_sheet is not None:
            _write_sheet(args)
            return 0
        counts = _counts(args.version, args.split, args.count)
        _generate(args, counts)
    except ValueError as error:
        raise AdaptisError(str(error)) from error
    if args.coco:
        for split in counts:
            write_coco(args.out, split)
    return 0


def write_coco(folder: Path, split: str) -> None:
    """Write COCO annotations of one split of a generated data set.

    The files are ``panoptic_<split>.json``, ``panoptic_<split>/`` and ``instances_<split>.json``.
    Image ids are the numbers in the file names.

    Raises
    ------
    AdaptisError
        If the split is missing or broken, or the disk is full.
    """
    dataset = ToyDataset(folder, split)
    with PanopticWriter(folder / f'panoptic_{split}.json', folder / f'panoptic_{split}',
                        TOY_TAXONOMY) as panoptic, \
            InstanceAnnotationsWriter(folder / f'instances_{split}.json',
                                      TOY_TAXONOMY) as instances:
        for index, name in enumerate(open_bar(dataset.names, desc=f'COCO {split}', unit='image')):
            truth, _ = sample_truth(dataset[index], TOY_TAXONOMY)
            panoptic.add(int(name), name + IMAGE_SUFFIX, truth)
            instances.add(int(name), name + IMAGE_SUFFIX, truth)


def _check_options(args: argparse.Namespace) -> None:
    street = args.version == 'street'
    if street and (args.beside is not None or args.coco):
        raise AdaptisError('Street scenes are always written in COCO panoptic format and have no '
                           'real samples: leave out --coco and --beside.')
    if not street and args.layout is not None:
        raise AdaptisError('--layout is only for street scenes: v1 and v2 have the layout of their '
                           'authors.')
    if not street and (args.contact_sheet is None) != (args.beside is None):
        raise AdaptisError('--contact-sheet needs --beside, the folder with the real samples, and '
                           'vice versa.')


def _write_sheet(args: argparse.Namespace) -> None:
    if args.version == 'street':
        write_sheet(args.contact_sheet, street_sheet())
    else:
        write_contact_sheet(args.contact_sheet, args.beside)


def _generate(args: argparse.Namespace, counts: dict[str, int]) -> None:
    if args.workers < 1:
        raise AdaptisError(f'--workers must be at least 1, but is {args.workers}.')
    settings = _settings(args)
    bars: dict[str, Any] = {}

    def show(split: str, done: int, total: int) -> None:
        if split not in bars:
            bars[split] = open_bar(desc=split, total=total, initial=done, unit='image')
        bars[split].update(done - bars[split].n)
        if done == total:
            bars[split].close()

    try:
        generate(settings, args.out, counts, args.workers, show, args.layout)
    finally:
        for bar in bars.values():
            bar.close()


def _settings(args: argparse.Namespace) -> ToySettings:
    changes = {'seed': args.seed}
    if args.size is not None:
        if len(args.size) > 2:
            raise AdaptisError('--size takes one side, or height and width, but not '
                               f'{len(args.size)} numbers.')
        changes.update(height=args.size[0], width=args.size[-1])
    if args.objects is not None:
        changes.update(min_objects=args.objects[0], max_objects=args.objects[1])
    return ToySettings.default(args.version, **changes)


def _counts(version: str, splits: Optional[list[str]],
            counts: Optional[list[int]]) -> dict[str, int]:
    known = {'val': 1_000, **COUNTS[version]}
    splits = list(dict.fromkeys(splits or COUNTS[version]))
    if counts is None:
        return {split: known[split] for split in splits}
    if len(counts) == 1:
        counts = counts * len(splits)
    if len(counts) != len(splits):
        raise AdaptisError(f'--count has {len(counts)} numbers for {len(splits)} splits: give one '
                           'number for all splits or one for each.')
    return dict(zip(splits, counts))
