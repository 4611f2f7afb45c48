"""The logs of trainings: ``log.jsonl`` in the folder of a run, and those kept in this project."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adaptis.errors import AdaptisError

LOGS = Path(__file__).parent / 'logs'
"""Logs of the networks that ship, and of other results."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the records of a log; AdaptisError if it is missing or broken."""
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
        records = [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise AdaptisError(f'{path} is not a log of "adaptis train": {error}.') from error
    if not all(isinstance(record, dict) and 'kind' in record for record in records):
        raise AdaptisError(f'{path} is not a log of "adaptis train": a record has no "kind".')
    return records
