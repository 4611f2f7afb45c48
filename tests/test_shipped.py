"""The networks that ship exist, are small, and are about as good as the README says."""
from __future__ import annotations

import shutil

from adaptis.evaluation.run import Evaluator
from adaptis.loading import default_settings, load_predictor
from adaptis.model.zoo import load_model, read_info
from adaptis.types import TOY_TAXONOMY, Sample
from adaptis.weights import PRETRAINED, weights_file
from toy_data import ToySettings, render


def measure(checkpoint, version, count):
    """Metrics of a network on its first new images."""
    predictor, evaluator = load_predictor(checkpoint), Evaluator(TOY_TAXONOMY)
    for index in range(count):
        image, ids = render(ToySettings.default(version, seed=11), 'test', index)
        ids = ids.astype('int32')
        sample = Sample(image=image, instances=ids, semantic=(ids > 0).astype('int32'),
                        classes={int(i): 1 for i in set(ids.ravel()) if i})
        evaluator.add_sample(index, sample, predictor.set_image(image).panoptic())
    return evaluator.result()


def test_it_is_small_and_says_where_it_comes_from():
    path = PRETRAINED['toy_v1']
    assert path.stat().st_size < 5_000_000
    info = read_info(path)
    assert info['config']['initial_weights'] == 'toy_v1'   # it was trained on
    assert info['trained']['log'] == 'experiments/logs/toy_v1_long_3.jsonl'
    assert load_model('toy_v1').has_proposals


def test_the_network_of_toy_v2_has_a_name_and_knows_its_images():
    metrics = measure('toy_v2', 'v2', 1)
    assert metrics['ap']['ap50'] > 0.6   # 0.84 on 40 images
    assert default_settings(PRETRAINED['toy_v2'])[1].mask_threshold == 0.5


def test_the_network_of_the_papers_width_is_better():
    assert read_info(weights_file('toy_v1_wide'))['model']['width'] == 32
    assert default_settings(weights_file('toy_v1_wide'))[1].mask_threshold == 0.45
    assert measure('toy_v1_wide', 'v1', 2)['ap']['ap90'] > 0.5   # 0.71 on the whole test set


def test_a_copy_of_it_is_used_with_the_same_settings(tmp_path):
    for path in (PRETRAINED['toy_v1'], PRETRAINED['toy_v1'].with_suffix('.json')):
        shutil.copy(path, tmp_path)
    assert default_settings(tmp_path / 'toy_v1.params')[1] == default_settings(None)[1]


def test_it_finds_the_objects_of_new_images():
    metrics = measure(None, 'v1', 4)
    assert metrics['ap']['ap50'] > 0.7           # 0.93 on the whole test set
    assert metrics['pq']['Things']['pq'] > 0.65  # 0.84
    assert metrics['pq']['Stuff']['pq'] > 0.95   # 0.995
