from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adaptis import cli
from adaptis.commands import rows
from adaptis.commands.rows import published_row, run_name
from adaptis.config import load_config
from adaptis.data.coco_categories import COCO_TAXONOMY
from adaptis.data.datasets import DATASETS
from adaptis.errors import AdaptisError
from adaptis.evaluation.record import ROOT, make_record, write_record
from adaptis.evaluation.tables import OWN, load_tables
from adaptis.loading import inference_settings
from adaptis.registry import find_family

CONFIGS = sorted(path for path in (ROOT / 'experiments').rglob('*.yaml')
                 if path.parent.name != rows.PUBLISHED)
PAPERS = load_tables(ROOT / 'experiments' / rows.PUBLISHED)


def short(path):
    return path.relative_to(ROOT / 'experiments').as_posix()


@pytest.mark.filterwarnings('ignore:Caution using SyncBatchNorm')
@pytest.mark.parametrize('path', CONFIGS, ids=short)
def test_every_config_names_a_network_settings_and_a_row_that_exist(path):
    config = load_config(path)
    inference_settings(config)
    rows.check_row(config, path)
    assert config.data.dataset in DATASETS
    kind = find_family(config.model['name'])
    counts = kind.class_counts(COCO_TAXONOMY)
    options = {k: v for k, v in config.model.items() if k not in ('pretrained_base', 'pretrained')}
    net = kind.get_model(**{**counts, **options})
    assert {name: getattr(net, name) for name in counts} == {
        name: options.get(name, count) for name, count in counts.items()}
    if path.parent.name in DATASETS:
        assert config.data.dataset == path.parent.name
        assert config.model['pretrained_base'] and 'num_classes' not in config.model


@pytest.mark.parametrize('table', ['2', '3', '4', '5', '6', '7', '7-toy'])
def test_every_row_has_a_config_that_measures_it(table):
    for row in PAPERS['adaptis'][table].rows:
        assert (row.config is not None) == (row.ours or row.source == OWN)
        if row.config is None:
            continue
        config = load_config(ROOT / 'experiments' / row.config)
        assert (config.row.paper, config.row.table, config.row.row) == ('adaptis', table, row.id)
        assert config.row.reduced == (table == '7-toy')


def trained_by(path):
    """The config whose training leaves the network that a config measures."""
    network = load_config(path).checkpoint
    if network is None:
        return path
    return next(p for p in CONFIGS if Path('runs', run_name(p), 'final.params') == Path(network))


@pytest.mark.parametrize('path', CONFIGS, ids=short)
def test_every_config_says_how_it_is_run(path):
    text = path.read_text().split('\nbase:')[0]
    if 'ablation_toy' not in path.parts:
        assert f'adaptis evaluate experiments/{short(path)}' in text
        if 'test' not in path.stem:
            assert f'adaptis train experiments/{short(trained_by(path))}' in text
    if path.parent.name in ('cityscapes', 'vistas', 'coco'):
        assert 'Published' in text and 'not measured' in text


@pytest.mark.parametrize('path', CONFIGS, ids=short)
def test_what_a_config_says_is_published_is_what_the_table_has(path):
    config = load_config(path)
    if config.row is None:
        return
    table = PAPERS[config.row.paper][config.row.table]
    row = table.row(config.row.row)
    if row.source != 'paper':
        return
    header = path.read_text().split('\nbase:')[0]
    for column, value in zip(table.columns, row.published):
        if isinstance(value, float):
            assert f' {value:.{table.digits_of(column)}f}' in header, column.name


def test_names_of_runs(tmp_path, monkeypatch):
    assert run_name(ROOT / 'experiments' / 'coco' / 'r50.yaml') == 'coco_r50'
    assert run_name(ROOT / 'experiments' / 'toy_v1.yaml') == 'toy_v1'
    assert run_name(tmp_path / 'some' / 'mine.yaml') == 'mine'
    monkeypatch.chdir(ROOT / 'experiments' / 'coco')
    assert run_name(Path('r50.yaml')) == 'coco_r50'


def test_the_table_tells_what_is_missing_and_what_to_do(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'results').mkdir()
    assert cli.main(['table', '2', '--results', 'results']) == 0
    shown = capsys.readouterr().out
    for row in ('r50', 'r101', 'x101'):
        assert f'no run yet: adaptis train {ROOT}/experiments/cityscapes/{row}.yaml' in shown
    assert shown.count('Cityscapes was not found: data/cityscapes ') == 1
    assert 'With a checkpoint: adaptis evaluate' in shown
    (tmp_path / 'data' / 'cityscapes').mkdir(parents=True)
    assert cli.main(['table', '2', '--results', 'results']) == 0
    assert 'was not found' not in capsys.readouterr().out


def test_rows_of_test_servers_name_the_command_that_writes_the_submission(tmp_path, capsys,
                                                                          monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cli.main(['table', '6', '--results', str(tmp_path)]) == 0
    assert ('no run yet: adaptis evaluate experiments/coco/x101_test.yaml --save DIR'
            in capsys.readouterr().out)


def test_runs_of_both_usual_folders_are_shown_once(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / 'experiments' / rows.PUBLISHED,
                    tmp_path / 'experiments' / rows.PUBLISHED)
    for source in (ROOT / 'experiments').glob('*.yaml'):
        shutil.copy(source, tmp_path / 'experiments')
    record = make_record({'images': 1}, {}, label='mine', table='1', row='adaptis')
    for folder in ('experiments/results', 'evaluations'):
        write_record(tmp_path / folder / 'mine.json', record)
    write_record(tmp_path / 'evaluations' / 'other.json', {**record, 'label': 'other'})
    assert cli.main(['table', '1']) == 0
    shown = capsys.readouterr().out
    assert shown.count('mine, 1 image') == 1 and shown.count('other, 1 image') == 1


def test_a_row_that_does_not_exist():
    with pytest.raises(AdaptisError, match='has no row r51; it has r50, r101, x101'):
        published_row('adaptis', '2', 'r51')


@pytest.mark.parametrize('name', ['toy_v1_cpu', 'coco/r50', 'coco_r50', 'coco/r50.yaml',
                                  'experiments/coco/r50.yaml'])
def test_short_names_of_configs_work_in_any_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = rows.config_path(name)
    assert path.is_file() and run_name(path) == name.removeprefix('experiments/').removesuffix(
        '.yaml').replace('/', '_')
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).touch()
    assert rows.config_path(name) == Path(name)   # a file of that name comes first


def test_short_names_are_unique():
    folder = ROOT / 'experiments'
    names = [name for file in CONFIGS for name in rows.config_names(file, folder)]
    assert len(names) == len(set(names))


def test_a_wrong_name_of_a_config_gets_a_suggestion(capsys):
    assert cli.main(['train', 'toy_v1_cp']) == 1
    assert 'did you mean "toy_v1_cpu"?' in capsys.readouterr().err


def test_table_reads_what_train_and_evaluate_wrote(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for place, value in ((rows.EVALUATIONS / 'a.json', 0.111), (rows.RUNS / 'x' / 'evaluation.json',
                                                                0.222)):
        record = make_record({'ap': {'ap50': value}, 'images': 1}, {}, label='mine', table='1',
                             row='adaptis')
        place.parent.mkdir(parents=True)
        write_record(place, record)
    assert cli.main(['table', '1']) == 0
    said = capsys.readouterr().out
    assert '11.1' in said and '22.2' in said
    assert 'evaluations (1) and runs/*/evaluation.json (1).' in said
