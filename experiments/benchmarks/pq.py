"""How fast panoptic quality is, compared with the algorithm of panopticapi.

    OMP_NUM_THREADS=1 python -m experiments.benchmarks pq [--images 12] [--size 480x640]
    OMP_NUM_THREADS=1 python -m experiments.benchmarks pq --gt JSON --pred JSON

panopticapi itself is not on PyPI, so its algorithm is reimplemented here for the timing.  It
decodes with Pillow, sums the channels to ids, finds the pairs of ids by sorting all pixels, and
goes through them one by one.  The program checks that both give the same counts, and the same sums
of IoU up to the last digits.  Without files, maps like COCO's are drawn and written with Pillow,
which uses the same row filters as COCO's own files, and with OpenCV.  Times are CPU seconds in one
thread.
"""
from __future__ import annotations

import argparse
import contextlib
import functools
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import cv2
import numpy as np

from adaptis.data.coco_categories import COCO_TAXONOMY
from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import PanopticFolder, PanopticRecord, PanopticWriter
from adaptis.evaluation.overlap import Overlap, compute_overlap
from adaptis.evaluation.pq import PanopticQuality, compute_record_overlap, iterate_pairs
from adaptis.ids import ids_to_rgb, read_panoptic_png
from adaptis.memory_reuse import keep_freed_memory
from experiments.benchmarks.comparison import Comparison, Form, Official, Setting
from experiments.benchmarks.cpu_time import alternate_cpu
from experiments.benchmarks.measures import (
    add_record_arguments,
    conditions,
    keep_record,
    parse_size,
)
from experiments.benchmarks.panoptic_maps import draw_pair

ROUNDS = 5
_FACTOR = 256 ** 3   # packs two ids
Counts = dict[int, list[float]]
"""Maps a category id to the sum of IoU, matches, false and missed segments."""


class Loaded(NamedTuple):
    """Two data sets, read once: the records, and the inputs of the plain algorithm."""

    gt: PanopticFolder
    pred: PanopticFolder
    pairs: list[tuple[PanopticRecord, PanopticRecord]]
    paths: list[tuple[Path, Path]]
    kinds: list[tuple[dict, dict]]
    maps: list[tuple[np.ndarray, np.ndarray]]


def measure(gt_json: Path, pred_json: Path, rounds: int = ROUNDS) -> dict[str, Any]:
    """Time PQ of two COCO panoptic data sets, from PNGs and from maps in memory."""
    files = gt_json, pred_json
    data = load(*files)
    _check_equal(our_quality(compute_record_overlap(*pair) for pair in data.pairs),
                 plain_quality(data.maps, data.kinds))
    times = alternate_cpu({
        'plain': (_plain, files), 'ours': (_ours, files),
        'plain from maps': (_plain_from_maps, files), 'ours from maps': (_ours_from_maps, files),
        'decoding': (_decode, files), **{f'decoding by {name}': (_decode, (*files, name))
                                         for name in decoders()}}, rounds)
    times = {name: value / len(data.pairs) for name, value in times.items()}
    return {'images': len(data.pairs),
            **{f'{name}, ms an image': 1e3 * t for name, t in times.items()},
            'ratio from PNGs': times['plain'] / times['ours'],
            'ratio from maps': times['plain from maps'] / times['ours from maps'],
            'decoding, share of ours': times['decoding'] / times['ours']}


@functools.lru_cache(maxsize=1)
def load(gt_json: Path, pred_json: Path) -> Loaded:
    """Read both data sets into memory."""
    gt = PanopticFolder(gt_json)
    pred = PanopticFolder(pred_json, truth=gt)
    pairs = list(iterate_pairs(gt, pred))
    paths = [tuple(f.folder / f.annotations[i]['file_name'] for f in (gt, pred))
             for i in gt.annotations]
    kinds = [tuple({s.id: (s.category_id, s.id in r.crowd) for s in r.result.segments}
                   for r in both) for both in pairs]
    maps = [tuple(r.result.segment_map.astype(np.uint32) for r in both) for both in pairs]
    return Loaded(gt, pred, pairs, paths, kinds, maps)


def _plain(*files: Path) -> None:
    data = load(*files)
    plain_quality(([plain_map(path) for path in both] for both in data.paths), data.kinds)


def _plain_from_maps(*files: Path) -> None:
    plain_quality(load(*files).maps, load(*files).kinds)


def _ours(*files: Path) -> None:
    keep_freed_memory()
    our_quality(compute_record_overlap(*pair)
                for pair in iterate_pairs(load(*files).gt, load(*files).pred))


def _ours_from_maps(*files: Path) -> None:
    keep_freed_memory()
    our_quality(compute_overlap(truth.result, found.result, truth.crowd)
                for truth, found in load(*files).pairs)


def _decode(gt_json: Path, pred_json: Path, decoder: Optional[str] = None) -> None:
    keep_freed_memory()
    read = read_panoptic_png if decoder is None else decoders()[decoder]
    for both in load(gt_json, pred_json).paths:
        for path in both:
            read(path)


def compare(setting: Setting) -> dict[str, Form]:
    """Return both variants from PNGs; with the official program, from the files that it reads."""
    temporary = tempfile.TemporaryDirectory()   # which the forms keep
    if setting.official is None:
        files = write_pairs(Path(temporary.name), IMAGES[setting.quick], SIZE, 'Pillow')
    else:
        files = setting.official.folder / 'gt.json', setting.official.folder / 'pred.json'
    return {name: lambda form=form, _keep=temporary: form(*files)
            for name, form in (('plain', _plain), ('ours', _ours))}


def official_inputs(quick: bool, folder: Path) -> dict[str, Any]:
    """Write the files that both read."""
    write_pairs(folder, IMAGES[quick], SIZE, 'Pillow')
    return {'folder': str(folder)}


IMAGES, SIZE = {True: 4, False: 12}, (480, 640)
COMPARISONS = (Comparison('Panoptic quality', {
    quick: f"{count} drawn images of {SIZE[0]}x{SIZE[1]} with COCO's classes, from PNGs that "
           "Pillow wrote; plain is a reimplementation of panopticapi's algorithm"
    for quick, count in IMAGES.items()}, compare, 'plain', Official('panopticapi',
                                                                    official_inputs)),)


def plain_map(path: Path) -> np.ndarray:
    """Read ids by Pillow and as a sum of channels, uint32 (H, W)."""
    from PIL import Image  # loads Pillow
    with Image.open(path) as picture:
        channels = np.array(picture, dtype=np.uint32)
    return channels[..., 0] + 256 * channels[..., 1] + 256 * 256 * channels[..., 2]


def plain_quality(maps: Iterable[Sequence[np.ndarray]],
                  kinds: Sequence[tuple[dict, dict]]) -> Counts:
    """Count segments like panopticapi; ``kinds`` maps ids to (category, is a crowd)."""
    counts: Counts = defaultdict(lambda: [0.0, 0, 0, 0])
    for (true_map, found_map), (true, found) in zip(maps, kinds):
        areas = [dict(zip(*map(np.ndarray.tolist, np.unique(each, return_counts=True))))
                 for each in (true_map, found_map)]
        packed = true_map.astype(np.uint64) * _FACTOR + found_map.astype(np.uint64)
        shared = {divmod(pair, _FACTOR): pixels for pair, pixels in zip(
            *map(np.ndarray.tolist, np.unique(packed, return_counts=True)))}
        matched = set()
        for (a, b), pixels in shared.items():
            if a not in true or b not in found or true[a][1] or true[a][0] != found[b][0]:
                continue
            iou = pixels / (areas[0][a] + areas[1][b] - pixels - shared.get((0, b), 0))
            if iou > 0.5:
                counts[true[a][0]][0] += iou
                counts[true[a][0]][1] += 1
                matched |= {('true', a), ('found', b)}
        crowds = {category: a for a, (category, crowd) in true.items() if crowd}
        for a, (category, crowd) in true.items():
            if not crowd and ('true', a) not in matched:
                counts[category][3] += 1
        for b, (category, _) in found.items():
            free = shared.get((0, b), 0) + shared.get((crowds.get(category, -1), b), 0)
            if ('found', b) not in matched and free / areas[1][b] <= 0.5:
                counts[category][2] += 1
    return counts


def our_quality(overlaps: Iterable[Overlap]) -> Counts:
    """Count segments like ``adaptis evaluate --gt --pred``."""
    quality = PanopticQuality(COCO_TAXONOMY)
    for overlap in overlaps:
        quality.add_overlap(overlap)
    entries = quality.result()['per_class']
    return {k: [e['iou'], e['tp'], e['fp'], e['fn']] for k, e in entries.items()}


def write_pairs(folder: Path, images: int, size: tuple[int, int], writer: str) -> tuple[Path, Path]:
    """Draw a data set and a prediction, and return their JSONs; ``writer`` writes the PNGs."""
    rng, jsons = np.random.default_rng(0), (folder / 'gt.json', folder / 'pred.json')
    with PanopticWriter(jsons[0], folder / 'gt', COCO_TAXONOMY) as gt, \
            PanopticWriter(jsons[1], folder / 'pred', COCO_TAXONOMY) as pred:
        for k in range(images):
            pair = draw_pair(rng, size)
            gt.add(k + 1, f'{k:06d}.jpg', pair.truth, crowd=pair.crowd)
            pred.add(k + 1, f'{k:06d}.jpg', pair.found)
    if writer == 'Pillow':
        from PIL import Image  # loads Pillow
        for path in folder.glob('*/*.png'):
            Image.fromarray(ids_to_rgb(read_panoptic_png(path))).save(path)
    return jsons


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pq``."""
    parser.add_argument('--images', type=int, default=12, help='images to draw; default: 12')
    parser.add_argument('--size', type=parse_size, default=(480, 640), metavar='HxW',
                        help='size of the images to draw; default: 480x640')
    parser.add_argument('--gt', type=Path, metavar='JSON', help='use these files instead')
    parser.add_argument('--pred', type=Path, metavar='JSON')
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Print the figures, and write the record if asked to; AdaptisError for bad files."""
    if bool(args.gt) != bool(args.pred):
        raise AdaptisError('--gt needs --pred.')
    cv2.setNumThreads(0)
    before = conditions()
    with tempfile.TemporaryDirectory() as name:
        results = {}
        for writer in ['given'] if args.gt else ['Pillow', 'OpenCV']:
            jsons = (args.gt, args.pred) if args.gt else write_pairs(
                Path(name) / writer, args.images, args.size, writer)
            results[writer] = measure(*jsons)
            print(f'PNGs by {writer}', *(f'    {key:40} {value:.4g}' for key, value in
                                         results[writer].items()), sep='\n', flush=True)
    keep_record(args, results, before)


def decoders() -> dict[str, Callable[[Path], Any]]:
    """Return the available PNG decoders by name."""
    from PIL import Image  # loads Pillow
    found = {'OpenCV': lambda path: cv2.imdecode(np.fromfile(path, np.uint8),
                                                 cv2.IMREAD_UNCHANGED),
             'Pillow': lambda path: np.asarray(Image.open(path))}
    with contextlib.suppress(ImportError):
        import pyspng  # of the extra "fast"
        found['pyspng'] = lambda path: pyspng.load(path.read_bytes())
    return found


def _check_equal(ours: Counts, plain: Counts) -> None:
    for category, counts in ours.items():
        other = plain[category]
        if counts[1:] != other[1:] or abs(counts[0] - other[0]) > 1e-9:
            raise AdaptisError(f'Category {category} has {counts} here, but {other} in the plain '
                               'way, so their times cannot be compared.')
