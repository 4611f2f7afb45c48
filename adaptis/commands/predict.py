"""``adaptis predict``: segment an image or a folder of images."""
from __future__ import annotations

import argparse
import contextlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adaptis import viz
from adaptis.commands.options import add_network_options, check_backend, resolve_settings
from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import InstancesWriter, PanopticWriter
from adaptis.files import list_images, read_image, write_image
from adaptis.loading import check_network, load_predictor
from adaptis.progress import progress_bar, write_line

HELP = """Segment an image or every image of a folder.  The output folder gets overlay/*.png (for
viewing), panoptic.json with panoptic/*.png (COCO panoptic format) and instances.json (COCO
detection results); with --click it gets clicks/*.png instead."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('input', type=Path, metavar='IMAGE_OR_FOLDER')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument('--model', metavar='NAME',
                        help='the network to use, e.g. panoptic_fpn_r50: --checkpoint must hold it')
    add_network_options(parser)
    parser.add_argument('--tile', type=int, nargs=2, metavar=('H', 'W'),
                        help='cut large images into overlapping tiles of this size')
    parser.add_argument('--click', type=float, nargs=2, action='append', metavar=('X', 'Y'),
                        default=[], help='write the mask at this point instead of segmenting '
                        'everything; may be repeated')


def run(args: argparse.Namespace) -> int:
    """Segment all images; return 0.

    Raises AdaptisError at the end if some images failed.
    """
    paths = list_images(args.input)
    if args.model is not None:
        check_network(args.model, args.checkpoint)
    check_backend(args)
    _, settings = resolve_settings(args, **({'tile': tuple(args.tile)} if args.tile else {}))
    predictor = load_predictor(args.checkpoint, settings, args.ctx, backend=args.backend)
    if args.click and not hasattr(predictor, 'mask_at'):
        raise AdaptisError(f'{args.checkpoint} holds no AdaptIS network, but --click works only '
                           'with AdaptIS.')
    work = _clicks if args.click else _panoptic
    failed = work(predictor, paths, args)
    if failed:
        raise AdaptisError(f'{failed} of {len(paths)} images could not be segmented (see above).')
    print(f'Wrote the results for {len(paths)} image{"s" * (len(paths) > 1)} to {args.out}.')
    return 0


def _panoptic(predictor: Any, paths: Sequence[Path], args: argparse.Namespace) -> int:
    """Segment every image; return how many failed."""
    failed = 0
    with PanopticWriter(args.out / 'panoptic.json', args.out / 'panoptic',
                        predictor.taxonomy) as panoptic, \
            InstancesWriter(args.out / 'instances.json') as instances:
        for number, (path, name) in enumerate(_named(paths), start=1):
            with _reported(path) as outcome:
                image = read_image(path)
                result = predictor.set_image(image).panoptic()
            failed += outcome.failed
            if not outcome.failed:  # a full disk ends the run: it is not an error of one image
                panoptic.add(number, path.name, result)
                instances.add(number, result)
                picture = viz.overlay_panoptic(image, result, predictor.taxonomy)
                write_image(args.out / 'overlay' / f'{name}.png', picture)
    return failed


def _clicks(predictor: Any, paths: Sequence[Path], args: argparse.Namespace) -> int:
    """Write the masks at the clicked points of every image; return how many images failed."""
    failed = 0
    xs, ys = np.array(args.click, dtype=float).T
    for path, name in _named(paths):
        with _reported(path) as outcome:
            image = read_image(path)
            masks, confidences = predictor.set_image(image).mask_at(x=xs, y=ys)
        failed += outcome.failed
        if not outcome.failed:
            for number, (x, y) in enumerate(args.click):
                write_line(f'{path.name} at x={x:g}, y={y:g}: confidence {confidences[number]:.3f}')
                target = args.out / 'clicks' / f'{name}_{number + 1}'
                write_image(f'{target}_overlay.png', viz.overlay_mask(image, masks[number], x, y))
                write_image(f'{target}_mask.png', (masks[number] * 255 + 0.5).astype(np.uint8))
    return failed


class _Outcome:
    failed = False


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[_Outcome]:
    """Print an error instead of raising it, so that the other images are still segmented."""
    outcome = _Outcome()
    try:
        yield outcome
    except AdaptisError as error:
        outcome.failed = True
        sentence = str(error) if str(path) in str(error) else f'{path}: {error}'
        write_line(sentence, sys.stderr)


def _named(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Yield the paths with a name for their results, and show a progress bar.

    The name is the stem if no other image has it.
    """
    stems = Counter(path.stem for path in paths)
    for path in progress_bar(paths, 'image'):
        yield path, path.stem if stems[path.stem] == 1 else path.name
