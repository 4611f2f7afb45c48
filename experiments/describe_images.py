"""Store statistics of the training images beside a checkpoint that has none.

    python -m experiments.describe_images CHECKPOINT --dataset toy --data data/toy_v1
    python -m experiments.describe_images CHECKPOINT --compare photographs data/toy_v1/test

The first command is for checkpoints of other programs or older versions; ``adaptis train`` stores
the statistics itself.  ``adaptis predict`` uses them to warn about images that are unlike all
training images (see ``adaptis.inference.likeness``).  The second command prints how far the images
in folders are from the training images.
"""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from adaptis.data.datasets import DATASETS, open_dataset
from adaptis.errors import AdaptisError
from adaptis.files import atomic_write, list_images, read_image, read_json
from adaptis.inference.likeness import KEY, ImageStatistics, dataset_statistics
from adaptis.inference.sidecar import read_sidecar


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Change the JSON beside the checkpoint; return the exit status."""
    parser = argparse.ArgumentParser(prog='python -m experiments.describe_images',
                                     description=__doc__.partition('\n')[0])
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument('--dataset', choices=DATASETS)
    parser.add_argument('--data', type=Path)
    parser.add_argument('--split', default='train')
    parser.add_argument('--compare', type=Path, nargs='+', metavar='FOLDER')
    args = parser.parse_args(argv)
    if not args.compare and not (args.dataset and args.data):
        parser.error('give --dataset with --data, or --compare')
    try:
        if args.compare:
            compare(args.checkpoint, args.compare)
        else:
            describe(args.checkpoint, args.dataset, args.data, args.split)
    except AdaptisError as error:
        print(f'Error: {error}', file=sys.stderr)
        return 1
    return 0


def describe(checkpoint: Path, dataset: str, data: Path, split: str) -> None:
    """Write the statistics of a split into the JSON beside a checkpoint."""
    path = checkpoint.with_suffix('.json')
    info = read_json(path)
    found = dataset_statistics(open_dataset(dataset, data, split, annotations=False))
    if not isinstance(info, dict) or not found:
        raise AdaptisError(f'{path} does not describe a network, or {data} has no images.')
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps({**info, **found}, indent=2) + '\n', encoding='utf-8')
    count, farthest = found[KEY]['count'], found[KEY]['farthest']
    print(f'Wrote {path}: {count} images, colours at most {farthest} from their mean.')


def compare(checkpoint: Path, folders: Sequence[Path]) -> None:
    """Print the distances of the images in each folder, and how many cause a warning."""
    statistics = ImageStatistics.from_sidecar(read_sidecar(checkpoint))
    if statistics is None:
        raise AdaptisError(f'{checkpoint} has no statistics of its training images: add them with '
                           '--dataset and --data.')
    print(f'{"images":40}{"count":>6}{"min":>7}{"median":>7}{"max":>7}{"warned":>8}')
    for folder in folders:
        # The toy data have id maps beside the images.
        images = [read_image(p) for p in list_images(folder) if not p.stem.endswith('_im')]
        distances = np.array([statistics.distance(image) for image in images])
        warned = sum(statistics.find_difference(image, False) is not None for image in images)
        print(f'{str(folder)[-39:]:40}{len(images):6}{distances.min():7.2f}'
              f'{np.median(distances):7.2f}{distances.max():7.2f}{warned:8}')


if __name__ == '__main__':
    sys.exit(main())
