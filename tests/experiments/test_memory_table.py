"""The table of the recipes' memory in the documentation."""
from __future__ import annotations

import json
from pathlib import Path

from experiments import memory_table
from experiments.memory_table import BEGIN, END, LOG, PAGE, RECIPES, ROOT, render

GIB = 2 ** 30


def peak(stage: str, micro_batch: int, gib: float, fits: list, possible: bool = True) -> dict:
    return {'stage': stage, 'micro_batch': micro_batch, 'peak': gib * GIB, 'possible': possible,
            'fits': fits}


def test_a_row_proposes_the_largest_micro_batch_that_fits():
    row = {'recipe': 'a', 'size': [8, 9], 'several': [peak('joint', 16, 5, [12])],
           'one': [peak('joint', 16, 0, [], False), peak('joint', 8, 30, [48, 80]),
                   peak('joint', 4, 15, [24, 48, 80])]}
    assert render([row]).splitlines()[-1] == (
        '| `a` | joint | 8x9 | 16 | impossible | 5.0 | - | 4 | 8 | 8 |')


def test_the_page_shows_the_log():
    rows = json.loads(LOG.read_text(encoding='utf-8'))
    shown = PAGE.read_text(encoding='utf-8').split(BEGIN)[1].split(END)[0].strip()
    assert shown == render(rows)
    assert [row['recipe'] for row in rows] == [recipe for recipe, _ in RECIPES]
    assert all((ROOT / 'experiments' / f'{recipe}.yaml').is_file() for recipe, _ in RECIPES)
    assert Path(memory_table.__file__).parent == LOG.parents[1]
