"""Prefixes that training programs add to the names of all parameters.

(Distributed)DataParallel writes ``module.``, PyTorch Lightning writes ``model.`` or the name of the
attribute, and ``torch.compile`` writes ``_orig_mod.``.  Averaged weights have names like ``ema.``.
"""
from __future__ import annotations

from collections.abc import Iterable

WRAPPERS = ('module', 'model', '_orig_mod', 'network', 'net', 'state_dict', 'detector', 'segmentor',
            'ema_model', 'model_ema', 'ema', 'averaged_model')
"""Wrappers, even if other parameters are stored beside them; averaged weights come last."""

_MOST = 4
"""Maximum number of nested wrappers."""


def wrapper_prefixes(names: Iterable[str]) -> list[str]:
    """Return the prefixes that may be stripped, the shortest first; '' is one of them.

    The part of a name before the first dot is a prefix if all names share it, or if it is one of
    ``WRAPPERS``.  The same rule applies to the part that follows.
    """
    found, level = [''], {'': list(names)}
    for _ in range(_MOST):
        level = {prefix + part + '.': inner for prefix, rest in level.items()
                 for part, inner in _parts(rest).items()}
        found += level
    return found


def without_prefix(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Return ``{name without prefix: name}`` for the names that have it."""
    return {name[len(prefix):]: name for name in names if name.startswith(prefix)}


def _parts(names: list[str]) -> dict[str, list[str]]:
    """Return each prefix that may be stripped, with the rest of the names that begin with it."""
    groups: dict[str, list[str]] = {}
    for name in names:
        first, dot, rest = name.partition('.')
        if dot:
            groups.setdefault(first, []).append(rest)
    shared = [first for first, rests in groups.items() if len(rests) == len(names)]
    known = [first for first in WRAPPERS if first in groups]
    return {first: groups[first] for first in [*shared, *known]}
