"""The command with its subjects."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmarks import dense_detections, forms, ports, unified
from experiments.benchmarks.__main__ import SUBJECTS, main, make_parser

ROOT = Path(__file__).resolve().parents[3]
MEASURES = {'dense_detections': (dense_detections, 'dense_stages'), 'forms': (forms, 'forms'),
            'unified': (unified, 'unified')}


def test_help_names_every_subject(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(['--help'])
    out = ' '.join(capsys.readouterr().out.split())
    assert stopped.value.code == 0
    for name, module in SUBJECTS.items():
        assert f'{name} {module.__doc__.splitlines()[0]}' in out
        assert f'python -m experiments.benchmarks {name}' in module.__doc__


@pytest.mark.parametrize('arguments', [['nothing'], ['--only']])
def test_subjects_that_are_none(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and 'usage: python -m experiments' in capsys.readouterr().err


@pytest.mark.parametrize('subject', MEASURES)
def test_a_subject_runs_its_measure_and_keeps_it(
        subject: str, same_process: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
        capsys: pytest.CaptureFixture) -> None:
    def measure() -> dict[str, float]:
        """What it measures."""
        return {'plain': 3.0, 'ours': 1.5}

    monkeypatch.setattr(*MEASURES[subject], measure)
    assert main([subject, '--out', str(tmp_path / 'a.json'), '--note', 'quiet']) == 0
    record = json.loads((tmp_path / 'a.json').read_text(encoding='utf-8'))
    (result,) = record['results'].values()
    assert result['ratio'] == 2 and result['peak memory, MiB'] > 10
    assert record['conditions']['note'] == 'quiet'
    assert 'What it measures.' in capsys.readouterr().out


def test_only_the_measures_that_are_asked_for(same_process: None, monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture) -> None:
    def measure() -> dict[str, float]:
        """One of two."""
        return {'s': 1.0}

    monkeypatch.setattr(ports, 'MEASURES', {'detector': None, 'mask_head': measure})
    ports.run(make_parser().parse_args(['ports', 'mask_head']))
    assert 'mask_head: One of two.' in capsys.readouterr().out


def test_the_command_itself_stays_small() -> None:
    """What a process had when it made another one counts as the other's, too."""
    program = ('import sys, experiments.benchmarks.__main__\n'
               'sys.exit(any(name in sys.modules for name in ("mxnet", "onnxruntime", "onnx")))')
    assert subprocess.run([sys.executable, '-c', program], check=False, cwd=ROOT).returncode == 0
