"""``adaptis evaluate``: measure a checkpoint on a data set, or one COCO file against another."""
from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from adaptis.commands.evaluation_task import EvaluationTask, resolve_task
from adaptis.commands.measure import (
    Measured,
    cached_dataset,
    evaluate_images,
    has_ground_truth,
)
from adaptis.commands.options import add_network_options, add_set_option
from adaptis.commands.rows import EVALUATIONS, beside_published, config_path, published_row
from adaptis.commands.submission import clear_unfinished, join_folders, shard_folder
from adaptis.commands.workers import add_worker_options, check_worker_options, open_workers
from adaptis.data.datasets import ANNOTATIONS, DATASETS
from adaptis.errors import AdaptisError
from adaptis.evaluation import shards
from adaptis.evaluation.coco import PanopticFolder
from adaptis.evaluation.formats import COMPLETE, FORMATS, open_writer
from adaptis.evaluation.matching import WAYS, match_images
from adaptis.evaluation.median import median_metrics
from adaptis.evaluation.pq import evaluate_with_panopticapi
from adaptis.evaluation.record import (
    device_name,
    make_record,
    provenance,
    read_record,
    write_record,
)
from adaptis.evaluation.report import format_metrics
from adaptis.evaluation.run import Evaluator, evaluate_folders
from adaptis.evaluation.shards import WHOLE, Shard
from adaptis.memory_reuse import keep_freed_memory

HELP = """Measure PQ, AP and mIoU of a network or of files.  Choose one input.  CONFIG names the
data set, the network and the row of a table.  --dataset and --data choose any data set, --image and
--ids a single image, and --gt and --pred files in COCO panoptic format.  --merge joins the results
of shards, and --median combines the records of several training runs."""

SERVERS = {'cityscapes': 'cityscapes-dataset.com', 'vistas': 'eval.ai, Mapillary Vistas',
           'coco': 'codalab.org or eval.ai, COCO panoptic test-dev'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('config', type=config_path, nargs='?', metavar='CONFIG',
                        help='config with the data set, network, settings and table row, e.g. '
                             'experiments/cityscapes/r50.yaml')
    network = parser.add_argument_group('what to measure')
    add_network_options(network)
    network.add_argument('--dataset', choices=DATASETS,
                         help='layout of --data if there is no config (default: toy)')
    network.add_argument('--data', type=Path, metavar='DIR', help='folder of the data set')
    network.add_argument('--split', help="train, val or test (default: the config's val_split; "
                                         'without a config, test for the toy data and val for '
                                         'others)')
    network.add_argument('--annotation', choices=ANNOTATIONS,
                         help='COCO only: which annotation to measure against; instances may '
                              'overlap and include no stuff; both measures PQ on the panoptic '
                              "segments and AP on the instances (default: the config's, else "
                              'panoptic)')
    network.add_argument('--image', type=Path, help='a single image instead of a data set')
    network.add_argument('--ids', type=Path, metavar='PNG', help='PNG with the object ids of '
                                                                 '--image')
    network.add_argument('--limit', type=int, metavar='N', help='measure only the first N images')
    network.add_argument('--clicks', type=int, metavar='N',
                         help='AdaptIS only: also click N times on every object anywhere, N times '
                              'in its middle and N times near its border, and measure the masks')
    add_set_option(network)
    _add_work_options(parser.add_argument_group('sharing the work'))
    _add_file_options(parser.add_argument_group('measure files'))
    record = parser.add_argument_group('results')
    record.add_argument('--save', type=Path, metavar='DIR',
                        help='also write the predictions, in the format that a benchmark expects')
    record.add_argument('--format', choices=FORMATS,
                        help="format of --save (default: the data set's own; coco for the toy "
                             'data)')
    record.add_argument('--out', type=Path, metavar='FILE',
                        help='file for the record of the run (default: evaluations/<label>.json)')
    record.add_argument('--label', help='name of the run (default: derived from the file names)')
    record.add_argument('--row', nargs=2, metavar=('TABLE', 'ROW'),
                        help='the row of a published table that this run reproduces, e.g. 1 '
                             'adaptis')
    record.add_argument('--reduced', action='store_true',
                        help="mark the run as smaller than the paper's setting, as --limit does")


def run(args: argparse.Namespace) -> int:
    """Measure, print the result, and write the record; return 0."""
    _check_arguments(args)
    if args.row is not None:
        published_row('adaptis', *args.row)
    if args.out is not None and args.out.is_dir():
        raise AdaptisError(f'{args.out} is a folder: give --out the name of a file.')
    start = time.perf_counter()
    if args.gt:
        row = dict(zip(('table', 'row'), args.row or ()), reduced=args.reduced)
        return _finish(*_measure_files(args), args.label or args.pred.stem, row, start, args.out)
    if args.merge:
        return _merge(args, start)
    if args.median:
        return _median(args, start)
    task = resolve_task(args)
    if not has_ground_truth(cached_dataset(task.job.source)):
        return _submit(task, args)
    if args.shard is not None:
        return _measure_shard(task, args)
    evaluator, seconds, processes, failure = _measure(task, WHOLE, args)
    settings = {**task.facts, 'processes': processes,
                'seconds_per_image': round(seconds / evaluator.quality.images, 4)}
    speed = None   # several processes share the machine
    if processes == 1:
        speed = _speed(seconds, evaluator.quality.images, args.ctx)
    status = _finish(evaluator.result(), settings, task.label, task.row, start, args.out, speed)
    _check_saved(failure)
    return status


def _add_work_options(group: Any) -> None:
    add_worker_options(group)
    group.add_argument('--shard', metavar='I/N',
                       help='measure only every N-th image, starting with the I-th, so that N '
                            'machines can share the work; written to --out (default: '
                            'evaluations/<label>-I-of-N.npz)')
    group.add_argument('--merge', type=Path, nargs='+', metavar='FILE',
                       help='join the files of all shards; the result equals that of a single run. '
                            'With --save DIR: join the folders that the shards saved')
    group.add_argument('--median', type=Path, nargs='+', metavar='RECORD',
                       help='record the median of each number over several training runs of one '
                            'row (trained with --set seed=N)')


def _add_file_options(group: Any) -> None:
    group.add_argument('--gt', type=Path, metavar='JSON', help='ground truth: COCO panoptic JSON')
    group.add_argument('--pred', type=Path, metavar='JSON', help='predictions: COCO panoptic JSON')
    group.add_argument('--gt-folder', type=Path, help='folder of the PNGs of --gt (default: named '
                                                      'as the JSON)')
    group.add_argument('--pred-folder', type=Path, help='folder of the PNGs of --pred (default: '
                                                        'named as the JSON)')
    group.add_argument('--match', choices=WAYS,
                       help='how to match the images of the two files (default: by id, or by file '
                            'name if the same ids stand for different files)')
    group.add_argument('--panopticapi', action='store_true',
                       help='compute PQ with the official panopticapi, which must be installed')


def _check_arguments(args: argparse.Namespace) -> None:
    modes = [bool(args.gt or args.pred), bool(args.config or args.data or args.dataset),
             bool(args.image or args.ids), bool(args.merge), bool(args.median)]
    if sum(modes) != 1:
        raise AdaptisError('Nothing to measure: give a config, --data DIR, --image with --ids, '
                           '--gt with --pred, --merge FILES or --median FILES.')
    if bool(args.gt) != bool(args.pred) or bool(args.image) != bool(args.ids):
        raise AdaptisError('--gt needs --pred, and --image needs --ids.')
    if args.dataset and (args.config or not args.data):
        raise AdaptisError('--dataset needs --data and no config, which names its data set '
                           'itself.')
    if args.panopticapi and not args.gt:
        raise AdaptisError('--panopticapi reads files: use it with --gt and --pred.')
    check_worker_options(args)
    if args.limit is not None and args.limit < 1:
        raise AdaptisError('--limit must be at least 1.')
    if args.clicks is not None and (args.clicks < 1 or args.gt or args.merge or args.median):
        raise AdaptisError('--clicks must be at least 1, and it needs a network to click with.')
    if args.shard is not None and (args.gt or args.merge or args.median or args.image):
        raise AdaptisError('--shard divides the images of a data set: use it with a config or '
                           '--data.')
    if (args.merge or args.median) and (args.row or args.reduced or args.limit):
        raise AdaptisError('--merge and --median take the row and the images from the files that '
                           'they read: leave out --row, --reduced and --limit.')
    if args.median and args.save:
        raise AdaptisError('--median reads records, which contain no predictions: leave out '
                           '--save.')


def _measure_files(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    keep_freed_memory()
    gt = PanopticFolder(args.gt, args.gt_folder)
    pred = PanopticFolder(args.pred, args.pred_folder, truth=gt)
    if args.panopticapi and any(str(a) != str(b) for a, b in match_images(gt, pred, args.match)):
        raise AdaptisError('panopticapi matches images by id, but these images can only be matched '
                           'by file name: leave out --panopticapi.')
    metrics = evaluate_folders(gt, pred, args.match)
    if args.panopticapi:
        metrics['pq'] = evaluate_with_panopticapi(gt.json_path, gt.folder,
                                                  pred.json_path, pred.folder)
    return metrics, {'gt': args.gt, 'pred': args.pred, 'panopticapi': args.panopticapi}


def _measure(task: EvaluationTask, shard: Shard,
             args: argparse.Namespace) -> Measured:
    """Measure the images of a shard, and save the results if ``--save`` is given."""
    dataset = cached_dataset(task.job.source)
    indices = shard.indices(min(len(dataset), args.limit or len(dataset)))
    if args.save is None:
        with open_workers(args) as workers:
            return evaluate_images(task.job, indices, workers)
    folder = shard_folder(args.save, shard)
    if shard != WHOLE:  # we chose the folder's name, so it contains nothing else
        clear_unfinished(folder)
    measured = None
    try:
        with open_writer(task.job.format, folder, dataset.taxonomy) as writer, \
                open_workers(args) as workers:
            writer.plan([(dataset.image_id(i), dataset.file_name(i)) for i in range(len(dataset))])
            measured = evaluate_images(task.job, indices, workers, writer)
            _check_saved(measured.failure)  # so that no JSON marks the results as complete
    except AdaptisError as error:
        if measured is None:
            raise
        return measured._replace(failure=measured.failure or error)
    return measured


def _check_saved(failure: Optional[AdaptisError]) -> None:
    """Raise AdaptisError if results could not be saved."""
    if failure is not None:
        raise AdaptisError(f'Not all results could be saved: {failure}') from failure


def _speed(seconds: float, images: int, ctx: str) -> dict[str, Any]:
    """Return how long the network and its postprocessing took, and on which device."""
    return {'seconds_per_image': seconds / images, 'images_per_second': images / seconds,
            'device': device_name(ctx)}


def _measure_shard(task: EvaluationTask, args: argparse.Namespace) -> int:
    """Measure one shard and save it, unless that was done before."""
    shard = Shard.parse(args.shard)
    out = args.out or EVALUATIONS / f'{task.label}-{shard.index}-of-{shard.count}.npz'
    run = shards.as_json({'facts': task.facts, 'label': task.label, 'row': task.row,
                          'commit': provenance()['commit']})
    saved = args.save is None or (shard_folder(args.save, shard) / COMPLETE).is_file()
    if saved and _holds(out, shard, run):
        print(f'{out} already holds shard {shard}.')
        return 0
    evaluator, _, _, failure = _measure(task, shard, args)
    evaluator.run = run
    evaluator.save(out, shard)
    _check_saved(failure)
    print(f'Wrote {out}. When all {shard.count} shards are done: adaptis evaluate --merge FILES')
    return 0


def _holds(path: Path, shard: Shard, run: Mapping[str, Any]) -> bool:
    """Return whether a file contains this shard of this run, which a restarted job can skip."""
    try:
        header = shards.read_shard(path).header
    except AdaptisError:
        return False  # the file does not exist, or its job was stopped
    return header.get('shard') == list(shard) and header.get('run') == run


def _merge(args: argparse.Namespace, start: float) -> int:
    """Merge the files of all shards, or the folders in which they saved results."""
    if args.save is not None:
        count = join_folders(args.merge, args.save)
        print(f'Wrote {count} files to {args.save}.')
        return 0
    folder = next((path for path in args.merge if path.is_dir()), None)
    if folder is not None:
        raise AdaptisError(f'{folder} is a folder: to join the saved results of shards, give the '
                           'target with --save DIR; their measurements are in their .npz files.')
    evaluator = Evaluator.merge_files(args.merge)
    run = evaluator.run
    if not all(key in run for key in ('facts', 'label', 'row')):
        raise AdaptisError(f'{args.merge[0]} is no shard of "adaptis evaluate".')
    settings = {**run['facts'], 'shards': len(args.merge)}
    return _finish(evaluator.result(), settings, args.label or run['label'], run['row'], start,
                   args.out)


def _median(args: argparse.Namespace, start: float) -> int:
    """Record the median of several training runs of one row."""
    # With their folders, because training always names its record evaluation.json.
    records = [{**read_record(path), 'file': str(path)} for path in args.median]
    runs = [{key: record.get(key) for key in ('file', 'label', 'commit', 'date')}
            for record in records]
    row = {key: records[0].get(key) for key in ('paper', 'table', 'row', 'reduced')}
    label = args.label or f'{records[0].get("label") or "run"}_median_of_{len(records)}'
    settings = {'median_of': runs, 'inference': (records[0].get('settings') or {}).get('inference')}
    return _finish(median_metrics(records), settings, label, row, start, args.out)


def _submit(task: EvaluationTask, args: argparse.Namespace) -> int:
    """Write the predictions for a split whose ground truth only a server has."""
    source = task.job.source
    where = SERVERS.get(source.dataset, 'the owner of the data set')
    if args.save is None:
        raise AdaptisError(f'The {source.split} split in {source.root} has no ground truth: write '
                           f'predictions for its server ({where}) with --save DIR.')
    shard = WHOLE if args.shard is None else Shard.parse(args.shard)
    _check_saved(_measure(task, shard, args).failure)
    print(f'Wrote {shard_folder(args.save, shard)}. The ground truth is not public: submit the '
          f'results to {where}.')
    if shard != WHOLE:
        print(f'When all {shard.count} shards are done: adaptis evaluate --merge '
              f'{args.save}/*-of-{shard.count} --save DIR')
    if task.row.get('table') is not None:
        print('', beside_published(task.row, 'the server measures it'), sep='\n')
    return 0


def _finish(metrics: Mapping[str, Any], settings: Mapping[str, Any], label: str,
            row: Mapping[str, Any], start: float, out: Optional[Path],
            speed: Optional[Mapping[str, Any]] = None) -> int:
    """Print the metrics beside the published ones, and write the record."""
    record = make_record(metrics, settings, label=label, **row, speed=speed,
                         seconds=round(time.perf_counter() - start, 2))
    print(format_metrics(metrics))  # before anything is written, because the disk may be full
    if record['table'] is not None:
        print('', beside_published(record), sep='\n')
    out = out or EVALUATIONS / f'{label}.json'
    write_record(out, record)
    print(f'Wrote {out}.')
    return 0
