"""Comparisons: variants of one computation that are timed in turns, one row of the complete run.

A module in this folder with a tuple ``COMPARISONS`` takes part in the run without a subject.
"""
from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Union

from adaptis.errors import AdaptisError
from experiments.benchmarks.busy import Window

Form = Callable[[], Any]

OFFICIAL = 'official'
"""The name of the variant that is an official program."""
ROUNDS, SECONDS = {True: 3, False: 7}, {True: 4.0, False: 60.0}
"""Minimum number of rounds, and seconds after which no round starts, of a quick and a full run."""
MOST_ROUNDS = 15


class Spent(NamedTuple):
    """Wall-clock seconds and CPU seconds of a call."""

    clock: float
    cpu: float


class Setting(NamedTuple):
    """What the variants are built for.

    Attributes
    ----------
    quick : whether to use smaller sizes
    official : the running official program (``experiments.benchmarks.official.Program``), if the
        comparison names one and the user has it; our variants then use its weights and inputs
    """

    quick: bool
    official: Optional[Any] = None


class Official(NamedTuple):
    """The official program that does the same (its name in ``official/worker.py``).

    ``inputs`` is a module-level function that returns the arrays that the program reads, for a
    quick or a full run.  It may write files to the folder that it gets.
    """

    program: str
    inputs: Callable[[bool, Path], Mapping[str, Any]]


class Comparison(NamedTuple):
    """One comparison.

    Attributes
    ----------
    name : name of the row
    config : the network, its weights and the sizes, in words; for a quick (True) and a full run
    forms : a module-level function that returns the variants by name for a ``Setting`` (loads
        MXNet); an AdaptisError instead of a variant says why it is missing
    against : the variant that ratios refer to
    official : the program of the authors that does the same, if there is one
    seed : seed of weights and inputs
    """

    name: str
    config: Mapping[bool, str]
    forms: Callable[[Setting], Mapping[str, Union[Form, AdaptisError]]]
    against: str
    official: Optional[Official] = None
    seed: int = 0


def build(comparison: Comparison,
          setting: Setting) -> tuple[dict[str, Form], dict[str, str]]:
    """Return the variants of a comparison, and a sentence for each missing one."""
    found = comparison.forms(setting)
    left_out = {name: str(form) for name, form in found.items() if isinstance(form, AdaptisError)}
    return {name: form for name, form in found.items() if callable(form)}, left_out


def measure(comparison: Comparison, setting: Setting) -> dict[str, Any]:
    """Time the variants of a comparison in turns.

    Returns the result of ``summary``, how 'busy' the machine was, and the variants 'left out'.
    """
    forms, left_out = build(comparison, setting)
    if setting.official is not None:
        forms[OFFICIAL] = setting.official
    for form in forms.values():   # builds graphs and loads libraries
        _spend(form)
    window = Window()
    spent: dict[str, list[Spent]] = {name: [] for name in forms}
    least, patience = ROUNDS[setting.quick], SECONDS[setting.quick]
    began, rounds = time.perf_counter(), 0
    while rounds < least or (rounds < MOST_ROUNDS and time.perf_counter() - began < patience):
        for name in _in_turn(list(forms), rounds):
            spent[name].append(_spend(forms[name]))
        rounds += 1
    against = OFFICIAL if OFFICIAL in forms else comparison.against
    clock, cpu = (sum(part) for part in zip(*(each for times in spent.values() for each in times)))
    return {**summary(spent, against), 'busy': window.close(cpu, clock),
            'left out': left_out}


def summary(spent: Mapping[str, list[Spent]], against: str) -> dict[str, Any]:
    """Return medians of each variant, and medians of its ratio to ``against`` in the same round.

    A ratio of 2 means half the time.  Raises AdaptisError if there is no variant ``against``.
    """
    if against not in spent:
        raise AdaptisError(f'There is no variant "{against}" to compare with: choose one of '
                           f'{", ".join(spent)}.')
    forms = {}
    for name, times in spent.items():
        ratios = {kind: [getattr(a, kind) / getattr(b, kind)
                         for a, b in zip(spent[against], times) if getattr(b, kind) > 0]
                  for kind in Spent._fields}
        clocks = [each.clock for each in times]
        forms[name] = {
            'clock, s': statistics.median(clocks), 'fastest, s': min(clocks),
            'slowest, s': max(clocks), 'CPU, s': statistics.median(each.cpu for each in times),
            **{f'times as fast, {kind}': statistics.median(values) if values else None
               for kind, values in ratios.items()}}
    return {'forms': forms, 'against': against, 'rounds': len(spent[against])}


def _in_turn(names: list[str], turn: int) -> list[str]:
    """Yield the variants of each round; every variant is first equally often."""
    first = turn % len(names)
    return names[first:] + names[:first]


def _spend(form: Form) -> Spent:
    """Call a variant and return its time; one in another process reports its own time."""
    from adaptis.runtime import mx  # loads MXNet
    began = time.perf_counter(), time.process_time()
    result = form()
    mx.nd.waitall()
    if isinstance(result, Spent):
        return result
    return Spent(time.perf_counter() - began[0], time.process_time() - began[1])
