from __future__ import annotations

import json

import pytest

from adaptis.config import load_config
from adaptis.data.cityscapes import CITYSCAPES_TAXONOMY
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import ROOT
from adaptis.inference.settings import PRESETS
from adaptis.inference.sidecar import find_taxonomy, read_sidecar, taxonomy_to_list
from adaptis.loading import default_settings
from adaptis.types import TOY_TAXONOMY


def checkpoint(folder, **info):
    (folder / 'net.json').write_text(json.dumps(info))
    return folder / 'net.params'


def test_a_taxonomy_survives_json(tmp_path):
    path = checkpoint(tmp_path, taxonomy=taxonomy_to_list(CITYSCAPES_TAXONOMY))
    taxonomy = find_taxonomy(read_sidecar(path), 19, 11)
    assert taxonomy.categories == CITYSCAPES_TAXONOMY.categories


def test_classes_of_networks_that_do_not_say():
    assert find_taxonomy({}, 2, 1) is TOY_TAXONOMY
    assert find_taxonomy({}, 19, 11) is CITYSCAPES_TAXONOMY
    assert find_taxonomy({}, 133, 53).categories[0].isthing is False
    nameless = find_taxonomy({}, 5, 2)
    assert (len(nameless), nameless.num_stuff) == (5, 2)
    assert len({c.color for c in nameless.categories}) == 5


@pytest.mark.parametrize('taxonomy', [3, [3], [{'id': 1}], [{'id': 1, 'name': 'a', 'isthing': 1,
                                                             'color': None}]])
def test_a_list_that_is_no_taxonomy(taxonomy):
    with pytest.raises(AdaptisError, match='net.params: its "taxonomy"'):
        find_taxonomy({'taxonomy': taxonomy}, 1, 0, 'net.params')


def test_settings_of_a_checkpoint(tmp_path):
    assert default_settings(None) == default_settings('toy_v1') == (
        'toy_v1_cpu', PRESETS['toy_v1_cpu'])
    assert default_settings(tmp_path / 'absent.params') == ('toy_v1', PRESETS['toy_v1'])
    city = checkpoint(tmp_path, model={'name': 'adaptis_deeplab'})
    assert default_settings(city) == ('cityscapes', PRESETS['cityscapes'])
    coco = checkpoint(tmp_path, model={'name': 'adaptis_deeplab', 'num_classes': 133})
    assert default_settings(coco) == ('coco', PRESETS['coco'])
    coco = checkpoint(tmp_path, model={'name': 'adaptis_deeplab'}, dataset='coco')
    assert default_settings(coco) == ('coco', PRESETS['coco'])


def test_settings_are_those_of_the_training_config(tmp_path):
    config = load_config(ROOT / 'experiments' / 'toy_v2.yaml', ['inference={min_area: 33}'])
    path = checkpoint(tmp_path, model={'name': 'adaptis_toy'}, config=config.to_dict())
    assert default_settings(path)[1] == PRESETS['toy_v2'].replace(min_area=33)


def test_a_broken_sidecar_is_left_to_whoever_loads_the_parameters(tmp_path):
    (tmp_path / 'net.json').write_text('{')
    assert read_sidecar(tmp_path / 'net.params') == {}
    assert read_sidecar(None) == {}
