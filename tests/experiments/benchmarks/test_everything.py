"""The run without a subject: its record and its page."""
from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from adaptis.errors import AdaptisError
from experiments.benchmarks import comparison, earlier, everything, kernels, page, subjects
from experiments.benchmarks.__main__ import main
from experiments.benchmarks.comparison import Comparison, Setting, Spent, summary

ROOT = Path(__file__).resolve().parents[3]
CONFIG = {True: 'a small one', False: 'a large one'}
FREE = {'share': 1.0, 'others': 0.0, 'stolen': 0.0, 'cores': 2, 'seconds': 1.0}


def turtle_and_hare(setting: Setting) -> dict:
    """Forms that say themselves how long they take."""
    assert setting.quick
    return {'turtle': lambda: Spent(4.0, 2.0), 'hare': lambda: Spent(1.0, 0.25),
            'ONNX Runtime': AdaptisError('It is not installed.')}


def nothing(setting: Setting) -> dict:
    raise AdaptisError('There is nothing to measure.')


@pytest.fixture
def run(same_process, monkeypatch, tmp_path):
    """Runs the command with two comparisons; returns the record and the page."""
    module = SimpleNamespace(__doc__='How fast they are.', add_arguments=lambda parser: None,
                             COMPARISONS=(Comparison('race', CONFIG, turtle_and_hare, 'turtle'),
                                          Comparison('void', CONFIG, nothing, 'turtle')))
    for owner in subjects, everything:
        monkeypatch.setattr(owner, 'SUBJECTS', {'animals': module})
    monkeypatch.setattr(comparison, 'Window',
                        lambda: SimpleNamespace(close=lambda cpu, clock: FREE))
    log = {'seconds': 0.5, 'kernels': {'convolution jit:avx2': {'share': 1.0, 'calls': 3}}}
    monkeypatch.setattr(kernels, 'look',
                        lambda names, quick: ({'isa': 'AVX2'}, {('race', 'hare'): log}))
    out, where = tmp_path / 'a.json', tmp_path / 'a.md'

    def command(*arguments: str) -> tuple[dict, str]:
        assert main(['--quick', '--out', str(out), '--page', str(where), *arguments]) == 0
        return json.loads(out.read_text(encoding='utf-8')), where.read_text(encoding='utf-8')
    return command


def test_record_and_page_of_a_quick_run(run, monkeypatch, capsys):
    monkeypatch.setattr(everything, 'load', lambda: 0.1)
    record, text = run('--note', 'nothing else ran')
    hare = record['rows']['race']['forms']['hare']
    assert record['quick'] and record['commit'] and record['hardware']['cpu']
    assert hare['times as fast, cpu'] == 8 and hare['times as fast, clock'] == 4
    assert record['rows']['race']['rounds'] == comparison.MOST_ROUNDS   # they cost no time
    assert record['rows']['race']['left out'] == {'ONNX Runtime': 'It is not installed.'}
    assert record['rows']['void']['not measured'] == 'There is nothing to measure.'
    assert '**This is a quick run**' in text and 'nothing else ran' in text
    assert '|  | hare | 1 s | 250 ms | 8.00 | 4.00 | 1 s | 1 s |  |' in text
    assert 'a small one; seed 0, 15 rounds, against *turtle*' in text
    assert 'No *ONNX Runtime*: It is not installed.' in text
    assert '| race | hare | 500 ms | convolution jit:avx2 100% |' in text and 'AVX2' in text
    out = capsys.readouterr().out
    assert 'instructions that oneDNN uses: AVX2\n' in out and 'load before and after: ' in out
    assert 'race, hare: convolution jit:avx2 100%\n' in out and 'This is a quick run' in out
    assert record['commit'][:10] in text and '`python -m experiments.benchmarks animals`' in text


def test_rows_of_a_busy_machine_are_marked(run, monkeypatch, capsys):
    monkeypatch.setitem(FREE, 'others', 1.5)
    monkeypatch.setattr('experiments.benchmarks.measures.load', lambda: 9.0)
    record, text = run('--only', 'race')
    assert record['rows']['race']['complaints'] == ['other processes used 1.5 of 2 cores']
    assert '| hare | 1 s | 250 ms | 8.00 | 4.00 | 1 s | 1 s | (!) |' in text
    assert "**Only a part was measured**: `--only 'race'`" in text
    assert '**1 of 1 rows were disturbed**' in text and '**The machine is busy: 9 ' in text
    assert 'The machine is busy' in capsys.readouterr().err


def test_an_interrupted_run_keeps_its_rows(run, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(kernels, 'look', stop)
    record, text = run()
    assert list(record['rows']) == ['race', 'void'] and record['interrupted']
    assert '**This run was interrupted**' in text and 'oneDNN has logged nothing' in text
    monkeypatch.setattr(everything, 'measure_row', stop)
    assert main(['--quick']) == 130


def test_names_that_there_are_not(run, capsys):
    assert main(['--only', 'races']) == 1
    assert 'no comparison "races": choose from race, void' in capsys.readouterr().err


def test_a_page_of_a_record(run, tmp_path, capsys):
    run()
    again = tmp_path / 'again.md'
    assert main(['--render', str(tmp_path / 'a.json'), '--page', str(again)]) == 0
    assert again.read_bytes() == (tmp_path / 'a.md').read_bytes()
    (tmp_path / 'b.json').write_text('{"metrics": {}}', encoding='utf-8')
    assert main(['--render', str(tmp_path / 'b.json'), '--page', str(again)]) == 1
    assert main(['--render', str(tmp_path / 'c.json'), '--page', str(again)]) == 1
    assert capsys.readouterr().err.count('\nbenchmarks: ') == 2


def test_ratios_are_of_the_same_round():
    """The second round was twice as slow for both, which does not count."""
    spent = {'a': [Spent(4, 4), Spent(8, 8), Spent(3, 3)],
             'b': [Spent(1, 2), Spent(2, 4), Spent(3, 0)]}
    found = summary(spent, 'a')['forms']['b']
    assert found['times as fast, clock'] == 4 and found['clock, s'] == 2
    assert found['times as fast, cpu'] == 2   # a time of 0 has no ratio
    with pytest.raises(AdaptisError, match='no variant "c"'):
        summary(spent, 'c')


def test_every_comparison_has_a_name_and_a_size_of_its_own():
    found = list(subjects.comparisons())
    assert len({each.name for each in found}) == len(found) > 5
    assert all(set(each.config) == {True, False} for each in found)
    assert {subjects.subject_of(each.name) for each in found} >= {'speed', 'ports'}


def test_the_documentation_has_the_page_of_the_record():
    record = everything.read(ROOT / everything.RECORD)
    text = (ROOT / everything.PAGE).read_text(encoding='utf-8')
    # Of a run without a subject; subjects may have come since.
    assert page.render(record, {}).split('## Subjects')[0] == text.split('## Subjects')[0]
    assert text.endswith(f'{earlier.section()}\n')


def test_records_of_subjects_have_tables_and_missing_ones_a_command(tmp_path):
    given = {'commit': 'a' * 40, 'hardware': {'cpu': 'a processor'},
             'conditions': {'threads': '1', 'load before': 0.5, 'note': None}}
    loader = {'condinst': {'images per second': 12.345, 'decoding, share': 0.25},
              'panoptic_fpn': {'images per second': 10, 'decoding, share': 0.3}}
    size = {'coco': {'panoptic, opening, s': 0.0125}, 'evaluation': {'25 images, peak MiB': 60}}
    for name, results in (('loader', loader), ('size', size)):
        path = tmp_path / f'{name}_one_core.json'
        path.write_text(json.dumps({**given, 'results': results}))
    text = earlier.section(tmp_path)
    assert '| figure | condinst | panoptic_fpn |' in text
    assert '| decoding, share | 25% | 30% |' in text
    assert '| coco | panoptic, opening | 12.5 ms |' in text
    assert 'commit aaaaaaaaaa, a processor, 1 thread, load 0.5 before.' in text
    assert 'training_step --out experiments/logs/training_step_one_core.json`' in text
    assert 'loader --out' not in text
