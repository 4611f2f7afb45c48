"""The list of categories of a COCO file: what is missing is named, and colours are chosen."""
from __future__ import annotations

import re
from typing import Any

import pytest

from adaptis.categories import fill_colors, parse_categories
from adaptis.errors import AdaptisError


def category(**changes: Any) -> dict:
    entry = {'id': 3, 'name': 'car', 'isthing': 1, 'color': [1, 2, 3], **changes}
    return {key: value for key, value in entry.items() if value != 'left out'}


@pytest.mark.parametrize('change, words', [
    ({'isthing': 'left out'}, 'category 3 (car) has no isthing: write 1 for things'),
    ({'isthing': 2}, 'category 3 (car) has the isthing 2'),
    ({'color': '#ff0000'}, "has the color '#ff0000': it must be [red, green, blue]"),
    ({'color': [1, 2, 256]}, 'has the color [1, 2, 256]'),
    ({'name': 7}, 'category 3 has the name 7: it must be text'),
    ({'name': 'left out'}, 'category 3 has no name'),
    ({'id': 'left out'}, 'category number 1 (car) has no id'),
    ({'id': 3.5}, 'category 3.5 (car) has the id 3.5: it must be a whole number'),
])
def test_the_category_and_the_key_are_named(change: dict, words: str) -> None:
    with pytest.raises(AdaptisError, match=re.escape(f'x.json: {words}'.split(': ')[0])) as error:
        parse_categories([category(**change)], 'x.json')
    assert words in str(error.value) and '\n' not in str(error.value)


def test_other_lists_are_named() -> None:
    with pytest.raises(AdaptisError, match="category number 2 of its list is 'car', not an object"):
        parse_categories([category(), 'car'], 'x.json')
    with pytest.raises(AdaptisError, match='x.json lists the id of a category twice'):
        parse_categories([category(), category()], 'x.json')


def test_categories_without_a_colour_get_distinct_ones_that_stay() -> None:
    entries = [category(id=k, color=None if k % 2 else [k, k, k]) for k in range(1, 30)]
    found = parse_categories(entries, 'x.json')
    assert len({c.color for c in found}) == 29 and found[1].color == (2, 2, 2)
    assert found == parse_categories(entries, 'y.json')
    first, = fill_colors([None])
    assert fill_colors([None, first])[0] != first


def test_files_of_instances_need_no_isthing_and_may_know_colours() -> None:
    entries = [category(isthing='left out', color='left out')]
    found, = parse_categories(entries, 'x.json', things_only=True, known={(3, 'car'): (9, 8, 7)})
    assert found.isthing and found.color == (9, 8, 7)
