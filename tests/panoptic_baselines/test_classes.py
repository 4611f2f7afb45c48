from __future__ import annotations

import json

import numpy as np

from adaptis.types import Category, Taxonomy
from panoptic_baselines.classes import (
    class_index_to_semantic,
    class_index_to_thing,
    semantic_to_class_index,
    thing_to_class_index,
)

TAXONOMY = Taxonomy([Category(1, 'a', True), Category(2, 'b', False), Category(3, 'c', True)])


def test_coco_has_the_official_numbers(kit, coco):
    ids = json.loads((kit / 'ops' / 'coco_ids.json').read_text())
    things = thing_to_class_index(np.arange(80), coco)
    assert [coco.categories[i].id for i in things] == ids['thing_class_to_coco_id']
    stuff = semantic_to_class_index(np.arange(1, 54), True)
    assert [coco.categories[i].id for i in stuff] == ids['stuff_label_to_coco_id'][1:]


def test_there_and_back():
    indices = thing_to_class_index(np.array([0, 1]), TAXONOMY)
    np.testing.assert_array_equal(class_index_to_thing(indices, TAXONOMY), [0, 1])
    classes = np.array([[-1, 0, 1, 2]], np.int32)   # none, b, a, c
    merged = class_index_to_semantic(classes, TAXONOMY, merge_things=True)
    assert merged.tolist() == [[-1, 1, 0, 0]] and merged.dtype == np.int32
    assert semantic_to_class_index(merged[:, 1:], True).tolist() == [[0, -1, -1]]
    separate = class_index_to_semantic(classes, TAXONOMY, merge_things=False)
    np.testing.assert_array_equal(semantic_to_class_index(separate, False), classes)
