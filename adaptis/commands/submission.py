"""What the shards of one run saved, put together as one run would have saved it."""
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
    """Where a shard saves; the folder itself if there is only one."""
    return folder if shard.count == 1 else folder / f'{shard.index}-of-{shard.count}'


def clear_unfinished(folder: Path) -> None:
    """Remove what a job that was stopped left in the folder of its shard, to start it again."""
    if not (folder / COMPLETE).exists():
        for name in FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)


def join_folders(folders: Sequence[Path], target: Path) -> int:
    """Join what :func:`shard_folder` names, in any order, to ``target``; the number of files.

    Lists of equal JSON files are strung together, other files are copied, but for hidden ones,
    which a job that was killed may have left.

    Raises AdaptisError if a shard is missing or was stopped, or a file is there twice.
    """
    parts = [_NAME.fullmatch(folder.resolve().name) for folder in folders]
    for folder, part in zip(folders, parts):
        if part is None or not folder.is_dir():
            raise AdaptisError(f'{folder} is no folder of a shard, which "--shard 1/3 --save DIR" '
                               'would call DIR/1-of-3.')
        if not (folder / COMPLETE).exists():
            raise AdaptisError(f'{folder} holds no {COMPLETE}: its shard was stopped or goes on; '
                               'run it again.')
    check_complete([str(f) for f in folders], [Shard(*map(int, p.groups())) for p in parts])
    documents: dict[Path, Any] = {}
    count = 0
    for folder in folders:
        for path in sorted(p for p in folder.rglob('*') if p.is_file() and p.name[0] != '.'):
            place = target / path.relative_to(folder)
            if path.suffix == '.json':
                documents[place] = _joined(documents.get(place), read_json(path), path)
            else:
                _copy(path, place)
                count += 1
    for place, content in documents.items():  # last: their presence says that all is there
        with atomic_write(place) as temporary:
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
    raise AdaptisError(f'{path} does not fit to that of the other shards: save them again.')


def _copy(path: Path, place: Path) -> None:
    if place.exists():
        raise AdaptisError(f'{place} exists already: choose another folder, or delete it.')
    with atomic_write(place) as temporary:
        shutil.copyfile(path, temporary)
