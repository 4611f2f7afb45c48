"""What ``adaptis evaluate`` measures: images, network, settings, and table row."""
from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple, Optional

from adaptis.commands.measure import SINGLE_IMAGE, ImageSource, InferenceJob, cached_dataset
from adaptis.commands.options import check_backend, parse_changes, resolve_settings
from adaptis.commands.rows import RUNS, check_row, row_of, run_name
from adaptis.config import TrainConfig, load_config
from adaptis.deploy.folder import MANIFEST, default_backend, is_export, read_export
from adaptis.errors import AdaptisError
from adaptis.evaluation.formats import FORMATS
from adaptis.evaluation.record import file_facts, sha256
from adaptis.inference.sidecar import find_taxonomy, read_sidecar
from adaptis.loading import family_of, inference_settings
from adaptis.registry import find_family, find_mismatch
from adaptis.types import Taxonomy
from adaptis.weights import DEFAULT_CHECKPOINT, weights_file

_OF_A_NETWORK = ('name', 'instances', 'semantic', 'backbone', 'width', 'coordinates',
                 'num_classes', 'num_things', 'num_stuff')


class EvaluationTask(NamedTuple):
    """One evaluation.

    Attributes
    ----------
    job : what each process needs to segment images
    facts : everything that the result depends on, as plain data
    label : the name of the run
    row : arguments of ``make_record`` that say which row of a table is measured
    """

    job: InferenceJob
    facts: dict[str, Any]
    label: str
    row: dict[str, Any]


def resolve_task(args: argparse.Namespace) -> EvaluationTask:
    """Return the evaluation that the arguments describe.

    Raises AdaptisError if the data, the checkpoint or the settings do not exist.
    """
    check_backend(args)
    config = None if args.config is None else load_config(args.config)
    if config is not None:
        check_row(config, args.config)
    source = _source(args, config)
    taxonomy = cached_dataset(source).taxonomy  # first, so that missing data are reported first
    checkpoint = _checkpoint(args, config)
    preset, settings = _settings(args, config, checkpoint)
    _check_classes(checkpoint, taxonomy, source)
    facts = {'config': args.config, 'checkpoint': checkpoint_facts(checkpoint),
             'dataset': source.dataset, 'data': source.root,
             'split': source.split, 'limit': args.limit, 'preset': preset,
             'inference': dataclasses.asdict(settings)}
    if source.annotation != 'panoptic':
        facts['annotation'] = source.annotation
    backend = _backend(checkpoint, args.backend)
    if backend is not None:
        facts['backend'] = backend
    if args.clicks is not None:
        _check_clicks(checkpoint)
        facts['clicks'] = args.clicks
    job = InferenceJob(checkpoint, args.ctx, settings, source, _format(args, source), backend,
                       args.clicks or 0)
    return EvaluationTask(job, facts, args.label or _label(args, source), _row(args, config))


def checkpoint_facts(path: Optional[Path]) -> dict[str, Any]:
    """Return the name and the digest of a checkpoint.

    For an exported network it is the digest of the manifest, which lists those of the files. Raises
    AdaptisError if it cannot be read.
    """
    if is_export(path):
        # An absolute path, because "." has no name.
        return {'file': path.absolute().name, 'sha256': sha256(path / MANIFEST)}
    return file_facts(weights_file(path or DEFAULT_CHECKPOINT))


def _source(args: argparse.Namespace, config: Optional[TrainConfig]) -> ImageSource:
    if args.image:
        return ImageSource(SINGLE_IMAGE, args.image, str(args.ids))
    if config is None:
        name = args.dataset or 'toy'
        return ImageSource(name, args.data, args.split or ('test' if name == 'toy' else 'val'),
                           args.annotation or 'panoptic')
    data = config.data
    return ImageSource(data.dataset, args.data or Path(data.root), args.split or data.val_split,
                       args.annotation or data.annotation)


def _checkpoint(args: argparse.Namespace, config: Optional[TrainConfig]) -> Optional[Path]:
    """Return the file of the arguments, else of the config, else what ``adaptis train`` wrote."""
    if args.checkpoint is not None or config is None:
        return args.checkpoint
    trained = RUNS / run_name(args.config) / 'final.params'
    path = Path(config.checkpoint) if config.checkpoint else trained
    if not path.is_file():
        raise AdaptisError(f'{path}, the network of {args.config}, does not exist: train it with '
                           '"adaptis train" (for a test split, with the config without "_test"), '
                           'or give yours with --checkpoint (convert an official one first, with '
                           '"adaptis convert").')
    return path


def _format(args: argparse.Namespace, source: ImageSource) -> Optional[str]:
    """Return the format in which results are saved; None if they are not."""
    if args.save is None:
        return None
    return args.format or (source.dataset if source.dataset in FORMATS else 'coco')


def _backend(checkpoint: Optional[Path], asked: Optional[str]) -> Optional[str]:
    """Return what runs an exported network; None for a checkpoint."""
    if not is_export(checkpoint):
        return None
    return asked or default_backend(read_export(checkpoint))


def _settings(args: argparse.Namespace, config: Optional[TrainConfig],
              checkpoint: Optional[Path]) -> tuple[str, Any]:
    default = None
    if config is not None:
        _check_network(config, checkpoint, args.config)
        default = 'of its config', inference_settings(config)
    return resolve_settings(args, default, checkpoint, **parse_changes(args.set))


def _check_network(config: TrainConfig, checkpoint: Optional[Path], path: Path) -> None:
    """Raise AdaptisError if a checkpoint holds another network than the config describes."""
    found = read_sidecar(checkpoint).get('model')
    name = config.model['name']
    if checkpoint and checkpoint.is_file() and found is None and (
            family_of(checkpoint) is not find_family(name)):
        raise AdaptisError(f'{checkpoint.with_suffix(".json")} must lie beside {checkpoint} and '
                           f'name its network, because {path} expects {name}.')
    defaults = find_family(name).expand_options({'name': name})
    keys = (*_OF_A_NETWORK, *defaults)
    mismatch = (isinstance(found, dict) and 'name' in found
                and find_mismatch(config.model, found, keys))
    if mismatch:
        key, asked, there = mismatch
        raise AdaptisError(f'{checkpoint} contains a network with {key} {there}, but {path} '
                           f'expects {key} {asked}.')


def _check_clicks(checkpoint: Optional[Path]) -> None:
    if not family_of(checkpoint).uses_points:
        raise AdaptisError('--clicks needs a network that predicts the mask at a point, as '
                           f'AdaptIS does; {checkpoint} is not one.')


def _check_classes(checkpoint: Optional[Path], taxonomy: Taxonomy, source: ImageSource) -> None:
    """Raise AdaptisError if a checkpoint has other classes than the images."""
    info = read_sidecar(checkpoint)
    if 'taxonomy' not in info:
        return
    theirs = find_taxonomy(info, len(taxonomy), taxonomy.num_stuff, checkpoint)
    for number, (mine, there) in enumerate(zip(taxonomy.categories, theirs.categories)):
        if (mine.id, mine.name, mine.isthing) != (there.id, there.name, there.isthing):
            raise AdaptisError(f'{checkpoint} was trained for other classes than those of '
                               f'{source.root}: class {number} is "{there.name}" ({there.id}) in '
                               f'the checkpoint but "{mine.name}" ({mine.id}) in the data set.')


def _label(args: argparse.Namespace, source: ImageSource) -> str:
    if args.config is not None:
        return '_'.join([run_name(args.config), *([args.split] if args.split else [])])
    network = args.checkpoint.absolute().stem if args.checkpoint else 'shipped'
    if args.image:
        return f'{network}_{args.image.stem}'
    return '_'.join([network, *([args.dataset] if args.dataset else []), source.split])


def _row(args: argparse.Namespace, config: Optional[TrainConfig]) -> dict[str, Any]:
    # The row of a config applies to the split that the config names.
    own = config is not None and args.split in (None, config.data.val_split)
    row = row_of(config) if own else {}
    if args.row is not None:
        row = {'table': args.row[0], 'row': args.row[1]}
    reduced = row.get('reduced', False) or args.reduced or args.limit is not None
    return {**row, 'reduced': reduced}
