"""``make demo``: segment freshly drawn toy images with the shipped network, and measure it.

    python -m experiments.demo [--images 8] [--out output/demo] [--seed 2019]
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from adaptis import cli, viz
from adaptis.data.toy import ToyDataset
from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import InstancesWriter, PanopticWriter
from adaptis.evaluation.report import format_metrics
from adaptis.evaluation.run import Evaluator
from adaptis.files import write_image
from adaptis.inference.predictor import Predictor, load_predictor
from adaptis.types import TOY_TAXONOMY
from toy_data import ToySettings, generate

SHOWN = 4


def main() -> int:
    """Run the demo; 1 and one sentence if something is wrong."""
    parser = argparse.ArgumentParser(prog='python -m experiments.demo', description=__doc__)
    parser.add_argument('--images', type=int, default=8, help='how many to draw and segment')
    parser.add_argument('--out', type=Path, default=Path('output/demo'))
    parser.add_argument('--seed', type=int, default=2019, help='of the drawn images')
    args = parser.parse_args()
    try:
        run(args.images, args.out, args.seed)
    except (AdaptisError, ValueError) as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    return 0


def run(count: int, out: Path, seed: int) -> None:
    """Draw ``count`` ToyV1 test images, segment them, print the measures, write the results.

    Raises AdaptisError or ValueError with one sentence.
    """
    print(f'Drawing {count} ToyV1 test images, seed {seed} ...')
    toy = out / f'toy_seed{seed}'
    generate(ToySettings.default('v1', seed=seed), toy, {'test': count})
    samples = ToyDataset(toy, 'test')
    predictor = load_predictor(settings='toy_v1')
    print('Segmenting them with the shipped AdaptIS ...')
    began = time.perf_counter()
    metrics, rows = _segment(predictor, samples, count, out)
    seconds = time.perf_counter() - began
    write_image(out / 'demo.png', viz.contact_sheet(
        rows, ('image', 'proposals', 'AdaptIS', 'ground truth'), scale=2))
    print(f'{seconds:.1f} s for {count} images. On these {count} images:\n')
    print(format_metrics(metrics))
    print('\nThe same network on the whole test set of 2,000 images, beside the published table:\n')
    cli.main(['table', '1'])
    print(f'\nLook at {out / "demo.png"}; results in COCO format: {out / "panoptic.json"}, '
          f'{out / "panoptic"}/, {out / "instances.json"}.')


def _segment(predictor: Predictor, samples: ToyDataset, count: int, out: Path) -> tuple:
    evaluator, rows = Evaluator(TOY_TAXONOMY), []  # type: Evaluator, List
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
                                           sample.instances))
    return evaluator.result(), rows


if __name__ == '__main__':
    sys.exit(main())
