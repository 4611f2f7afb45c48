"""Join the results that the shards of one run saved; the files equal those of a single run."""
from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adaptis.errors import AdaptisError
from adaptis.evaluation.formats import COMPLETE, FOLDERS
from adaptis.evaluation.shards import Shard, check_complete
from adaptis.files import atomic_write, read_json

_NAME = re.compile(r'(\d+)-of-(\d+)')


def shard_folder(folder: Path, shard: Shard) -> Path:
    """Return the folder in which a shard saves its results; with one shard, the folder itself."""
    return folder if shard.count == 1 else folder / f'{shard.index}-of-{shard.count}'


def clear_unfinished(folder: Path) -> None:
    """Remove what a stopped job left in the folder of its shard, so that it can start again."""
    if not (folder / COMPLETE).exists():
        for name in FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)


def join_folders(folders: Sequence[Path], target: Path) -> int:
    """Join the folders of all shards in ``target``; return the number of files.

    The folders can be in any order; their names are those of :func:`shard_folder`.  The lists of
    JSON files are concatenated and other files are copied, except hidden ones, which a killed job
    may have left.

    Raises AdaptisError if a shard is missing or was stopped, or if a file occurs twice.
    """
    parts = [_NAME.fullmatch(folder.resolve().name) for folder in folders]
    for folder, part in zip(folders, parts):
        if part is None or not folder.is_dir():
            raise AdaptisError(f'{folder} is not the folder of a shard: "--shard 1/3 --save DIR" '
                               'writes to DIR/1-of-3, for example.')
        if not (folder / COMPLETE).exists():
            raise AdaptisError(f'{folder} does not contain {COMPLETE}: its shard was stopped or is '
                               'still running; wait, or run it again.')
    check_complete([str(f) for f in folders], [Shard(*map(int, p.groups())) for p in parts])
    documents: dict[Path, Any] = {}
    count = 0
    for folder in folders:
        for path in sorted(p for p in folder.rglob('*') if p.is_file() and p.name[0] != '.'):
            destination = target / path.relative_to(folder)
            if path.suffix == '.json':
                documents[destination] = _joined(documents.get(destination), read_json(path), path)
            else:
                _copy(path, destination)
                count += 1
    for destination, content in documents.items():  # last, because they mark a complete result
        with atomic_write(destination) as temporary:
            temporary.write_text(json.dumps(content), encoding='utf-8')
    return count + len(documents)


def _joined(before: Any, content: Any, path: Path) -> Any:
    if before is None:
        return content
    if isinstance(before, list) and isinstance(content, list):
        return before + content
    if isinstance(before, dict) and isinstance(content, dict) and before.keys() == content.keys():
        return {key: before[key] if before[key] == content[key]
                else _joined(before[key], content[key], path) for key in before}
    raise AdaptisError(f'{path} does not match the file of the other shards: save the shards '
                       'again.')


def _copy(path: Path, destination: Path) -> None:
    if destination.exists():
        raise AdaptisError(f'{destination} already exists: choose another folder, or delete it.')
    with atomic_write(destination) as temporary:
        shutil.copyfile(path, temporary)
