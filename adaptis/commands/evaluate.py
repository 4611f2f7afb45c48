"""``adaptis evaluate``: measure a checkpoint on a data set, or one COCO file against another."""
from __future__ import annotations

import argparse
import dataclasses
import functools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
import yaml
from tqdm import tqdm

from adaptis.commands.options import add_network_options, chosen_settings
from adaptis.errors import AdaptisError
from adaptis.evaluation.coco import PanopticFolder, PanopticWriter
from adaptis.evaluation.parallel import ordered_map
from adaptis.evaluation.pq import evaluate_with_panopticapi
from adaptis.evaluation.record import make_record, sha256, write_record
from adaptis.evaluation.report import format_metrics
from adaptis.evaluation.run import Evaluator, evaluate_folders
from adaptis.inference.settings import SHIPPED, Settings
from adaptis.types import TOY_TAXONOMY, PanopticResult, Sample

HELP = """Measure PQ, AP and mIoU: of a trained network on the toy data (--data, --split) or on one
picture (--image, --ids), or of predictions in COCO panoptic format (--gt, --pred)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    files = parser.add_argument_group('measure files')
    files.add_argument('--gt', type=Path, metavar='JSON', help='true COCO panoptic JSON')
    files.add_argument('--pred', type=Path, metavar='JSON', help='predicted COCO panoptic JSON')
    files.add_argument('--gt-folder', type=Path, help='PNGs of --gt (default: its name)')
    files.add_argument('--pred-folder', type=Path, help='PNGs of --pred (default: its name)')
    files.add_argument('--panopticapi', action='store_true',
                       help='compute PQ with the official panopticapi, where it is installed')
    network = parser.add_argument_group('measure a network')
    add_network_options(network)
    network.add_argument('--data', type=Path, metavar='DIR', help='toy data set')
    network.add_argument('--split', default='test', help='default: %(default)s')
    network.add_argument('--image', type=Path, help='one picture instead of a data set')
    network.add_argument('--ids', type=Path, metavar='PNG', help='object ids of --image')
    network.add_argument('--limit', type=int, metavar='N', help='only the first N images')
    network.add_argument('--set', action='append', default=[], metavar='KEY=VALUE',
                         help='change an inference setting, e.g. max_candidates=400')
    network.add_argument('--processes', '--workers', type=int, default=1, metavar='N',
                         help='single-threaded processes that share the images; the result does '
                              'not depend on it (default: %(default)s)')
    network.add_argument('--save', type=Path, metavar='DIR',
                         help='also write the results in COCO panoptic format')
    record = parser.add_argument_group('record')
    record.add_argument('--out', type=Path, metavar='JSON',
                        help='default: evaluations/<label>.json')
    record.add_argument('--label', help='what the run is called (default: from the file names)')
    record.add_argument('--row', nargs=2, metavar=('TABLE', 'ROW'), default=(None, None),
                        help='row of a published table that this measures, e.g. 1 adaptis')
    record.add_argument('--reduced', action='store_true',
                        help='mark the run as less than the setting of the paper, as --limit does')


def run(args: argparse.Namespace) -> int:
    """Measure, print, and write the record."""
    _check_arguments(args)
    if args.row[0] is not None:
        _check_row(*args.row)
    label = args.label or _label(args)
    out = args.out or Path('evaluations') / f'{label}.json'
    if out.is_dir():
        raise AdaptisError(f'{out} is a folder: give --out the name of a file.')
    start = time.perf_counter()
    metrics, settings = (_measure_files if args.gt else _measure_network)(args)
    record = make_record(metrics, settings, label=label, table=args.row[0], row=args.row[1],
                         reduced=args.reduced or args.limit is not None,
                         seconds=round(time.perf_counter() - start, 2))
    print(format_metrics(metrics))  # first, as the disk may refuse what took hours
    write_record(out, record)
    print(f'Wrote {out}.')
    return 0


class Job(NamedTuple):
    """All that a process needs to segment image number i; small, because it travels."""

    checkpoint: Optional[Path]
    ctx: str
    settings: Settings
    data: Optional[Path]
    split: str
    image: Optional[Path]
    ids: Optional[Path]


class Picture(Sequence):
    """A data set of one picture and the ids of its objects, all of the toy's one class."""

    taxonomy = TOY_TAXONOMY

    def __init__(self, image: Path, ids: Path):
        from adaptis.files import read_ids, read_image
        instances = read_ids(ids)
        self._sample = Sample(image=read_image(image), instances=instances,
                              classes={int(i): 1 for i in np.unique(instances) if i},
                              semantic=(instances > 0).astype(np.int32), name=str(image))

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        return (self._sample,)[index]


def _measure_files(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    gt, pred = (PanopticFolder(j, f) for j, f in ((args.gt, args.gt_folder),
                                                  (args.pred, args.pred_folder)))
    metrics = evaluate_folders(gt, pred)
    if args.panopticapi:
        metrics['pq'] = evaluate_with_panopticapi(gt.json_path, gt.folder,
                                                  pred.json_path, pred.folder)
    return metrics, {'gt': args.gt, 'pred': args.pred, 'panopticapi': args.panopticapi}


def _measure_network(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    checkpoint = _checkpoint_facts(args.checkpoint)
    preset, chosen = _settings(args)
    job = Job(args.checkpoint, args.ctx, chosen, args.data, args.split, args.image,
              args.ids)
    dataset = _dataset(job)
    count = min(len(dataset), args.limit or len(dataset))
    evaluator = Evaluator(dataset.taxonomy)
    seconds = 0.0
    for index, (result, elapsed) in enumerate(_results(job, count, args)):
        evaluator.add_sample(index, dataset[index], result)
        seconds += elapsed
    settings = {'checkpoint': checkpoint, 'data': args.data or args.image, 'split': args.split,
                'limit': args.limit, 'preset': preset,
                'inference': dataclasses.asdict(job.settings), 'processes': args.processes,
                'seconds_per_image': round(seconds / count, 4)}
    return evaluator.result(), settings


def _results(job: Job, count: int,
             args: argparse.Namespace) -> Iterator[tuple[PanopticResult, float]]:
    """Results in the order of the images, with the seconds each took; saved if asked for."""
    results = ordered_map(_segment, ((job, i) for i in range(count)), args.processes)
    show = functools.partial(tqdm, total=count, unit='image', disable=count < 2)
    if args.save is None:
        yield from show(results)
        return
    dataset = _dataset(job)
    with PanopticWriter(args.save / 'panoptic.json', args.save / 'panoptic',
                        dataset.taxonomy) as writer:
        for index, (result, elapsed) in enumerate(show(results)):
            writer.add(index, Path(dataset[index].name).name, result)
            yield result, elapsed


def _segment(task: tuple[Job, int]) -> tuple[PanopticResult, float]:
    """Segment one image, in whatever process this is."""
    job, index = task
    predictor = _predictor(job.checkpoint, job.ctx, job.settings)
    image = _dataset(job)[index].image
    start = time.perf_counter()
    result = predictor.set_image(image).panoptic()
    return result, time.perf_counter() - start


@functools.lru_cache(maxsize=1)
def _predictor(checkpoint: Optional[Path], ctx: str, settings: Settings) -> Any:
    from adaptis.inference.predictor import load_predictor  # loads MXNet
    from adaptis.runtime import context
    return load_predictor(checkpoint, settings, context(ctx)[0])


@functools.lru_cache(maxsize=1)
def _dataset(job: Job) -> Any:
    from adaptis.data.toy import ToyDataset
    return Picture(job.image, job.ids) if job.image else ToyDataset(job.data, job.split)


def _check_arguments(args: argparse.Namespace) -> None:
    modes = [bool(args.gt or args.pred), bool(args.data), bool(args.image or args.ids)]
    if sum(modes) != 1:
        raise AdaptisError('Say what to measure: either --data DIR, or --image with --ids, or '
                           '--gt with --pred.')
    if bool(args.gt) != bool(args.pred) or bool(args.image) != bool(args.ids):
        raise AdaptisError('--gt needs --pred, and --image needs --ids.')
    if args.panopticapi and not args.gt:
        raise AdaptisError('--panopticapi reads files: use it with --gt and --pred.')
    if args.processes < 1 or (args.limit is not None and args.limit < 1):
        raise AdaptisError('--processes and --limit must be at least 1.')


def _check_row(table: str, row: str) -> None:
    from adaptis.commands.table import PUBLISHED, experiments
    from adaptis.evaluation.tables import find_table, load_tables
    find_table(load_tables(experiments() / PUBLISHED), 'adaptis', table).row(row)


def _settings(args: argparse.Namespace) -> tuple[str, Settings]:
    changes: dict[str, Any] = {}
    for text in args.set:
        key, equals, value = text.partition('=')
        if not equals:
            raise AdaptisError(f'--set {text}: write key=value, e.g. max_candidates=400.')
        try:
            changes[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise AdaptisError(f'--set {text}: the value is not YAML.') from error
    return chosen_settings(args, **changes)


def _checkpoint_facts(path: Optional[Path]) -> dict[str, Any]:
    from adaptis.model.zoo import PRETRAINED
    path = PRETRAINED.get(str(path or SHIPPED), path)
    return {'file': path.name, 'sha256': sha256(path)}


def _label(args: argparse.Namespace) -> str:
    if args.gt:
        return args.pred.stem
    network = args.checkpoint.stem if args.checkpoint else 'shipped'
    return f'{network}_{args.image.stem if args.image else args.split}'
