"""The median of several training runs, as Panoptic FPN reports Cityscapes (section 4.1)."""
from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Optional

from adaptis.errors import AdaptisError

_SAME = {'paper': 'adaptis', 'table': None, 'row': None, 'reduced': False}
"""What the records must have in common, and the default for a missing value."""


def median_metrics(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metrics of several training runs; each number is the median over the runs.

    Raises AdaptisError for fewer than two records, the same weights twice, or different rows.
    """
    if len(records) < 2:
        raise AdaptisError('A median needs the records of at least two training runs.')
    first, seen = records[0], {}
    for record in records:
        for key, default in _SAME.items():
            one, other = (r.get(key) or default for r in (first, record))
            if one != other:
                raise AdaptisError(f'{first["file"]} and {record["file"]} are not runs of the same '
                                   f'row: their {key} is {one} and {other}.')
        if record['metrics'].get('images') != first['metrics'].get('images'):
            raise AdaptisError(f'{first["file"]} and {record["file"]} were measured on different '
                               'numbers of images.')
        if _inference(record) != _inference(first):
            raise AdaptisError(f'{first["file"]} and {record["file"]} were measured with different '
                               'inference settings.')
        digest = _checkpoint(record)
        if digest in seen:
            raise AdaptisError(f'{seen[digest]} and {record["file"]} measure the same weights: '
                               'give records of different training runs.')
        if digest is not None:
            seen[digest] = record['file']
    metrics: dict[str, Any] = _median([record['metrics'] for record in records])
    return metrics


def _checkpoint(record: Mapping[str, Any]) -> Optional[str]:
    """Return the digest of the weights that a record measures, if it says so."""
    checkpoint = (record.get('settings') or {}).get('checkpoint')
    return checkpoint.get('sha256') if isinstance(checkpoint, Mapping) else None


def _inference(record: Mapping[str, Any]) -> Any:
    return (record.get('settings') or {}).get('inference')


def _median(values: Sequence[Any]) -> Any:
    """Return the median of numbers, and of dictionaries key by key.

    Values that some runs lack, or that are not numbers, become None.
    """
    if all(isinstance(value, Mapping) for value in values):
        shared = [key for key in values[0] if all(key in value for value in values)]
        return {key: _median([value[key] for value in values]) for key in shared}
    if all(value == values[0] for value in values):
        return values[0]   # a count stays an integer
    if all(isinstance(value, Real) and not isinstance(value, bool) for value in values):
        return statistics.median(values)
    return None
