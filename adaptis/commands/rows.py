"""Configs as rows of published tables: how their runs are named, and how a row is measured."""
from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Optional

from adaptis.config import TrainConfig, load_config
from adaptis.data.datasets import missing_root_message
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import ROOT
from adaptis.evaluation.table_formats import format_row
from adaptis.evaluation.tables import Row, Table, find_table, load_tables

PUBLISHED = 'published'
"""The folder with the published numbers in ``experiments``."""
IN_A_WHEEL = Path(__file__).resolve().parents[1] / '_experiments'
"""Configs and published numbers, where ``setup.py`` puts them into a wheel."""
EVALUATIONS = Path('evaluations')
"""Where ``adaptis evaluate`` writes records by default."""
RUNS = Path('runs')
"""Where ``adaptis train`` writes runs by default."""


def experiments() -> Path:
    """The folder ``experiments`` of the working directory, else of the wheel or the source tree."""
    here = Path('experiments')
    if (here / PUBLISHED).is_dir():
        return here
    return IN_A_WHEEL if IN_A_WHEEL.is_dir() else ROOT / 'experiments'


def config_path(text: str) -> Path:
    """The config that a command names; one in ``experiments/`` may come from the wheel.

    ``experiments/coco/r50.yaml``, ``coco/r50``, ``coco_r50`` and ``toy_v1_cpu`` work in any working
    directory.  An existing file of that name takes precedence.
    """
    path, folder = Path(text), experiments()
    if path.is_file():
        return path
    if path.parts[:1] == ('experiments',):
        path = Path(*path.parts[1:])
    names = {name: file for file in sorted(folder.rglob('*.yaml'), reverse=True)
             if PUBLISHED not in file.parts for name in config_names(file, folder)}
    if str(path) not in names and not path.suffix:
        close = difflib.get_close_matches(text, names, n=1)
        raise AdaptisError(f'There is no config "{text}"' + (
            f': did you mean "{close[0]}"?' if close else ': it is neither a file nor a config in '
                                                          f'{folder}.'))
    return names.get(str(path), Path(text))


def config_names(file: Path, folder: Path) -> set[str]:
    """The short names of a config in the folder ``experiments``: coco/r50.yaml, coco/r50, coco_r50.
    """
    relative = file.relative_to(folder)
    stem = relative.with_suffix('')
    return {str(relative), str(stem), '_'.join(stem.parts)}


def run_name(config: Path) -> str:
    """The name of a config's runs: ``experiments/coco/r50.yaml`` gives ``coco_r50``.

    Outside the folder ``experiments`` it is the file's name.
    """
    path, folder = Path(config).resolve().with_suffix(''), experiments().resolve()
    return '_'.join(path.relative_to(folder).parts) if folder in path.parents else path.name


def published_row(paper: str, table: str, row: str) -> tuple[Table, Row]:
    """A row of the published numbers and its table; AdaptisError if it does not exist."""
    folder = experiments() / PUBLISHED
    file = folder / f'{paper}.yaml'
    found = find_table(load_tables(file if file.is_file() else folder), paper, table)
    return found, found.row(row)


def check_row(config: TrainConfig, path: Path) -> None:
    """AdaptisError, naming the config, if it names a row that does not exist."""
    if config.row is not None:
        try:
            published_row(config.row.paper, config.row.table, config.row.row)
        except AdaptisError as error:
            raise AdaptisError(f'{path} names an unpublished row: '
                               f'{error}') from error


def row_of(config: TrainConfig, limit: Optional[int] = None) -> dict[str, Any]:
    """The arguments of ``make_record`` that say which row a config measures.

    ``limit`` is the number of images if not all were measured, which makes it a reduced run.
    """
    row = {} if config.row is None else dataclasses.asdict(config.row)
    return {**row, 'reduced': row.get('reduced', False) or limit is not None}


def beside_published(record: Mapping[str, Any], missing: Optional[str] = None) -> str:
    """The row that a record names, with the published numbers beside the measured ones.

    ``missing`` says how to measure it if the record has no ``metrics``.
    """
    table, row = published_row(record.get('paper') or 'adaptis', record['table'], record['row'])
    return format_row(table, row.id, [record] if 'metrics' in record else [], missing)


def configs(rows: Iterable[Row], folder: Path) -> dict[str, Path]:
    """The config of each row that has one, by the row's id.

    ``folder`` is the folder ``experiments``, to which configs are relative.
    """
    return {row.id: folder / row.config for row in rows if row.config}


def command(path: Path) -> str:
    """The command that measures the row of a config, given only the data.

    If a config evaluates the network of another config, the text says what must exist before.
    """
    submission, trained = _submission(path), load_config(path).checkpoint
    if submission or not trained:
        return submission or f'adaptis train {shown(path)}'
    return f'adaptis evaluate {shown(path)}, once {trained} exists'


def remarks(paths: Collection[Path]) -> list[str]:
    """Sentences about configs without a run: whose data are missing, and what else helps."""
    if not paths:
        return []
    sentences = []
    for path in paths:
        data = load_config(path).data
        sentences.append(missing_root_message(data.dataset, data.root))
    example = next(iter(paths))
    evaluate = _submission(example) or f'adaptis evaluate {shown(example)}'
    sentences.append(f'With a checkpoint: {evaluate} --checkpoint FILE.params')
    return [s for s in dict.fromkeys(sentences) if s]


def _submission(path: Path) -> Optional[str]:
    """The command for a config with a test split whose ground truth only a server has."""
    data = load_config(path).data
    if data.dataset == 'toy' or data.val_split != 'test':
        return None
    return f'adaptis evaluate {shown(path)} --save DIR'


def shown(path: Path) -> str:
    """A path as you would type it in the working directory."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative
