"""``adaptis evaluate CONFIG`` on miniatures of the real data sets, with a small random network."""
from __future__ import annotations

import json
from pathlib import Path
from shutil import copy

import pytest
import yaml

from adaptis import cli
from adaptis.data.datasets import open_dataset
from adaptis.evaluation.record import ROOT
from adaptis.inference.sidecar import taxonomy_to_list
from adaptis.model import get_model, load_model, save_model
from adaptis.runtime import mx
from tests.miniatures import write_cityscapes, write_coco, write_vistas

CLASSES = {'cityscapes': (19, 11), 'coco': (6, 3), 'vistas': (6, 3)}
WRITERS = {'cityscapes': write_cityscapes, 'coco': write_coco, 'vistas': write_vistas}
OPTIMIZER = {'lr': 0.1}
STAGE = {'steps': 1, 'batch_size': 1, 'points': 1, 'optimizer': OPTIMIZER}


class Place:
    """A folder with a data set, a network for it, and their config."""

    def __init__(self, folder: Path, dataset: str):
        self.folder, self.dataset = folder, dataset
        self.root = folder / 'data'
        self.checkpoint = folder / 'net.params'
        self.config = folder / 'mine.yaml'
        WRITERS[dataset](self.root, splits=('val', 'test'), images=4, size=(48, 64))
        self.data = {'dataset': dataset, 'root': str(self.root), 'augmentation': 'none',
                     'val_split': 'val'}
        classes, stuff = CLASSES[dataset]
        self.model = {'name': 'adaptis_toy', 'width': 4, 'num_classes': classes,
                      'num_stuff': stuff}
        mx.random.seed(1)
        net = get_model(**self.model)
        net.initialize(mx.init.Xavier(magnitude=9))
        save_model(net, self.checkpoint)
        self.write()

    def write(self, **changes):
        """The config, with keys replaced; None leaves one out."""
        content = {
            'data': self.data,
            'model': self.model, 'instances': STAGE, 'checkpoint': str(self.checkpoint),
            'inference': {'preset': self.dataset, 'mask_threshold': 0.2, 'things_threshold': 0.01,
                          'proposal_threshold': 0.01, 'max_candidates': 4, 'flip': False,
                          'short_side': 32},
            **changes}
        self.config.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))

    def evaluate(self, *arguments):
        """Run the command in this folder; its status."""
        return cli.main(['evaluate', str(self.config), *arguments])

    def record(self, name='evaluations/mine.json'):
        """A record that the command wrote."""
        return json.loads((self.folder / name).read_text())


@pytest.fixture(scope='module')
def places(tmp_path_factory):
    made = {}

    def get(dataset):
        if dataset not in made:
            made[dataset] = Place(tmp_path_factory.mktemp(dataset), dataset)
        return made[dataset]
    return get


@pytest.fixture
def city(places, monkeypatch):
    place = places('cityscapes')
    place.write()
    monkeypatch.chdir(place.folder)
    return place


@pytest.fixture(scope='module')
def whole(places):
    """The record of all images in one piece."""
    place = places('cityscapes')
    place.write()
    assert place.evaluate('--out', str(place.folder / 'whole.json')) == 0
    return place.record('whole.json')


def test_published_is_printed_beside_measured(city, capsys):
    city.write(row={'table': '2', 'row': 'r50'})
    assert city.evaluate('--limit', '2') == 0
    shown = capsys.readouterr().out
    assert 'AdaptIS, Table 2: Panoptic' in shown
    published, measured = [line for line in shown.splitlines()
                           if 'published  ' in line or 'measured  ' in line]
    assert '59.0' in published and 'mine, reduced, point proposals, 2 images' in measured
    record = city.record()
    assert (record['paper'], record['table'], record['row']) == ('adaptis', '2', 'r50')
    assert record['reduced'] and record['metrics']['images'] == 2
    assert {'ap_by_class', 'ap_cityscapes', 'miou'} <= set(record['metrics'])
    facts = record['settings']
    assert facts['dataset'] == 'cityscapes' and facts['split'] == 'val'
    assert facts['inference']['short_side'] == 32 and not facts['inference']['flip']


def test_something_is_found(whole):
    assert whole['metrics']['images'] == 4
    objects = whole['metrics']['objects']
    assert objects['found'] + objects['false'] > 0 and objects['missed'] > 0


def test_merged_shards_are_exactly_the_whole(city, whole, capsys):
    for shard in ('2/3', '1/3', '3/3'):
        assert city.evaluate('--shard', shard) == 0
    assert city.evaluate('--shard', '2/3') == 0  # started again, it has nothing to do
    shown = capsys.readouterr().out
    assert shown.count('Wrote evaluations/mine-') == 3
    assert 'mine-2-of-3.npz already holds shard 2/3' in shown
    files = [f'evaluations/mine-{k}-of-3.npz' for k in (3, 1, 2)]
    assert cli.main(['evaluate', '--merge', *files, '--out', 'merged.json']) == 0
    merged = city.record('merged.json')
    assert merged['metrics'] == whole['metrics']
    assert merged['settings'].pop('shards') == 3
    for key in ('processes', 'seconds_per_image'):
        del whole['settings'][key]
    assert merged['settings'] == whole['settings']
    assert [merged[k] for k in ('label', 'table', 'reduced')] == ['mine', None, False]


def test_shards_that_do_not_belong_together(city, capsys):
    for shard, more in (('1/2', []), ('2/2', ['--set', 'max_candidates=3'])):
        assert city.evaluate('--shard', shard, '--out', f'{shard[0]}.npz', *more) == 0
    assert cli.main(['evaluate', '--merge', '1.npz']) == 1
    assert cli.main(['evaluate', '--merge', '1.npz', '2.npz']) == 1
    incomplete, other = [line for line in capsys.readouterr().err.splitlines()
                         if line.startswith('adaptis evaluate: ')]
    assert '2/2' in incomplete and 'max_candidates' in other


def test_a_broken_shard_is_measured_again(city, capsys):
    Path('1.npz').write_bytes(b'PK half of it')
    assert cli.main(['evaluate', '--merge', '1.npz']) == 1
    assert city.evaluate('--shard', '1/4', '--out', '1.npz') == 0
    assert 'Wrote 1.npz' in capsys.readouterr().out


def test_more_shards_than_images(city):
    assert city.evaluate('--shard', '2/2', '--limit', '1', '--out', 'empty.npz') == 0
    assert city.evaluate('--shard', '1/2', '--limit', '1', '--out', 'one.npz') == 0
    assert cli.main(['evaluate', '--merge', 'one.npz', 'empty.npz', '--out', 'one.json']) == 0
    assert city.record('one.json')['metrics']['images'] == 1


def test_two_processes_measure_what_one_does(city, whole):
    assert city.evaluate('--processes', '2', '--out', 'two.json') == 0
    assert city.record('two.json')['metrics'] == whole['metrics']


@pytest.mark.parametrize('dataset', sorted(WRITERS))
def test_every_data_set_is_measured_and_saved(places, monkeypatch, dataset):
    place = places(dataset)
    place.write()
    monkeypatch.chdir(place.folder)
    assert place.evaluate('--save', f'saved_{dataset}', '--out', 'saved.json') == 0
    assert place.record('saved.json')['metrics']['images'] == 4
    files = [p for p in (place.folder / f'saved_{dataset}').rglob('*') if p.is_file()]
    assert len(files) > 4 and all(p.stat().st_size for p in files)


def test_without_a_config(city, whole):
    options = [f'--set={key}={json.dumps(value)}' for key, value in
               whole['settings']['inference'].items()]
    assert cli.main(['evaluate', '--dataset', 'cityscapes', '--data', str(city.root), '--preset',
                     'cityscapes', '--checkpoint', str(city.checkpoint), *options]) == 0
    assert city.record('evaluations/net_cityscapes_val.json')['metrics'] == whole['metrics']


def test_a_split_without_ground_truth(city, capsys):
    city.write(row={'table': '4', 'row': 'x101'},
               data={**city.data, 'val_split': 'test'})
    assert city.evaluate() == 1
    said = capsys.readouterr().err
    assert 'has no ground truth' in said and '--save DIR' in said
    assert city.evaluate('--save', 'submission', '--label', 'submitted') == 0
    shown = capsys.readouterr().out
    assert 'cityscapes-dataset.com' in shown and 'Vistas test-dev' in shown
    assert 'no run yet: the server measures it' in shown
    assert any(Path('submission').rglob('*.png'))
    assert not Path('evaluations/submitted.json').exists()


def test_another_split_is_not_the_row_of_the_config(city, capsys):
    city.write(row={'table': '4', 'row': 'x101'}, data={**city.data, 'val_split': 'test'})
    assert city.evaluate('--split', 'val', '--limit', '1') == 0
    assert 'Table 4' not in capsys.readouterr().out
    assert city.record('evaluations/mine_val.json')['table'] is None


def test_submissions_of_shards_are_put_together(city, capsys):
    arguments = ['--split', 'test', '--save']
    assert city.evaluate(*arguments, 'at_once') == 0
    for k in (1, 2, 3):
        assert city.evaluate(*arguments, 'parts', '--shard', f'{k}/3') == 0
    assert 'evaluate --merge parts/*-of-3 --save DIR' in capsys.readouterr().out
    parts = [f'parts/{k}-of-3' for k in (2, 3, 1)]
    assert cli.main(['evaluate', '--merge', *parts, '--save', 'joined']) == 0
    names = [sorted(p.relative_to(folder) for p in Path(folder).rglob('*') if p.is_file())
             for folder in ('at_once', 'joined')]
    assert names[0] == names[1]
    for name in names[0]:
        once, joined = (Path(folder, name).read_bytes() for folder in ('at_once', 'joined'))
        if name.suffix == '.json':
            once, joined = (_sorted(json.loads(text)) for text in (once, joined))
        assert once == joined
    assert cli.main(['evaluate', '--merge', *parts[:2], '--save', 'again']) == 1
    assert cli.main(['evaluate', '--merge', *parts, '--save', 'joined']) == 1
    assert cli.main(['evaluate', '--merge', 'at_once', '--save', 'again']) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith('adaptis')]
    wanted = '1/3', 'already exists', 'is not the folder of a shard'
    assert all(words in line for words, line in zip(wanted, told))


def test_a_shard_that_was_stopped_is_not_joined_but_saved_again(city, capsys):
    arguments = ['--split', 'test', '--limit', '2', '--save', 'stopped', '--shard']
    assert city.evaluate(*arguments, '1/2') == city.evaluate(*arguments, '2/2') == 0
    Path('stopped/2-of-2/panoptic.json').unlink()
    left_over = Path('stopped/2-of-2/instances/masks/left_over.png')
    left_over.touch()
    join = ['evaluate', '--merge', 'stopped/1-of-2', 'stopped/2-of-2', '--save', 'all']
    assert cli.main(join) == 1
    assert 'stopped/2-of-2 does not contain panoptic.json' in capsys.readouterr().err
    assert not Path('all').exists()
    assert city.evaluate(*arguments, '2/2') == 0
    assert not left_over.exists()
    Path('stopped/2-of-2/.panoptic_half.json').write_text('[')
    assert cli.main(join) == 0
    assert not list(Path('all').glob('.*'))


def _sorted(document):
    return {key: sorted(map(json.dumps, value)) for key, value in document.items()}


@pytest.mark.parametrize('shard', ['0/3', '4/3', '3', 'a/b', '1/0', '-1/3', ''])
def test_wrong_shards(city, capsys, shard):
    assert city.evaluate(f'--shard={shard}') == 1
    assert f'"{shard}" is not a shard' in capsys.readouterr().err


@pytest.mark.parametrize('arguments, message', [
    (['--data', 'nowhere'], 'Cityscapes was not found: nowhere should contain'),
    (['--checkpoint', 'absent.params'], 'absent.params cannot be read'),
    (['--dataset', 'coco'], 'which names its data set itself'),
    (['--split', 'dev'], 'no split "dev"'),
    (['--merge', 'x.npz'], 'Nothing to measure'),
    (['--row', '2', 'r51'], 'has no row r51'),
])
def test_mistakes_are_one_sentence(city, capsys, arguments, message):
    assert city.evaluate(*arguments) == 1
    said = capsys.readouterr().err
    assert message in said and said.count('\n') == 1


@pytest.mark.parametrize('changes, message', [
    ({'row': {'table': '2', 'row': 'r51'}}, 'mine.yaml names an unpublished row: Table 2 of'),
    ({'row': {'table': '99', 'row': 'r50'}}, 'mine.yaml names an unpublished row: adaptis has no'),
    ({'row': {'table': '2'}}, 'mine.yaml: the key row.row is missing'),
    ({'checkpoint': 'absent.params'}, 'absent.params, the network of'),
    ({'checkpoint': None}, 'runs/mine/final.params, the network of'),
    ({'model': {'name': 'adaptis_toy', 'width': 8}}, 'width 4, but'),
    ({'inference': {'preset': 'city'}}, "no preset 'city'"),
])
def test_configs_that_cannot_be_measured(city, capsys, changes, message):
    city.write(**changes)
    assert city.evaluate() == 1
    said = capsys.readouterr().err
    assert message in said and said.count('\n') == 1


def test_a_network_of_another_data_set(city, places, capsys):
    other = places('coco')
    assert city.evaluate('--checkpoint', str(other.checkpoint)) == 1
    assert 'num_classes 6, but' in capsys.readouterr().err


def test_a_network_of_another_row(city, capsys):
    net = city.folder / 'r101.params'
    net.with_suffix('.json').write_text(json.dumps(
        {'model': {'name': 'adaptis_deeplab', 'backbone': 'resnet101'}}))
    config = ROOT / 'experiments' / 'cityscapes' / 'r50.yaml'
    assert cli.main(['evaluate', str(config), '--data', str(city.root), '--checkpoint',
                     str(net)]) == 1
    assert 'a network with backbone resnet101, but' in capsys.readouterr().err


@pytest.mark.parametrize('asked, there', [('none', None), (None, 'none')])
def test_a_network_of_another_row_of_the_ablation(city, capsys, asked, there):
    net = city.folder / 'ablation.params'
    for path, kind in ((net.with_suffix('.json'), there), (None, asked)):
        model = {**city.model, **({'coordinates': kind} if kind else {})}
        if path is None:
            city.write(model=model)
        else:
            path.write_text(json.dumps({'model': model}))
    assert city.evaluate('--checkpoint', str(net)) == 1
    assert f'coordinates {there or "relative"}, but' in capsys.readouterr().err


def test_a_network_whose_classes_mean_something_else(places, monkeypatch, tmp_path, capsys):
    place, other = places('coco'), places('vistas')
    place.write()
    monkeypatch.chdir(tmp_path)
    taxonomy = taxonomy_to_list(open_dataset('vistas', other.root, 'val').taxonomy)
    Path('net.json').write_text(json.dumps({'model': place.model, 'taxonomy': taxonomy}))
    assert place.evaluate('--checkpoint', 'net.params') == 1
    said = capsys.readouterr().err
    assert 'net.params was trained for other classes' in said and '"Road" (2)' in said


def test_a_network_at_a_stride(city, tmp_path):
    """DeepLabV3+ on a small backbone, whose classes nothing but their number tells."""
    net = get_model('adaptis_deeplab', backbone='resnet18')
    net.initialize(mx.init.Xavier())
    save_model(net, tmp_path / 'net.params')
    changes = [f'--set={change}' for change in (
        'things_threshold=0', 'proposal_threshold=0', 'proposal_blur=0', 'min_area=1',
        'max_candidates=2', 'mask_threshold=0')]
    assert cli.main(['evaluate', '--dataset', 'cityscapes', '--data', str(city.root), '--limit',
                     '1', '--checkpoint', str(tmp_path / 'net.params'), '--out', 'deeplab.json',
                     *changes]) == 0
    record = city.record('deeplab.json')
    assert record['settings']['preset'] == 'cityscapes'
    assert record['settings']['inference']['flip']
    assert record['metrics']['objects']['missed'] + record['metrics']['objects']['found'] > 0


def test_what_training_has_left_is_found(city):
    city.write(checkpoint=None)
    Path('runs/mine').mkdir(parents=True)
    for suffix in ('.params', '.json'):
        copy(city.checkpoint.with_suffix(suffix), f'runs/mine/final{suffix}')
    assert city.evaluate('--limit', '1') == 0
    assert city.record()['settings']['checkpoint']['file'] == 'final.params'


def test_predictions_have_the_classes_of_their_checkpoint(places, monkeypatch, tmp_path):
    place = places('vistas')
    dataset = open_dataset('vistas', place.root, 'val')
    path = tmp_path / 'net.params'
    save_model(load_model(place.checkpoint), path, {'dataset': 'vistas',
                                                    'taxonomy': taxonomy_to_list(dataset.taxonomy)})
    image = str(dataset.images.path(0))
    assert cli.main(['predict', image, '--checkpoint', str(path), '--out',
                     str(tmp_path / 'out')]) == 0
    written = json.loads((tmp_path / 'out' / 'panoptic.json').read_text())
    assert [c['name'] for c in written['categories']] == [
        c.name for c in dataset.taxonomy.categories]
