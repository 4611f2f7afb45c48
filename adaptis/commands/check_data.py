"""``adaptis check-data``: report every missing or inconsistent file before training starts."""
from __future__ import annotations

import argparse
import functools
import pickle
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from adaptis.commands.rows import config_path
from adaptis.config import load_config
from adaptis.data import check
from adaptis.data.datasets import (
    ANNOTATIONS,
    DATASETS,
    SPLITS,
    missing_root_message,
    open_dataset,
)
from adaptis.data.layouts import try_layout
from adaptis.data.reader import Reader
from adaptis.errors import AdaptisError
from adaptis.evaluation.parallel import parallel_map
from adaptis.machine import usable_cores
from adaptis.progress import open_bar
from adaptis.registry import find_family

HELP = """Check a data set before training.  Every file must exist, be readable, and match its
annotation.  Each mistake is reported in one sentence.  The exit status is 1 if there is a
mistake."""
SHOWN = 20
_SAMPLES_AT_A_TIME = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('config', nargs='?', type=config_path,
                        help='a training config, whose training and validation splits are checked')
    parser.add_argument('--dataset', choices=DATASETS, help='layout of --data, instead of a config')
    parser.add_argument('--data', '--root', dest='root', type=Path, metavar='DIR',
                        help='folder of the data set; with a config, it replaces data.root')
    parser.add_argument('--split', nargs='+', choices=SPLITS,
                        help='splits to check (default: those of the config, else train and val)')
    parser.add_argument('--annotation', choices=ANNOTATIONS,
                        help="COCO only: which annotation to check (default: the config's, else "
                             'panoptic)')
    parser.add_argument('--fast', action='store_true',
                        help='check only file names and headers (type and size), without decoding '
                             'the files')
    parser.add_argument('--processes', type=int, default=usable_cores(), metavar='N',
                        help='number of processes (default: one per core)')
    parser.add_argument('--show', type=int, default=SHOWN, metavar='N',
                        help='number of mistakes to print for each split (default: %(default)s)')


def run(args: argparse.Namespace) -> int:
    """Check the data set and print the mistakes; return 0 if there is none.

    Raises AdaptisError if there is one.
    """
    plan = _plan(args)
    message = missing_root_message(plan.dataset, plan.root)
    if message:
        raise AdaptisError(message)
    found = 0
    datasets = []
    for split in plan.splits:
        try:
            dataset = open_dataset(plan.dataset, plan.root, split, strict=False,
                                   annotation=plan.annotation)
        except AdaptisError as error:  # the split cannot be opened at all
            print(error)
            found += 1
            continue
        datasets.append(dataset)
        found += _check_split(dataset, split, args)
    for problem in filter(None, [check.compare_categories(datasets),
                                 *_unfit_to_train(plan, datasets)]):
        print(problem)
        found += 1
    if found:
        raise AdaptisError(f'{found} {"mistake" if found == 1 else "mistakes"} in the data set '
                           f'{plan.dataset} in {plan.root}.')
    return 0


class Plan(NamedTuple):
    """Which splits of which data set to check."""

    dataset: str
    root: Path
    splits: list[str]
    annotation: str = 'panoptic'
    model: Optional[Mapping[str, Any]] = None   # the network of the config


class Chunk(NamedTuple):
    """A few samples for one process; ``dataset`` is a file that holds the pickled reader."""

    dataset: Path
    indices: list[int]
    headers_only: bool


def _plan(args: argparse.Namespace) -> Plan:
    if (args.config is None) == (args.dataset is None):
        raise AdaptisError('Give either a config or --dataset with --data DIR.')
    if args.processes < 1 or args.show < 0:
        raise AdaptisError('--processes must be at least 1, and --show 0 or more.')
    if args.config is None:
        if args.root is None:
            raise AdaptisError('--dataset needs --data, the folder of the data set.')
        return Plan(args.dataset, args.root, args.split or _usual_splits(args),
                    args.annotation or 'panoptic')
    config = load_config(args.config)
    data = config.data
    splits = list(dict.fromkeys([data.split, data.val_split]))
    return Plan(data.dataset, args.root or Path(data.root), args.split or splits,
                args.annotation or data.annotation, config.model)


def _usual_splits(args: argparse.Namespace) -> list[str]:
    """Return train and val, or only train for the user's own data without a val split."""
    if args.dataset == 'coco' and try_layout(args.root, 'val') is None and (
            try_layout(args.root, 'train') is not None):
        print('There is no val split. In a config for these data, set data.val_split: train.')
        return ['train']
    return ['train', 'val']


def _unfit_to_train(plan: Plan, datasets: Sequence[Reader]) -> Iterator[str]:
    """Yield what training with the config would reject although every file is correct."""
    if plan.model is None:
        return
    for dataset in datasets:
        if dataset.annotations is None:
            yield f'{dataset.images.folder} has no ground truth, which training needs.'
    try:
        if datasets:
            find_family(plan.model['name']).check_taxonomy(plan.model, datasets[0].taxonomy)
    except AdaptisError as error:
        yield str(error)


def _check_split(dataset: Reader, split: str, args: argparse.Namespace) -> int:
    """Print the first mistakes of a split; return how many there are."""
    found = list(dataset.problems)
    with open_bar(total=len(dataset), desc=split, unit='image') as bar:
        for problems in _examine(dataset, args):
            found += filter(None, problems)
            bar.update(len(problems))
    for problem in found[:args.show]:
        print(problem)
    if len(found) > args.show:
        print(f'... and {len(found) - args.show} more.')
    count = check.count_files(dataset)
    how = 'by name and header' if args.fast else 'decoded'
    print(f'{split}: {_counted(count.images, "image")} and '
          f'{_counted(count.annotations, "annotation")} {how}, '
          f'{_counted(len(found), "mistake")}.')
    return len(found)


def _counted(count: int, what: str) -> str:
    return f'{count or "no"} {what}{"s" * (count != 1)}'


def _examine(dataset: Reader, args: argparse.Namespace) -> Iterator[list[Optional[str]]]:
    """Yield what is wrong with each sample, a few samples at a time, in order."""
    # Through a file, because otherwise every task would send the large reader of COCO's images.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'dataset'
        path.write_bytes(pickle.dumps(dataset))
        chunks = (Chunk(path, list(range(i, min(i + _SAMPLES_AT_A_TIME, len(dataset)))), args.fast)
                  for i in range(0, len(dataset), _SAMPLES_AT_A_TIME))
        yield from parallel_map(_examine_chunk, chunks, args.processes)


def _examine_chunk(chunk: Chunk) -> list[Optional[str]]:
    dataset = _load(chunk.dataset)
    return [check.find_problem(dataset, index, chunk.headers_only) for index in chunk.indices]


@functools.lru_cache(maxsize=1)
def _load(path: Path) -> Reader:
    return pickle.loads(path.read_bytes())
