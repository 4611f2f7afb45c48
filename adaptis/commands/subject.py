"""What ``adaptis evaluate`` is asked to measure: images, network, settings, row of a table."""
from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple, Optional

from adaptis.commands.measure import PICTURE, Job, Source, open_source
from adaptis.commands.options import changes as read_changes
from adaptis.commands.options import check_backend, chosen_settings
from adaptis.commands.rows import check_row, row_of, run_name
from adaptis.config import TrainConfig, load_config
from adaptis.deploy.folder import MANIFEST, is_export, read_export, usual_backend
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import sha256
from adaptis.inference.settings import SHIPPED
from adaptis.inference.sidecar import find_taxonomy, read_sidecar
from adaptis.loading import family_of, inference_settings
from adaptis.registry import find_family, find_mismatch
from adaptis.types import Taxonomy

RUNS = Path('runs')
"""Where ``adaptis train`` puts networks unless told otherwise."""

_OF_A_NETWORK = ('name', 'instances', 'semantic', 'backbone', 'width', 'coordinates',
                 'num_classes', 'num_things', 'num_stuff')


class Subject(NamedTuple):
    """What is measured.

    ``facts`` is everything that the result depends on, as plain data; ``row`` holds the arguments
    of ``make_record`` that say which row of a table it is.
    """

    job: Job
    facts: dict[str, Any]
    label: str
    row: dict[str, Any]


def find_subject(args: argparse.Namespace) -> Subject:
    """What the arguments ask for; AdaptisError if data, checkpoint or settings are not there."""
    check_backend(args)
    config = None if args.config is None else load_config(args.config)
    if config is not None:
        check_row(config, args.config)
    source = _source(args, config)
    taxonomy = open_source(source).taxonomy  # data that are missing are the first thing to say
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
    job = Job(checkpoint, args.ctx, settings, source, args.save is not None, backend)
    return Subject(job, facts, args.label or _label(args, source), _row(args, config))


def checkpoint_facts(path: Optional[Path]) -> dict[str, Any]:
    """Name and digest of a checkpoint, or of an export's manifest, which has those of its files.

    Raises AdaptisError if it cannot be read.
    """
    if is_export(path):
        return {'file': path.absolute().name, 'sha256': sha256(path / MANIFEST)}   # of ., too
    from adaptis.model.zoo import PRETRAINED
    path = PRETRAINED.get(str(path or SHIPPED), path)
    return {'file': path.name, 'sha256': sha256(path)}


def _source(args: argparse.Namespace, config: Optional[TrainConfig]) -> Source:
    if args.image:
        return Source(PICTURE, args.image, str(args.ids))
    if config is None:
        name = args.dataset or 'toy'
        return Source(name, args.data, args.split or ('test' if name == 'toy' else 'val'),
                      args.annotation or 'panoptic')
    data = config.data
    return Source(data.dataset, args.data or Path(data.root), args.split or data.val_split,
                  args.annotation or data.annotation)


def _checkpoint(args: argparse.Namespace, config: Optional[TrainConfig]) -> Optional[Path]:
    """The file asked for, else that of the config, else what training by it has left."""
    if args.checkpoint is not None or config is None:
        return args.checkpoint
    trained = RUNS / run_name(args.config) / 'final.params'
    path = Path(config.checkpoint) if config.checkpoint else trained
    if not path.is_file():
        raise AdaptisError(f'{path}, the network of {args.config}, is not there: train it with '
                           '"adaptis train" (for a test split by the config without "_test"), or '
                           'give yours with --checkpoint (an official one after "adaptis '
                           'convert").')
    return path


def _backend(checkpoint: Optional[Path], asked: Optional[str]) -> Optional[str]:
    """What runs an exported network; None for another."""
    if not is_export(checkpoint):
        return None
    return asked or usual_backend(read_export(checkpoint))


def _settings(args: argparse.Namespace, config: Optional[TrainConfig],
              checkpoint: Optional[Path]) -> tuple[str, Any]:
    default = None
    if config is not None:
        _check_network(config, checkpoint, args.config)
        default = 'of its config', inference_settings(config)
    return chosen_settings(args, default, checkpoint, **read_changes(args.set))


def _check_network(config: TrainConfig, checkpoint: Optional[Path], path: Path) -> None:
    """AdaptisError if a checkpoint is of another network than the config, and so of another row."""
    found = read_sidecar(checkpoint).get('model')
    name = config.model['name']
    if checkpoint and checkpoint.is_file() and found is None and (
            family_of(checkpoint) is not find_family(name)):
        raise AdaptisError(f'{checkpoint.with_suffix(".json")} must lie beside {checkpoint} and '
                           f'say which network that is, as {path} is about {name}.')
    defaults = find_family(name).expand_options({'name': name})
    keys = (*_OF_A_NETWORK, *defaults)
    mismatch = (isinstance(found, dict) and 'name' in found
                and find_mismatch(config.model, found, keys))
    if mismatch:
        key, asked, there = mismatch
        raise AdaptisError(f'{checkpoint} holds a network with {key} {there}, but {path} is about '
                           f'one with {asked}.')


def _check_classes(checkpoint: Optional[Path], taxonomy: Taxonomy, source: Source) -> None:
    """AdaptisError if a checkpoint says that its classes are others than those of the images."""
    info = read_sidecar(checkpoint)
    if 'taxonomy' not in info:
        return
    theirs = find_taxonomy(info, len(taxonomy), taxonomy.num_stuff, checkpoint)
    for number, (mine, there) in enumerate(zip(taxonomy.categories, theirs.categories)):
        if (mine.id, mine.name, mine.isthing) != (there.id, there.name, there.isthing):
            raise AdaptisError(f'{checkpoint} was trained for other classes than {source.root} '
                               f'has: class {number} is "{there.name}" ({there.id}) to it, but '
                               f'"{mine.name}" ({mine.id}) there.')


def _label(args: argparse.Namespace, source: Source) -> str:
    if args.config is not None:
        return '_'.join([run_name(args.config), *([args.split] if args.split else [])])
    network = args.checkpoint.absolute().stem if args.checkpoint else 'shipped'
    if args.image:
        return f'{network}_{args.image.stem}'
    return '_'.join([network, *([args.dataset] if args.dataset else []), source.split])


def _row(args: argparse.Namespace, config: Optional[TrainConfig]) -> dict[str, Any]:
    # A config's row is about the split that it names, not about another one.
    own = config is not None and args.split in (None, config.data.val_split)
    row = row_of(config) if own else {}
    if args.row is not None:
        row = {'table': args.row[0], 'row': args.row[1]}
    reduced = row.get('reduced', False) or args.reduced or args.limit is not None
    return {**row, 'reduced': reduced}
