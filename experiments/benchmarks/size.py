"""Cost of large data sets: start-up, memory of a worker, images per second, evaluation.

    OMP_NUM_THREADS=1 python -m experiments.benchmarks size [coco vistas evaluation] [--images N]

``coco`` opens 118,000 images with 11 panoptic segments and 7 polygons each, like COCO's training
split.  ``vistas`` reads images of nine megapixels, 500 by default.  All images of a data set are
links to one file.  ``evaluation`` measures how the time of panoptic quality grows with the number
of images.  Memory is what the process holds beyond the imports; seconds are CPU seconds.
"""
from __future__ import annotations

import argparse
import gc
import json
import os
import pickle
import tempfile
import time
from pathlib import Path
from typing import Any, Optional

import cv2
import numpy as np

from adaptis.data.augment import Crop
from adaptis.data.batches import BatchSource
from adaptis.data.coco_categories import COCO_TAXONOMY
from adaptis.data.datasets import open_dataset
from adaptis.evaluation.coco import PanopticFolder
from adaptis.evaluation.pq import PanopticQuality, compute_record_overlap, iterate_pairs
from adaptis.files import read_image
from adaptis.ids import ids_to_rgb
from adaptis.memory_reuse import keep_freed_memory
from experiments.benchmarks.measures import (
    add_measure_arguments,
    conditions,
    keep_record,
)
from experiments.benchmarks.panoptic_maps import draw_pair, draw_picture
from experiments.benchmarks.pq import write_pairs
from experiments.benchmarks.process import alone, peak_mib

COCO_IMAGES, VISTAS_IMAGES = 118_000, 500
COCO_SIZE, VISTAS_SIZE = (480, 640), (2448, 3672)
SEGMENTS, OBJECTS, CORNERS = 11, 7, 26   # of an image of COCO on average, and of an object
EVALUATED = (25, 50, 100)
READ = 6


def coco(folder: Path, images: Optional[int]) -> dict[str, Any]:
    """Measure opening COCO's training split with each annotation."""
    write_large_coco(folder, images or COCO_IMAGES)
    results: dict[str, Any] = {}
    for annotation in ('panoptic', 'instances'):
        found = alone(_open, 'coco', str(folder), annotation)
        results.update({f'{annotation}, {key}': value for key, value in found.items()})
    return results


def vistas(folder: Path, images: Optional[int]) -> dict[str, Any]:
    """Measure opening a data set with images of nine megapixels, and cropping for training."""
    write_vistas(folder, images or VISTAS_IMAGES)
    return {**alone(_open, 'vistas', str(folder), 'panoptic'), **alone(_crops, str(folder))}


def evaluation(folder: Path, images: Optional[int]) -> dict[str, Any]:
    """Measure panoptic quality by the number of images."""
    counts = (images,) if images else EVALUATED
    jsons = write_pairs(folder, max(counts), COCO_SIZE, 'OpenCV')
    results: dict[str, Any] = {}
    for count in counts:
        seconds, peak = alone(_evaluate, *jsons, count)
        results.update({f'{count} images, s': seconds, f'{count} images, peak MiB': peak})
    return results


MEASURES = {'coco': coco, 'vistas': vistas, 'evaluation': evaluation}


def write_large_coco(root: Path, images: int) -> None:
    """Write one image, one PNG, and both JSONs for many links to them."""
    rng, folder = np.random.default_rng(0), root / 'train'
    names = [f'{k:012d}' for k in range(images)]
    truth = draw_pair(rng, COCO_SIZE).truth
    segments = truth.segments[:SEGMENTS]
    ids = np.where(np.isin(truth.segment_map, [s.id for s in segments]), truth.segment_map, 0)
    picture = _jpeg(draw_picture(rng, COCO_SIZE))
    _link(folder / 'images', picture, [f'{name}.jpg' for name in names])
    _link(folder / 'panoptic', _png(ids_to_rgb(ids)),
          [f'{name}.png' for name in names])
    categories = [{'id': c.id, 'name': c.name, 'isthing': int(c.isthing), 'color': c.color}
                  for c in COCO_TAXONOMY.categories]
    listed = [{'id': s.id, 'category_id': s.category_id, 'iscrowd': 0, 'area': s.area,
               'bbox': [0, 0, 9, 9]} for s in segments]
    things = [c['id'] for c in categories if c['isthing']]
    corners = np.round(rng.uniform(0, min(COCO_SIZE), (OBJECTS, 2 * CORNERS)), 2).tolist()
    entries = [{'id': k, 'file_name': f'{name}.jpg', 'height': COCO_SIZE[0],
                'width': COCO_SIZE[1]} for k, name in enumerate(names)]
    _write_json(folder / 'panoptic.json', entries, categories, (
        {'image_id': k, 'file_name': f'{name}.png', 'segments_info': listed}
        for k, name in enumerate(names)))
    _write_json(folder / 'instances.json', entries, [c for c in categories if c['isthing']], (
        {'id': k * OBJECTS + n, 'image_id': k, 'category_id': things[n], 'iscrowd': 0,
         'area': 100.5, 'bbox': [0, 0, *COCO_SIZE[::-1]], 'segmentation': [corners[n]]}
        for k in range(images) for n in range(OBJECTS)))


def write_vistas(root: Path, images: int) -> None:
    """Write one image of nine megapixels and its annotation, and many links to them."""
    rng, folder = np.random.default_rng(0), root / 'training'
    names = [f'{k:06d}' for k in range(images)]
    labels = draw_pair(rng, VISTAS_SIZE).truth.segment_map
    index = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    values = (index % 3 * 256 + index).astype(np.uint16)
    _link(folder / 'images', _jpeg(draw_picture(rng, VISTAS_SIZE)), [f'{n}.jpg' for n in names])
    _link(folder / 'instances', _png(values), [f'{n}.png' for n in names])
    (root / 'config.json').write_text(json.dumps({'labels': [
        {'name': f'a--{k}', 'readable': f'{k}', 'instances': k > 0, 'evaluate': True,
         'color': [k, k, k]} for k in range(3)]}), encoding='utf-8')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``size``."""
    add_measure_arguments(parser, MEASURES)
    parser.add_argument('--images', type=int, metavar='N',
                        help=f'default: {COCO_IMAGES} of coco, {VISTAS_IMAGES} of vistas')


def run(args: argparse.Namespace) -> None:
    """Print the figures of each measurement, and write the record if asked to."""
    before, results = conditions(), {}
    for name in args.measures or MEASURES:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = MEASURES[name](Path(folder), args.images)
        print(name, *(f'    {key:45} {value:.4g}' for key, value in results[name].items()),
              sep='\n', flush=True)
    keep_record(args, results, before)


def _open(kind: str, root: str, annotation: str) -> dict[str, Any]:
    """Open a data set in this process, which does nothing else."""
    options = {'annotation': annotation} if kind == 'coco' else {}
    before, began = _held_mib(), time.process_time()
    dataset = open_dataset(kind, root, 'train', **options)
    opened = time.process_time() - began
    gc.collect()
    began = time.process_time()
    pickled = pickle.dumps(dataset)
    worker = time.process_time() - began
    held = _held_mib() - before
    began = time.process_time()
    copy = pickle.loads(pickled)
    worker += time.process_time() - began
    dataset[len(copy) // 2]
    return {'images': len(dataset), 'opening, s': opened, 'peak, MiB': peak_mib(),
            'held, MiB': held, 'sent to a worker, MiB': len(pickled) / 2 ** 20,
            'sending to a worker, s': worker}


def _crops(root: str) -> dict[str, Any]:
    """Measure random crops of resized images as in AdaptIS training, and decoding alone."""
    cv2.setNumThreads(0)
    keep_freed_memory()
    dataset = open_dataset('vistas', root, 'train')
    source = BatchSource(dataset, 1, 6, augmentation='vistas', crop_until=READ,
                         crop=Crop((400, 800), long_side=(500, 2200)))
    times: dict[str, float] = {}
    for name, form in {
            'decoding': lambda k: (read_image(dataset.images.path(k)), cv2.imread(
                str(dataset.annotations.path(k)), cv2.IMREAD_UNCHANGED)),
            'reading': lambda k: dataset[k], 'crops': source.batch}.items():
        form(0)
        began = time.process_time()
        for k in range(READ):
            form(k % len(dataset))
        times[name] = (time.process_time() - began) / READ
    return {**{f'{name}, ms an image': 1e3 * value for name, value in times.items()},
            'crops per second': 1 / times['crops'],
            'decoding, share': times['decoding'] / times['crops'],
            'peak of a worker, MiB': peak_mib()}


def _evaluate(gt_json: Path, pred_json: Path, count: int) -> tuple[float, float]:
    keep_freed_memory()
    gt = PanopticFolder(gt_json)
    pred = PanopticFolder(pred_json, truth=gt)
    quality, began = PanopticQuality(gt.taxonomy), time.process_time()
    for _, (truth, found) in zip(range(count), iterate_pairs(gt, pred)):
        quality.add_overlap(compute_record_overlap(truth, found))
    return time.process_time() - began, peak_mib()


def _held_mib() -> float:
    pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 2 ** 20


def _link(folder: Path, data: bytes, names: list[str]) -> None:
    folder.mkdir(parents=True)
    first = folder / names[0]
    first.write_bytes(data)
    for name in names[1:]:
        os.symlink(first.name, folder / name)


def _write_json(path: Path, images: list[dict], categories: list[dict], annotations: Any) -> None:
    with open(path, 'w', encoding='utf-8') as file:
        file.write(f'{{"images": {json.dumps(images)}, "categories": {json.dumps(categories)}, '
                   '"annotations": [')
        for k, entry in enumerate(annotations):
            file.write((', ' if k else '') + json.dumps(entry))
        file.write(']}')


def _jpeg(picture: np.ndarray) -> bytes:
    return cv2.imencode('.jpg', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR),
                        [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def _png(pixels: np.ndarray) -> bytes:
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode('.png', pixels)[1].tobytes()
