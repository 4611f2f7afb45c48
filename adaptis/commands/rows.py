"""Configs as rows of published tables: what their runs are called, and how a row is measured."""
from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Optional

from adaptis.config import TrainConfig, load_config
from adaptis.data.datasets import missing
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import ROOT
from adaptis.evaluation.tables import Row, Table, find_table, format_row, load_tables

PUBLISHED = 'published.yaml'
EVALUATIONS = Path('evaluations')
"""Where records go unless ``--out`` says otherwise."""


def experiments() -> Path:
    """The folder ``experiments`` of the working directory, else that of the source tree."""
    here = Path('experiments')
    return here if (here / PUBLISHED).is_file() else ROOT / 'experiments'


def run_name(config: Path) -> str:
    """What runs of a config are called: ``experiments/coco/r50.yaml`` gives ``coco_r50``.

    Outside the folder ``experiments`` it is the name of the file.
    """
    path, folder = Path(config).resolve().with_suffix(''), experiments().resolve()
    return '_'.join(path.relative_to(folder).parts) if folder in path.parents else path.name


def published_row(paper: str, table: str, row: str) -> tuple[Table, Row]:
    """A row of the published numbers and its table; AdaptisError if there is none."""
    found = find_table(load_tables(experiments() / PUBLISHED), paper, table)
    return found, found.row(row)


def check_row(config: TrainConfig, path: Path) -> None:
    """AdaptisError, naming the config, if it names a row that does not exist."""
    if config.row is not None:
        try:
            published_row(config.row.paper, config.row.table, config.row.row)
        except AdaptisError as error:
            raise AdaptisError(f'{path}: its row is not published: {error}') from error


def row_of(config: TrainConfig) -> dict[str, Any]:
    """The arguments of ``make_record`` that say which row a config measures."""
    row = config.row
    if row is None:
        return {}
    return {'paper': row.paper, 'table': row.table, 'row': row.row, 'reduced': row.reduced}


def beside_published(record: Mapping[str, Any], missing: Optional[str] = None) -> str:
    """The row that a record names, published beside what it measured.

    ``missing`` tells how to measure it if the record has no ``metrics``.
    """
    table, row = published_row(record.get('paper') or 'adaptis', record['table'], record['row'])
    return format_row(table, row.id, [record] if 'metrics' in record else [], missing)


def commands(table: Table, folder: Path) -> dict[str, str]:
    """For the rows of a table that have a config: the command that measures it.

    ``folder`` is that of the published numbers, to which configs are relative.
    """
    return {row.id: _command(folder / row.config) for row in table.rows if row.config}


def remarks(table: Table, folder: Path, row_ids: Iterable[str]) -> list[str]:
    """Sentences below a table about rows without a run: what data are missing, and the rest."""
    paths = [folder / table.row(i).config for i in row_ids if table.row(i).config]
    if not paths:
        return []
    sentences = []
    for path in paths:
        data = load_config(path).data
        sentences.append(missing(data.dataset, data.root))
    example = _shown(paths[0])
    sentences.append(f'With a checkpoint: adaptis evaluate {example} --checkpoint FILE.params')
    return [s for s in dict.fromkeys(sentences) if s]


def _command(path: Path) -> str:
    data = load_config(path).data
    if data.dataset != 'toy' and data.val_split == 'test':  # a server has the ground truth
        return f'adaptis evaluate {_shown(path)} --save DIR'
    return f'adaptis train {_shown(path)}'


def _shown(path: Path) -> str:
    """A path as one would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative
