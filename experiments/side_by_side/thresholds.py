"""Choose the score threshold of each system by its quality on training images.

    python -m experiments.side_by_side.thresholds [SYSTEM ...]

Scores have a different meaning in each system, and in a network after a short training.  With the
papers' thresholds, the comparison would mainly compare thresholds.  This command prints the
panoptic quality on the first training images for several values; the config has the best one.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Optional

from adaptis.config import load_config
from adaptis.data.datasets import open_dataset
from adaptis.errors import AdaptisError
from adaptis.evaluation.run import Evaluator
from adaptis.loading import inference_settings, load_predictor
from experiments.side_by_side.run import SYSTEMS

IMAGES = 40
VALUES: dict[str, list[float]] = {
    'proposal_threshold': [0.02, 0.05, 0.1, 0.2, 0.3, 0.4],
    'instance_score': [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8]}
"""The values to try for the setting of each system."""


def sweep(folder: Path, images: int = IMAGES) -> dict[str, Any]:
    """Return the panoptic quality (all, things) in percent of a run's final network by threshold.

    Raises AdaptisError if something is missing.
    """
    config = load_config(folder / 'config.yaml')
    settings = inference_settings(config)
    name = next(name for name in VALUES if hasattr(settings, name))
    dataset = open_dataset(config.data.dataset, config.data.root, config.data.split)
    predictor = load_predictor(folder / 'final.params', settings, None, dataset.taxonomy)
    evaluators = {value: Evaluator(dataset.taxonomy) for value in VALUES[name]}
    for index in range(min(images, len(dataset))):
        sample = dataset[index]
        predictor.set_image(sample.image)
        for value, evaluator in evaluators.items():
            predictor.settings = settings.replace(**{name: value})
            evaluator.add_sample(index, sample, predictor.panoptic())
    found = {value: evaluator.result()['pq'] for value, evaluator in evaluators.items()}
    return {f'{name}={value}': (100 * pq['All']['pq'], 100 * pq['Things']['pq'])
            for value, pq in found.items()}


def main(arguments: Optional[list[str]] = None) -> int:
    """Print the qualities; returns 0, or 1 after an error message."""
    parser = argparse.ArgumentParser(prog='python -m experiments.side_by_side.thresholds',
                                     description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('systems', nargs='*', metavar='SYSTEM', default=SYSTEMS)
    parser.add_argument('--out', type=Path, default=Path('runs/side_by_side'),
                        help='folder with the runs (default: %(default)s)')
    parser.add_argument('--images', type=int, default=IMAGES)
    args = parser.parse_args(arguments)
    try:
        for system in args.systems:
            for setting, (everything, things) in sweep(args.out / system, args.images).items():
                print(f'{system} {setting}: PQ {everything:.2f}, things {things:.2f}', flush=True)
    except AdaptisError as error:
        print(f'thresholds: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
