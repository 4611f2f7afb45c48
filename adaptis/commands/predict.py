"""``adaptis predict``: segment images, or the objects at given points."""
from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from adaptis import viz
from adaptis.commands.inputs import Picture, find_inputs
from adaptis.commands.options import (
    add_network_options,
    add_set_option,
    check_backend,
    parse_changes,
    resolve_settings,
)
from adaptis.commands.prediction import (
    NamedPicture,
    Prediction,
    PredictionJob,
    cached_predictor,
    failure_sentence,
    find_difference,
    predict_pictures,
)
from adaptis.commands.workers import add_worker_options, check_worker_options, open_workers
from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import InstancesWriter, PanopticWriter, encode_segments
from adaptis.evaluation.segments import segment_boxes
from adaptis.files import atomic_write, read_image, write_bytes, write_image
from adaptis.inference.likeness import describe_training
from adaptis.inference.sidecar import read_training
from adaptis.interop import FILE_FORMATS
from adaptis.loading import check_network, family_of
from adaptis.names import result_names
from adaptis.progress import progress_bar, write_line
from adaptis.types import Taxonomy

HELP = """Segment images, or the objects at given points.  You can give image files, patterns such
as "*.jpg", and folders, which are searched with their subfolders.  The command writes overlay/*.png
(for viewing), panoptic.json with panoptic/*.png (COCO panoptic format) and instances.json (COCO
detection results) to the output folder.  With --click it writes clicks.json and clicks/*.png
instead, which contain the masks of the objects at these points."""

THRESHOLDS = {
    'mask_threshold': (float, 'a pixel belongs to a mask above this probability'),
    'overlap_threshold': (float, 'an object is rejected if more than this fraction of it is '
                                 'already covered by other objects'),
    'proposal_threshold': (float, 'AdaptIS: proposals with a lower probability are not tried'),
    'things_threshold': (float, 'AdaptIS: points where the probability of things is lower are not '
                                'tried'),
    'max_candidates': (int, 'AdaptIS: maximum number of proposals to try'),
    'instance_score': (float, 'detectors: minimum score of an object'),
    'short_side': (int, 'resize images so that their shorter side has this length'),
    'max_side': (int, 'resize images so that their longer side has at most this length'),
}
"""Settings that have their own option."""

_NAMED = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('input', nargs='+', metavar='IMAGE_OR_FOLDER')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument('--overwrite', action='store_true',
                        help='replace the results of an earlier run in --out')
    parser.add_argument('--images-from', type=Path, metavar='JSON',
                        help='take the ids and file names of the images from this COCO file, so '
                             'that "adaptis evaluate --gt JSON" can match them')
    parser.add_argument('--format', choices=FILE_FORMATS,
                        help='also write files for this annotation tool, in which you can correct '
                             'the results')
    parser.add_argument('--model', metavar='NAME',
                        help='the network that --checkpoint must contain, e.g. panoptic_fpn_r50')
    add_network_options(parser)
    add_worker_options(parser)
    parser.add_argument('--tile', type=int, nargs=2, metavar=('H', 'W'),
                        help='cut large images into overlapping tiles of this size')
    thresholds = parser.add_argument_group('thresholds (default: those of the preset)')
    for name, (kind, text) in THRESHOLDS.items():
        thresholds.add_argument(f'--{name.replace("_", "-")}', type=kind, help=text,
                                metavar='P' if kind is float else 'N')
    add_set_option(thresholds)
    clicks = parser.add_argument_group('segment the objects at points instead of everything '
                                       '(AdaptIS only)')
    clicks.add_argument('--click', type=float, nargs=2, action='append', metavar=('X', 'Y'),
                        default=[], help='write the mask of the object at this pixel; can be '
                        'repeated')
    clicks.add_argument('--probabilities', action='store_true',
                        help='also write the probabilities of these masks, as 16-bit PNGs')


def run(args: argparse.Namespace) -> int:
    """Segment all images; return 0.

    Raises AdaptisError at the end if some images failed.
    """
    if args.format and args.click:
        raise AdaptisError('--format writes whole panoptic results: leave out --click or --format.')
    if args.probabilities and not args.click:
        raise AdaptisError('--probabilities needs --click.')
    if args.click and (args.ray or args.processes):
        raise AdaptisError('--click runs in a single process: leave out --processes and --ray.')
    check_worker_options(args)
    inputs = find_inputs(args.input, args.out, args.images_from)
    if args.model is not None:
        check_network(args.model, args.checkpoint)
    check_backend(args)
    if args.click and not family_of(args.checkpoint).uses_points:
        raise AdaptisError(f'{args.checkpoint} is not an AdaptIS network, and --click works only '
                           'with AdaptIS.')
    _, settings = resolve_settings(args, **_changes(args))
    _check_output(args)
    # Nodes of a cluster may have GPUs where this machine has none.
    ctx = args.ctx if args.ray is None else 'cpu'
    job = PredictionJob(args.checkpoint, settings, ctx, args.backend, args.out, args.format)
    print(describe_training(read_training(args.checkpoint), cached_predictor(job).taxonomy))
    _tell_skipped(inputs.skipped)
    likeness = _Likeness()
    work = _clicks if args.click else _panoptic
    failed = work(job, inputs.pictures, args, likeness)
    likeness.tell_rest()
    total = len(inputs.pictures)
    if failed:
        raise AdaptisError(f'{failed} of {total} images could not be segmented (see above).')
    print(f'Wrote the results for {total} image{"s" * (total > 1)} to {args.out}.')
    return 0


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that the options change; ``--set`` takes precedence."""
    changes = {name: getattr(args, name) for name in THRESHOLDS if getattr(args, name) is not None}
    if args.tile:
        changes['tile'] = tuple(args.tile)
    if args.set:
        changes.update(parse_changes(args.set))
    if args.click:  # then the image is encoded only when a point needs it, perhaps smaller
        changes.setdefault('tile', (512, 512))
    return changes


def _check_output(args: argparse.Namespace) -> None:
    """Raise AdaptisError if results would be replaced without ``--overwrite``."""
    files = ['clicks.json'] if args.click else ['panoptic.json', 'instances.json']
    there = [args.out / name for name in files if (args.out / name).is_file()]
    # panoptic.json is written last, so a run without it was killed before it finished.
    unfinished = there == [args.out / 'instances.json'] and (args.out / 'overlay').is_dir()
    if there and not (args.overwrite or unfinished):
        raise AdaptisError(f'{there[0]} contains the results of an earlier run: choose another '
                           '--out, or replace them with --overwrite.')


def _tell_skipped(skipped: Sequence[str]) -> None:
    if skipped:
        more = f' and {len(skipped) - _NAMED} more' if len(skipped) > _NAMED else ''
        files = f'{len(skipped)} file{"s" * (len(skipped) > 1)}'
        print(f'Skipped {files}: {", ".join(skipped[:_NAMED])}{more}.', file=sys.stderr)


class _Likeness:
    """Warns of the first image that is unlike all training images."""

    def __init__(self) -> None:
        self._found = 0

    def tell(self, path: Path, difference: Optional[str]) -> None:
        self._found += difference is not None
        if difference is not None and self._found == 1:
            write_line(f'{path} is unlike all images that the network was trained on: '
                       f'{difference}. Do not trust the result; choose a network that was trained '
                       'on such images (--checkpoint, see "adaptis models").', sys.stderr)

    def tell_rest(self) -> None:
        if self._found > 1:
            write_line(f'This also applies to {self._found - 1} of the other images.', sys.stderr)


def _panoptic(job: PredictionJob, pictures: Sequence[Picture], args: argparse.Namespace,
              likeness: _Likeness) -> int:
    """Segment every image; return how many failed."""
    failed = 0
    taxonomy = cached_predictor(job).taxonomy
    named = _named(pictures)
    with contextlib.ExitStack() as stack:
        panoptic = stack.enter_context(PanopticWriter(
            args.out / 'panoptic.json', args.out / 'panoptic', taxonomy))
        instances = stack.enter_context(InstancesWriter(args.out / 'instances.json'))
        files = _files(args, taxonomy, stack)
        predictions = stack.enter_context(_predictions(job, named, args))
        for (picture, name), prediction in zip(progress_bar(named, 'image'), predictions):
            likeness.tell(picture.path, prediction.difference)
            if prediction.encoded is None:
                failed += 1
                write_line(prediction.failure, sys.stderr)
                continue
            encoded = prediction.encoded
            panoptic.write(encoded.panoptic, png=f'{name}.png')
            instances.write(encoded.instances)
            if files is not None:
                files.write(name, encoded.file)
            write_bytes(args.out / 'overlay' / f'{name}.png', encoded.overlay)
        _check_any(failed, pictures)
    return failed


@contextlib.contextmanager
def _predictions(job: PredictionJob, named: Sequence[NamedPicture],
                 args: argparse.Namespace) -> Iterator[Iterator[Prediction]]:
    """Yield an iterator over the outcomes of the images, in order."""
    with open_workers(args) as workers:
        alone = len(named) == 1 and args.ray is None and workers.count == 1
        job = job._replace(ctx=args.ctx, watched=alone)
        chunks = [(job, chunk) for chunk in workers.chunks(named)]
        with contextlib.closing(workers.map(predict_pictures, chunks, _file_names)) as results:
            yield itertools.chain.from_iterable(results)


def _file_names(chunk: tuple[PredictionJob, Sequence[NamedPicture]]) -> str:
    return ', '.join(str(picture.path) for picture, _ in chunk[1])


def _files(args: argparse.Namespace, taxonomy: Taxonomy, stack: contextlib.ExitStack) -> Any:
    """Return a writer of files for the chosen tool; None if there is none."""
    if args.format is None:
        return None
    from adaptis.interop import ResultFiles  # loads pycocotools, which exports do not need
    return stack.enter_context(ResultFiles(args.out, taxonomy, args.format))


def _clicks(job: PredictionJob, pictures: Sequence[Picture], args: argparse.Namespace,
            likeness: _Likeness) -> int:
    """Write the masks at the clicked points of every image; return how many images failed."""
    failed = 0
    predictor = cached_predictor(job)
    images: list[dict] = []
    annotations: list[dict] = []
    xs, ys = np.array(args.click, dtype=float).T
    for picture, name in progress_bar(_named(pictures), 'image'):
        with _reported(picture.path) as outcome:
            image = read_image(picture.path)
            likeness.tell(picture.path, find_difference(job, image))
            predictor.set_image(image)
            _tell_smaller(picture.path, predictor)
            masks, scores = predictor.mask_at(x=xs, y=ys)
        failed += outcome.failed
        if not outcome.failed:
            height, width = image.shape[:2]
            images.append({'id': picture.image_id, 'file_name': picture.file_name,
                           'height': height, 'width': width})
            for number, (x, y) in enumerate(args.click):
                write_line(f'{picture.file_name} at x={x:g}, y={y:g}: confidence '
                           f'{scores[number]:.3f}')
                inside = masks[number] > predictor.settings.mask_threshold
                target = args.out / 'clicks' / f'{name}_{number + 1}'
                _write_click(target, image, masks[number], inside, (x, y), args.probabilities)
                annotations.append({'id': len(annotations) + 1, 'image_id': picture.image_id,
                                    'point_coords': [[x, y]], 'point_labels': [1],
                                    **_mask_json(inside), 'score': float(scores[number])})
    _check_any(failed, pictures)
    with atomic_write(args.out / 'clicks.json') as temporary:
        temporary.write_text(json.dumps({'images': images, 'annotations': annotations}) + '\n',
                             encoding='utf-8')
    return failed


def _tell_smaller(path: Path, predictor: Any) -> None:
    whole, seen = predictor.network_size, predictor.points_size
    if seen != whole:
        write_line(f'{path} is too large to process at its full size ({whole[1]}x{whole[0]}): the '
                   f'masks are computed on a copy of {seen[1]}x{seen[0]} pixels and enlarged. Use '
                   '--max-side 1024 for faster results.', sys.stderr)


def _write_click(target: Path, image: np.ndarray, mask: np.ndarray, inside: np.ndarray,
                 point: tuple[float, float], probabilities: bool) -> None:
    write_image(f'{target}_overlay.png', viz.overlay_mask(image, mask, *point))
    write_image(f'{target}_mask.png', inside.astype(np.uint8) * 255)
    if probabilities:
        write_image(f'{target}_probability.png', (mask * 65535 + 0.5).astype(np.uint16))


def _mask_json(inside: np.ndarray) -> dict[str, Any]:
    """Return a mask in COCO's form: compressed RLE, area in pixels, and x, y, width, height."""
    one = inside.astype(np.int32)
    code, = encode_segments(one, [1])
    box, = segment_boxes(one, 1)
    return {'segmentation': {'size': code['size'], 'counts': code['counts'].decode('ascii')},
            'area': int(inside.sum()), 'bbox': [int(v) for v in box]}


def _check_any(failed: int, pictures: Sequence[Picture]) -> None:
    """Raise AdaptisError if every image failed, so that no empty list of results is written."""
    if failed == len(pictures):
        raise AdaptisError(f'{failed} of {failed} images could not be segmented (see above).')


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
        write_line(failure_sentence(path, error), sys.stderr)


def _named(pictures: Sequence[Picture]) -> list[NamedPicture]:
    """Return the images with the names of their results."""
    names = result_names([picture.file_name for picture in pictures])
    return [NamedPicture(*entry) for entry in zip(pictures, names)]
