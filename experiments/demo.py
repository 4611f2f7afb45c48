"""``make demo``: click and segment freshly drawn toy images with the shipped networks.

    python -m experiments.demo [--images 8] [--out output/demo] [--seed 2019]
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adaptis import cli, viz
from adaptis.data.datasets import open_dataset
from adaptis.data.toy import ToyDataset
from adaptis.errors import AdaptisError
from adaptis.evaluation.clicks import innermost_pixel
from adaptis.evaluation.coco import InstancesWriter, PanopticWriter
from adaptis.evaluation.report import format_metrics
from adaptis.evaluation.run import Evaluator
from adaptis.evaluation.segments import sample_truth
from adaptis.files import write_image
from adaptis.inference.predictor import Predictor
from adaptis.loading import load_predictor
from adaptis.types import TOY_TAXONOMY, Sample
from adaptis.weights import place_in_checkout
from experiments.side_by_side import pictures
from experiments.side_by_side.run import RESULTS
from toy_data import ToySettings, generate

SHOWN = 4
NEXT = """
Next, click objects yourself, on these images or on your own: make serve
It installs the extra "serve" and prints the address of the page; later: .venv/bin/adaptis serve"""
STREET = place_in_checkout('toy_street')
"""The AdaptIS network of the comparison; those of the other systems are too large to ship."""


def main() -> int:
    """Run the demo; returns 0, 1 after an error message, or 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog='python -m experiments.demo', description=__doc__)
    parser.add_argument('--images', type=int, default=8, help='images to draw and segment')
    parser.add_argument('--out', type=Path, default=Path('output/demo'))
    parser.add_argument('--seed', type=int, default=2019, help='random seed of the drawn images')
    args = parser.parse_args()
    try:
        run(args.images, args.out, args.seed)
        street(args.out, args.seed)
        print(NEXT)
    except AdaptisError as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('demo: interrupted.', file=sys.stderr)
        return 130
    return 0


def run(count: int, out: Path, seed: int) -> None:
    """Draw ``count`` ToyV1 test images, segment them, print the metrics, write the results.

    Raises AdaptisError if the count is invalid, the disk is full, or the network is missing.
    """
    print(f'Drawing {count} ToyV1 test images, seed {seed} ...')
    toy = out / f'toy_seed{seed}'
    _draw('v1', seed, toy, {'test': count})
    samples = ToyDataset(toy, 'test')
    predictor = load_predictor()
    click(predictor, samples[0], out / 'click.png')
    print('Segmenting them with the shipped AdaptIS ...')
    began = time.perf_counter()
    metrics, rows = _segment(predictor, samples, count, out)
    seconds = time.perf_counter() - began
    write_image(out / 'demo.png', viz.contact_sheet(
        rows, ('image', 'proposals', 'AdaptIS', 'ground truth'), scale=2))
    print(f'{seconds:.1f} s for {count} images. On these {count} images:\n')
    print(format_metrics(metrics))
    print('\nThe same network on the whole test set of 2,000 images, beside the published table:\n')
    if cli.main(['table', '1']):
        raise AdaptisError('the published table could not be printed (see above).')
    print(f'\nLook at {out / "demo.png"}; results in COCO format: {out / "panoptic.json"}, '
          f'{out / "panoptic"}/, {out / "instances.json"}.')


def click(predictor: Predictor, sample: Sample, path: Path) -> None:
    """Click the middle of the largest object, print the result, and write an overlay.

    Raises AdaptisError if the disk is full.
    """
    areas = np.bincount(sample.instances.ravel())
    truth = sample.instances == 1 + areas[1:].argmax()
    x, y = innermost_pixel(truth)
    mask, confidence = predictor.set_image(sample.image).mask_at(x=x, y=y)
    inside = mask > predictor.settings.mask_threshold
    iou = np.count_nonzero(inside & truth) / np.count_nonzero(inside | truth)
    write_image(path, viz.contact_sheet(
        [[sample.image, viz.overlay_mask(sample.image, mask, x, y),
          viz.overlay_instances(sample.image, truth.astype(np.int32))]],
        ('image', 'click', 'ground truth'), scale=3))
    print(f'A click at x={x}, y={y} in the first image gives a mask with confidence '
          f'{confidence:.2f} and an IoU of {iou:.2f} with the ground truth: {path}.')


def street(out: Path, seed: int) -> None:
    """Draw one street scene and segment it; the five systems are compared on such scenes.

    Raises AdaptisError if the disk is full or the network is broken.
    """
    if not STREET.is_file():   # packages leave it out
        return
    scenes = out / f'street_seed{seed}'
    _draw('street', seed, scenes, {'val': 1})
    dataset = open_dataset('coco', scenes, 'val')
    sample = dataset[0]
    found = load_predictor(STREET).set_image(sample.image).panoptic()
    truth = sample_truth(sample, dataset.taxonomy)[0]
    write_image(out / 'street.png', viz.contact_sheet(
        [[sample.image, viz.overlay_panoptic(sample.image, truth, dataset.taxonomy),
          pictures.mark(sample, found, dataset.taxonomy, scale=1)]],
        ('image', 'ground truth', 'AdaptIS'), scale=2))
    print(f'AdaptIS segmented a street scene. White outlines mark objects that it missed: '
          f'{out / "street.png"}. '
          f'Compare all five systems on such scenes: {RESULTS / "report.html"}.')


def _draw(version: str, seed: int, folder: Path, counts: dict[str, int]) -> None:
    try:
        generate(ToySettings.default(version, seed=seed), folder, counts)
    except ValueError as error:  # how toy_data says what a user can mend
        raise AdaptisError(str(error)) from error


def _segment(predictor: Predictor, samples: Sequence[Sample], count: int,
             out: Path) -> tuple[dict[str, Any], list[list[np.ndarray]]]:
    """Return metrics of the first ``count`` samples, and image rows of the first few."""
    evaluator = Evaluator(TOY_TAXONOMY)
    rows: list[list[np.ndarray]] = []
    with PanopticWriter(out / 'panoptic.json', out / 'panoptic', TOY_TAXONOMY) as panoptic, \
            InstancesWriter(out / 'instances.json') as instances:
        for number in range(count):
            sample = samples[number]
            result = predictor.set_image(sample.image).panoptic()
            evaluator.add_sample(number, sample, result)
            panoptic.add(number, f'{number:05d}_rgb.png', result)
            instances.add(number, result)
            if number < SHOWN:
                rows.append(viz.result_row(sample.image, result, predictor.proposal_map(),
                                           sample_truth(sample, TOY_TAXONOMY)[0]))
    return evaluator.result(), rows


if __name__ == '__main__':
    sys.exit(main())
