"""How fast the detectors' data workers make batches, and where their time goes.

    OMP_NUM_THREADS=1 python -m experiments.benchmarks loader [SYSTEM ...] [--data ROOT]

Images are resized to a shorter side of 640 to 800 pixels and a longer side of at most 1333, flipped
at random, and made into batches of two, as each system trains on them.  Without ``--data``, images
of COCO's size are drawn with both annotations; with it, a data set in COCO's layout is read.  Times
are CPU seconds in one thread; the parts take turns in separate processes.  No loader can be faster
than its decoders, which are also measured alone.
"""
from __future__ import annotations

import argparse
import functools
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from adaptis.data.augment import Rescale
from adaptis.data.batches import BatchSource
from adaptis.data.coco_categories import COCO_TAXONOMY
from adaptis.data.datasets import open_dataset
from adaptis.evaluation.coco import InstanceAnnotationsWriter, PanopticWriter
from adaptis.files import read_image
from adaptis.ids import read_panoptic_png
from adaptis.memory_reuse import keep_freed_memory
from experiments.benchmarks.cpu_time import alternate_cpu
from experiments.benchmarks.measures import (
    add_record_arguments,
    conditions,
    keep_record,
    one_of,
)
from experiments.benchmarks.panoptic_maps import draw_pair, draw_picture
from panoptic_baselines.condinst.targets import CondInstTargets
from panoptic_baselines.dense_detections.targets import DenseDetectionsTargets
from panoptic_baselines.rcnn.targets import DetectionTargets

SYSTEMS = {'condinst': (CondInstTargets, 'instances'), 'panoptic_fpn': (DetectionTargets, 'both'),
           'dense_detections': (DenseDetectionsTargets, 'panoptic')}
"""The targets of each system, and the annotation that its recipe for COCO reads; the unified
network has those of Panoptic FPN."""
SIZE, QUALITY = (480, 640), 92
SHORT_SIDES, MAX_SIDE = (640, 672, 704, 736, 768, 800), 1333
BATCH, BATCHES, ROUNDS = 2, 4, 5


def measure(root: str, system: str) -> dict[str, Any]:
    """Measure the parts of one system's loader, and the complete loader."""
    task = root, system
    times = alternate_cpu({'decoding': (decode, task), 'reading': (read, task),
                           'whole': (batches, task)}, ROUNDS)
    images = BATCH * BATCHES
    return {'images per second': images / times['whole'],
            'whole, ms an image': 1e3 * times['whole'] / images,
            'decoding, share': times['decoding'] / times['whole'],
            'annotations, share': (times['reading'] - times['decoding']) / times['whole'],
            'resizing, targets and batch, share': 1 - times['reading'] / times['whole'],
            'images per second that decoding allows': images / times['decoding']}


@functools.lru_cache(maxsize=1)
def make_source(root: str, system: str) -> BatchSource:
    """Return the batches of a system, which are read lazily."""
    keep_freed_memory()   # as in a data worker
    targets, annotation = SYSTEMS[system]
    dataset = open_dataset('coco', root, 'train', annotation=annotation)
    return BatchSource(dataset, BATCH, None, augmentation='flip', shuffle=False,
                       rescale=Rescale(SHORT_SIDES, MAX_SIDE), targets=targets(dataset.taxonomy))


def decode(root: str, system: str) -> None:
    """Decode the files of the batches."""
    dataset = make_source(root, system).dataset
    for index in range(BATCH * BATCHES):
        index %= len(dataset)
        read_image(dataset.images.path(index))
        if dataset.annotation_channels:
            read_panoptic_png(dataset.annotations.path(index))


def read(root: str, system: str) -> None:
    """Read the images of the batches with their annotation."""
    dataset = make_source(root, system).dataset
    for index in range(BATCH * BATCHES):
        dataset[index % len(dataset)]


def batches(root: str, system: str) -> None:
    """Make the batches."""
    source = make_source(root, system)
    for step in range(BATCHES):
        source.batch(step)


def write_coco(root: Path, images: int, size: tuple[int, int] = SIZE) -> None:
    """Draw a data set with both annotations in COCO's layout."""
    rng, folder = np.random.default_rng(0), root / 'train'
    (folder / 'images').mkdir(parents=True)
    with PanopticWriter(folder / 'panoptic.json', folder / 'panoptic', COCO_TAXONOMY) as panoptic, \
            InstanceAnnotationsWriter(folder / 'instances.json', COCO_TAXONOMY) as instances:
        for k in range(images):
            name, pair = f'{k:06d}.jpg', draw_pair(rng, size)
            picture = cv2.cvtColor(draw_picture(rng, size), cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(folder / 'images' / name), picture,
                        [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            panoptic.add(k + 1, name, pair.truth, crowd=pair.crowd)
            instances.add(k + 1, name, pair.truth)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``loader``."""
    parser.add_argument('systems', nargs='*', metavar='SYSTEM', type=one_of('system', SYSTEMS),
                        help=f'default: all of {", ".join(SYSTEMS)}')
    parser.add_argument('--data', metavar='ROOT', help='a data set in COCO\'s layout')
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Print the figures of each system, and write the record if asked to."""
    before, results = conditions(), {}
    with tempfile.TemporaryDirectory() as folder:
        if not args.data:
            write_coco(Path(folder), BATCH * BATCHES)
        for system in args.systems or SYSTEMS:
            results[system] = measure(args.data or folder, system)
            print(system, *(f'    {key:45} {value:.3g}' for key, value in
                            results[system].items()), sep='\n', flush=True)
    keep_record(args, results, before)
