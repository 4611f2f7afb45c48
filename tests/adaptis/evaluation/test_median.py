"""The median of several trainings."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adaptis.cli import main
from adaptis.errors import AdaptisError
from adaptis.evaluation.median import median_metrics
from adaptis.evaluation.record import make_record, write_record


def record(k: int, pq: float, images: int = 500, row: str = 'a') -> dict[str, Any]:
    metrics = {'images': images, 'pq': {'All': {'pq': pq, 'n': 19}}, 'ap': [pq], 'note': None}
    return {'file': f'{k}.json', 'row': row, 'metrics': metrics,
            'settings': {'checkpoint': {'sha256': str(k)}}}


def test_numbers_are_medians_and_what_has_none_is_left_out() -> None:
    found = median_metrics([record(k, pq) for k, pq in enumerate((0.5, 0.1, 0.7, 0.4))])
    assert found == {'images': 500, 'pq': {'All': {'pq': pytest.approx(0.45), 'n': 19}},
                     'ap': None, 'note': None}
    assert isinstance(found['images'], int)   # of four trainings, too


def test_a_record_without_a_paper_is_of_adaptis() -> None:
    assert median_metrics([record(0, 0.5), {**record(1, 0.5), 'paper': 'adaptis'}])['images'] == 500


@pytest.mark.parametrize('records, message', [
    ([record(0, 1)], 'at least two'),
    ([record(0, 1), record(1, 1, row='b')], '0.json and 1.json are not runs of the same row'),
    ([record(0, 1), record(1, 1, images=9)], 'different numbers of images'),
    ([record(0, 1), record(1, 1), record(0, 1)], '0.json and 0.json measure the same weights')])
def test_records_that_do_not_belong_together(records: list, message: str) -> None:
    with pytest.raises(AdaptisError, match=message):
        median_metrics(records)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    template = json.loads((Path(__file__).parents[3] / 'experiments/results/toy_v1_cpu.json')
                          .read_text())
    paths = []
    for k, ap in enumerate((0.2, 0.6, 0.3)):
        metrics = {**template['metrics'], 'ap': {**template['metrics']['ap'], 'ap': ap}}
        paths.append(tmp_path / f'{k}.json')
        write_record(paths[-1], make_record(metrics, {'seed': k}, label='run', table='1',
                                            row='adaptis', reduced=True))
    out = tmp_path / 'median.json'
    assert main(['evaluate', '--median', *map(str, paths), '--out', str(out)]) == 0
    whole = json.loads(out.read_text())
    assert whole['metrics']['ap']['ap'] == 0.3 and whole['row'] == 'adaptis' and whole['reduced']
    assert [run['file'] for run in whole['settings']['median_of']] == [str(p) for p in paths]
    assert main(['evaluate', '--median', str(paths[0])]) == 1
    assert 'at least two training runs' in capsys.readouterr().err
    for more, message in ((['--row', '1', 'adaptis'], 'leave out --row'),
                          (['--save', 'x'], 'records')):
        assert main(['evaluate', '--median', *map(str, paths), *more]) == 1
        assert message in capsys.readouterr().err
