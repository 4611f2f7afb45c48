"""Show which toy objects are masked badly: tables by number of pixels and by number of parts.

    adaptis evaluate --data data/toy_v1 --checkpoint toy_v1_wide --limit 500 --save results/wide
    python -m experiments.toy_objects results/wide --data data/toy_v1
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from adaptis.data.datasets import open_dataset
from adaptis.data.points import count_parts
from adaptis.errors import AdaptisError
from adaptis.evaluation.ap import TABLE_1, found_things, mask_iou, true_things
from adaptis.evaluation.coco import PanopticFolder
from adaptis.evaluation.overlap import compute_overlap
from adaptis.evaluation.segments import sample_truth
from experiments.benchmarks.markdown import table

PIXELS = (1, 50, 100, 200, 400)
PARTS = (1, 2, 3, 4)
"""Each bin begins at its limit and ends before the next one; the last bin has no end."""


class Objects(NamedTuple):
    """The true objects of some images: number of visible ``pixels``, number of connected
    ``parts``, and the best ``iou`` with a predicted object, each (N,).
    """

    pixels: np.ndarray
    parts: np.ndarray
    iou: np.ndarray


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Print the tables; return the exit status."""
    parser = argparse.ArgumentParser(prog='python -m experiments.toy_objects',
                                     description=__doc__.partition('\n')[0])
    parser.add_argument('saved', type=Path, help='the folder of adaptis evaluate --save')
    parser.add_argument('--data', type=Path, default=Path('data/toy_v1'),
                        help='default: %(default)s')
    parser.add_argument('--split', default='test', help='default: %(default)s')
    args = parser.parse_args(argv)
    try:
        objects = measure(open_dataset('toy', args.data, args.split),
                          PanopticFolder(args.saved / 'panoptic.json'))
    except AdaptisError as error:
        print(f'Error: {error}', file=sys.stderr)
        return 1
    print(by_limits('pixels', objects.pixels, PIXELS, objects.iou))
    print()
    print(by_limits('parts', objects.parts, PARTS, objects.iou))
    return 0


def measure(dataset: Any, predictions: PanopticFolder) -> Objects:
    """Return the true objects of all images of ``dataset`` that have a prediction.

    Raises AdaptisError if no image has one, or a file cannot be read.
    """
    rows: list[tuple[int, int, float]] = []
    for index in range(len(dataset)):
        if dataset.image_id(index) in predictions.annotations:
            rows += _objects(dataset, index, predictions)
    if not rows:
        raise AdaptisError(f'{predictions.json_path} has no prediction for an image of the data '
                           'set with an object in it.')
    return Objects(*(np.array(column) for column in zip(*rows)))


def _objects(dataset: Any, index: int,
             predictions: PanopticFolder) -> Iterator[tuple[int, int, float]]:
    """Return pixels, parts and best IoU of each true object of an image that is not a crowd."""
    truth, crowd = sample_truth(dataset[index], dataset.taxonomy)
    overlap = compute_overlap(truth, predictions.read(dataset.image_id(index)).result, crowd)
    true, _, excused = true_things(overlap)
    found, _, _ = found_things(overlap)
    best = mask_iou(overlap, found, true, excused).max(axis=0, initial=0)
    counted = true[~excused]
    parts = count_parts(truth.segment_map, [overlap.truth[row].id for row in counted])
    return zip(overlap.truth_area[counted], parts, best[~excused])


def by_limits(name: str, values: np.ndarray, limits: Sequence[int], iou: np.ndarray) -> str:
    """Return a Markdown table of the mean IoU, and of the share of objects above each IoU."""
    bins = np.digitize(values, limits)
    lines = [_line(_range(limits, k), iou[bins == k], len(iou)) for k in range(1, len(limits) + 1)
             if (bins == k).any()]
    above = (f'IoU > {threshold}, %' for threshold in TABLE_1)
    return table([name, 'objects', 'share, %', 'mean IoU, %', *above],
                 [*lines, _line('all', iou, len(iou))], numbers=True)


def _range(limits: Sequence[int], number: int) -> str:
    if number == len(limits):
        return f'{limits[-1]} or more'
    low, high = limits[number - 1], limits[number] - 1
    return str(low) if low == high else f'{low} to {high}'


def _line(name: str, iou: np.ndarray, total: int) -> list[str]:
    shares = [len(iou) / total, iou.mean(), *((iou > threshold).mean() for threshold in TABLE_1)]
    return [name, f'{len(iou):,}', *(f'{100 * share:.1f}' for share in shares)]


if __name__ == '__main__':
    sys.exit(main())
