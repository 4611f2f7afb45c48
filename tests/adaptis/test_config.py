"""Configs: what they hold, and every way to get them wrong."""
from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from adaptis.config import config_from_dict, load_config, override, write_config
from adaptis.errors import AdaptisError
from adaptis.inference.settings import PRESETS
from adaptis.loading import inference_settings

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(p for p in (ROOT / 'experiments').glob('toy_v*.yaml'))

MINIMAL = '''
data: {root: somewhere, augmentation: toy_v1}
model: {name: adaptis_toy, width: 8}
instances:
  steps: 10
  batch_size: 4
  points: 3
  optimizer: {lr: 5e-4}
'''


def write(tmp_path: Path, text: str, name: str = 'run.yaml') -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_minimal_config_has_defaults_for_the_rest(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    assert config.instances.optimizer.lr == 5e-4  # YAML 1.1 reads 5e-4 as text
    assert config.instances.sampling == 'objects' and config.proposals is None
    assert config.model == {'name': 'adaptis_toy', 'width': 8}


@pytest.mark.parametrize('path', SHIPPED, ids=lambda p: p.stem)
def test_the_shipped_configs_are_valid_and_say_how_to_run_them(path: Path) -> None:
    config = load_config(path)
    head = re.split('\n(?:seed|base):', path.read_text())[0]
    assert f'adaptis train experiments/{path.name}' in head
    assert (config.proposals is None) == (config.joint is not None)   # the ports' one stage
    assert ('REDUCED' in head) == any(word in path.stem for word in ('cpu', 'long', 'wide'))


def test_the_paper_s_configs_hold_the_paper_s_numbers() -> None:
    for name, epochs, images in (('v1', 140, None), ('v1_official', 160, None),
                                 ('v2_official', 160, 10000)):
        config = load_config(ROOT / f'experiments/toy_{name}.yaml')
        stage = config.instances
        assert (config.model['width'], stage.batch_size, stage.points, stage.epochs,
                stage.epoch_images) == (32, 14, 12, epochs, images)
        assert (stage.optimizer.lr, stage.optimizer.final_lr, stage.sampling) == (
            5e-4, 0, 'independent')
        assert (config.proposals.epochs, config.proposals.points, config.proposals.sampling) == (
            10, 32, 'one_object')
        settings = inference_settings(config)
        assert settings.sampling == ('random' if name == 'v1' else 'proposals')
        assert settings.things_threshold == 0.3 and settings.flip == (name != 'v1')


@pytest.mark.parametrize('name', ['toy_v1', 'toy_v1_official', 'toy_v2_official'])
def test_the_paper_s_configs_say_of_every_value_where_it_is_from(name: str) -> None:
    text = (ROOT / f'experiments/{name}.yaml').read_text()
    keys = text[re.search('^(base|seed):', text, re.MULTILINE).start():].splitlines()
    plain = ('base:', 'data:', '  root:', 'row:')
    missing = [line for line in keys if not line.startswith(plain) and not line.endswith(':')
               and not re.search('# (paper|official|choice)', line)]
    assert missing == []


def test_what_is_written_is_read(tmp_path: Path) -> None:
    config = load_config(ROOT / 'experiments/toy_v1_cpu.yaml')
    write_config(config, tmp_path / 'copy.yaml')
    assert load_config(tmp_path / 'copy.yaml') == config


def test_a_base_is_overridden_key_by_key(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL, 'base.yaml')
    config = load_config(write(tmp_path, 'base: base.yaml\ninstances: {points: 9}'))
    assert (config.instances.points, config.instances.batch_size) == (9, 4)


def test_transforms_are_merged_one_by_one(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL.replace('augmentation: toy_v1', 'augmentation: {contrast: {prob: 0.5}, '
                                    'horizontal_flip: {}}'), 'base.yaml')
    config = load_config(write(tmp_path, 'base: base.yaml\ndata: {augmentation: {contrast: null}}'),
                         ['data.augmentation.horizontal_flip.prob=0.25'])
    assert config.data.augmentation == {'contrast': None, 'horizontal_flip': {'prob': 0.25}}
    assert inference_settings(config) == PRESETS['toy_v1']
    write_config(config, tmp_path / 'copy.yaml')
    assert load_config(tmp_path / 'copy.yaml') == config


def test_overrides_come_last(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL), ['instances.optimizer.lr=1', 'seed=3',
                                                    'data.root="a b"'])
    assert (config.instances.optimizer.lr, config.seed, config.data.root) == (1.0, 3, 'a b')


@pytest.mark.parametrize('old, new, words', [
    ('points: 3', 'pionts: 3', r'unknown key instances.pionts \(did you mean points\?\)'),
    ('points: 3', 'points: three', 'instances.points must be of type int, not \'three\''),
    ('points: 3', 'points: true', 'instances.points must be of type int'),
    ('points: 3', 'points: 0', 'instances.points must be at least 1'),
    ('steps: 10', 'steps: 10\n  crop: -64', 'instances.crop must be a side, .*, not -64'),
    ('steps: 10', 'steps: 10\n  crop: 0', 'instances.crop must be a side, .*, not 0'),
    ('steps: 10', 'steps: 10\n  crop: [4]', r'crop must be a side, or .*, not \[4\]'),
    ('steps: 10', 'steps: 10\n  crop: [4, a]', 'instances.crop must be of type int, not \'a\''),
    ('steps: 10', 'steps: 10\n  crop: wide', 'instances.crop must be of type int, not \'wide\''),
    ('steps: 10', 'steps: 10\n  crop: 8\n  scale: [2, 1]', r'scale must be \[low, high\]'),
    ('steps: 10', 'steps: 10\n  crop: 8\n  scale: []', r'scale must be \[low, high\]'),
    ('steps: 10', 'steps: 10\n  scale: [1, 2]', 'instances.scale needs crop'),
    ('steps: 10', 'steps: 10\n  max_side: 64', 'instances.max_side needs crop'),
    ('data:', 'precision: half\ndata:', 'precision must be one of float32, amp, not ha'),
    ('data:', 'gradient_compression: 0\ndata:', 'gradient_compression .* greater than 0, not 0.0'),
    ('data:', 'gradient_compression: 1\nprecision: amp\ndata:', 'compression needs precision flo'),
    ('steps: 10', 'steps: 10\n  background_prob: 1.5', 'the sum of ignore_object_prob and backgr'),
    ('lr: 5e-4', 'lr: 1, milestones: [.5], milestone_epochs: [3]', 'several of milestones'),
    ('lr: 5e-4', 'lr: 1, milestones: [60, 80]', 'are .60.0, 80.0.: they must be fractions'),
    ('lr: 5e-4', 'lr: -1', 'instances.optimizer.lr must be at least 0, not -1'),
    ('lr: 5e-4', 'lr: 1, factor: .nan', 'instances.optimizer.factor must be at least 0, not nan'),
    ('width: 8', '8: 8', 'model has the key 8: keys must be text'),
    ('augmentation: toy_v1', 'version: toy_v1', 'data.version is now called data.augmentation'),
    ('data:', 'row: {table: 2, row: r50}\ndata:', 'row.table must be of type str, not 2'),
    ('lr: 5e-4', 'lr: 1, warmup_steps: -1', 'instances.optimizer.warmup_steps must be at least 0'),
    ('data:', 'seed: -1\ndata:', 'seed must be at least 0, not -1'),
    ('data:', 'evaluation_images: -1\ndata:', 'evaluation_images must be at least 0'),
    ('data:', 'validation: {images: 0}\ndata:', 'validation.images must be at least 1'),
    ('data:', 'checkpoint_minutes: .nan\ndata:', 'checkpoint_minutes must be at least 0'),
    ('  points: 3\n', '', 'the key instances.points is missing'),
    ('instances:', 'joint:', 'the key instances is missing'),
    ('instances:', 'proposals:', 'Only a training that starts from initial_weights'),
    ('instances:', 'joint: {batch_size: 1, steps: 1, optimizer: {lr: 1}}\ninstances:',
     'adaptis_toy has no stage joint; its stages are instances and proposals'),
    ('adaptis_toy', 'mask_rcnn_r50', 'the key joint is missing'),
    ('adaptis_toy', 'yolo', 'There is no network "yolo": names start with adaptis, '),
    ('lr: 5e-4', 'lr: 1, milestones: [.5], milestone_steps: [3]', 'keep only one'),
    ('lr: 5e-4', 'lr: 1, warmup_factor: -1', 'optimizer.warmup_factor must be at least 0'),
    ('steps: 10', 'steps: 10\n  short_side: [4, 5]\n  crop: 4', 'short_side must be a single'),
    ('steps: 10', 'steps: 10\n  crop_first: true\n  crop: 4\n  scale: [1, 2]', 'differ in size'),
    ('steps: 10', 'steps: 10\n  short_side: []\n  crop: 4', 'short_side must be at least 1, or'),
    ('steps: 10', 'steps: 10\n  ema: 1.0', 'instances.ema is the weight of the old average'),
    ('steps: 10', 'steps: 10\n  ema: -.1', 'instances.ema must be at least 0'),
    ('steps: 10', 'steps: 10\n  epoch_images: 0', 'instances.epoch_images must be at least 1'),
    ('lr: 5e-4', 'lr: fast', 'instances.optimizer.lr must be of type float'),
    ('augmentation: toy_v1', 'augmentation: [flip]', 'data.augmentation must be of type str'),
    ('steps: 10', 'steps: 10\n  long_side: [5, 9]', 'instances.long_side needs crop'),
    ('steps: 10', 'steps: 10\n  crop: 8\n  long_side: [9, 5]', r'long_side must be \[low, high'),
    ('steps: 10', 'steps: 10\n  crop: 8\n  long_side: [9]', r'long_side must be \[low, high'),
    ('steps: 10', 'steps: 10\n  crop: 8\n  scale: [1, 2]\n  long_side: [5, 9]', 'replaces sca'),
    ('lr: 5e-4', 'lr: 1, milestones: 3', 'milestones must be of type list'),
    ('lr: 5e-4', 'lr: 1, milestones: [a]', 'milestones must be of type float'),
    ('steps: 10', 'steps: 10\n  epochs: 2', 'needs either steps or epochs'),
    ('  steps: 10\n', '', 'needs either steps or epochs'),
    ('steps: 10', 'steps: 10\n  micro_batch: 3', 'micro_batch must divide batch_size'),
    ('name: adaptis_toy, ', '', 'the key model.name is missing'),
    ('model: {name: adaptis_toy, width: 8}', 'model: big', 'model must be of type dict'),
    ('data: {root: somewhere, augmentation: toy_v1}', 'data: here', 'data must be a mapping'),
    ('steps: 10', 'steps: [', 'is not YAML'),
    ('data:', 'base: missing.yaml\ndata:', 'missing.yaml cannot be read'),
])
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(AdaptisError, match=words) as error:
        load_config(write(tmp_path, MINIMAL.replace(old, new)))
    assert '.yaml' in str(error.value)


def test_a_crop_has_one_side_or_two(tmp_path: Path) -> None:
    for text, size in (('null', None), ('64', (64, 64)), ('[400, 800]', (400, 800))):
        config = load_config(write(tmp_path, MINIMAL), [f'instances.crop={text}'])
        assert config.instances.crop_size == size


def test_what_older_versions_stored_is_understood() -> None:
    stored = Path(__file__).with_name('stored_config.json')
    config = config_from_dict(json.loads(stored.read_text()), str(stored))
    assert config == dataclasses.replace(
        load_config(ROOT / 'experiments' / 'toy_v1_cpu.yaml'), workers=config.workers,
        inference={}, row=None)
    assert config_from_dict(config.to_dict(), 'here') == config


def test_inference_settings_are_a_preset_and_what_differs(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    assert inference_settings(load_config(path)) == PRESETS['toy_v1']
    changed = load_config(path, ['inference.preset=cityscapes', 'inference.min_area=3'])
    assert inference_settings(changed) == PRESETS['cityscapes'].replace(min_area=3)
    city = load_config(path, ['data.dataset=cityscapes', 'data.augmentation=none'])
    assert inference_settings(city) == PRESETS['cityscapes']
    with pytest.raises(AdaptisError, match='no inference setting \'min_aera\''):
        inference_settings(load_config(path, ['inference.min_aera=3']))


def test_the_proposal_stage_learns_from_points_of_one_object_unless_told_otherwise(
        tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + MINIMAL.partition('model')[2].partition('\n')[2].replace(
        'instances', 'proposals'))
    config = load_config(path)
    assert (config.instances.sampling, config.proposals.sampling) == ('objects', 'one_object')
    assert load_config(path, ['proposals.sampling=objects']).proposals.sampling == 'objects'


def test_only_one_level_of_bases(tmp_path: Path) -> None:
    write(tmp_path, 'base: other.yaml', 'base.yaml')
    with pytest.raises(AdaptisError, match='also has a base'):
        load_config(write(tmp_path, 'base: base.yaml'))


@pytest.mark.parametrize('content', ['', '- a', 'word'])
def test_a_file_without_keys_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(AdaptisError, match='has no keys'):
        load_config(write(tmp_path, content))


@pytest.mark.parametrize('name', ['data 😀', 'Straße', 'a\udcffb', ' a: "b" #c\\d', 'null', 'a\nb',
                                  'x ' * 100, '\x7f\x01'])
def test_any_name_that_a_file_system_holds_can_be_the_root(tmp_path: Path, name: str) -> None:
    config = load_config(write(tmp_path, MINIMAL), [override('data.root', name)])
    assert config.data.root == name
    write_config(config, tmp_path / 'written.yaml')
    assert load_config(tmp_path / 'written.yaml') == config


@pytest.mark.parametrize('text', ['seed', '=3', 'instances..points=3', 'seed=['])
def test_a_malformed_override_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(AdaptisError, match='--set'):
        load_config(write(tmp_path, MINIMAL), [text])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdaptisError, match='nowhere.yaml cannot be read: No such file'):
        load_config(tmp_path / 'nowhere.yaml')


def test_the_proposal_branch_of_a_trained_network_is_trained_alone(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL.replace('instances:', 'proposals:'))
    config = load_config(path, ['initial_weights=toy_v1', 'instances=null'])
    assert [name for name, _ in config.stages()] == ['proposals']


def test_detectors_have_a_stage_of_their_own(tmp_path: Path) -> None:
    text = MINIMAL.replace('adaptis_toy', 'mask_rcnn_r18').replace('instances:', 'joint:')
    with pytest.raises(AdaptisError, match='mask_rcnn_r18 is not trained with points'):
        load_config(write(tmp_path, text))
    config = load_config(write(tmp_path, text.replace('  points: 3\n', '')),
                         ['joint.short_side=[48, 64]', 'joint.max_side=99'])
    assert [name for name, _ in config.stages()] == ['joint'] and config.instances is None
    assert inference_settings(config).short_side == 384  # of the toy data, upsampled fourfold
    with pytest.raises(AdaptisError, match="no inference setting 'flip'"):
        inference_settings(dataclasses.replace(config, inference={'flip': True}))


@pytest.mark.parametrize('name, changes, fixed', [
    ('cityscapes/r50', [], True), ('toy_v1', [], False), ('toy_v1_long', [], False),
    ('condinst/cityscapes_r50', [], False),
    ('cityscapes/r50', ['proposals.full_size_steps=5'], False)])
def test_only_crops_for_points_have_the_same_sizes_in_every_step(name, changes, fixed):
    path = Path(__file__).resolve().parents[2] / 'experiments' / f'{name}.yaml'
    assert load_config(path, changes).has_fixed_sizes() is fixed
