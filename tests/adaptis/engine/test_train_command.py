"""``adaptis train`` on the command line, with a small version of the real network."""
from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
from toy_setup import write_run

from adaptis.cli import main
from adaptis.evaluation.record import file_facts
from adaptis.inference.likeness import ImageStatistics
from adaptis.inference.sidecar import read_sidecar
from adaptis.loading import load_predictor
from adaptis.runtime import mx
from tests.devices import ctx_option

ROOT = Path(__file__).resolve().parents[3]

CONFIG = '''
data: {root: data, augmentation: toy_v1}
model: {name: adaptis_toy, width: 4}
instances:
  steps: 5
  batch_size: 2
  points: 3
  optimizer: {lr: 1e-3}
proposals:
  steps: 2
  batch_size: 2
  points: 4
  optimizer: {lr: 1e-3}
workers: 0
log_every: 2
pictures_every: 5
checkpoint_steps: 2
evaluation_images: 1
validation: {every: 4, images: 2, points: 2}
'''


@pytest.fixture(scope='module')
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config, data, and a run that was never interrupted."""
    folder = tmp_path_factory.mktemp('place')
    write_run(folder, CONFIG, train=6)
    assert main(arguments(folder, 'whole')) == 0
    return folder


def arguments(place: Path, output: str, *more: str) -> list:
    return ['train', str(place / 'run.yaml'), '--data', str(place / 'data'), *ctx_option(),
            '--output', str(place / output), *more]


def start(place: Path, output: str, *more: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, '-m', 'adaptis.cli', *arguments(place, output, *more)],
                            cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1'},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(place: Path, output: str) -> None:
    deadline = time.monotonic() + 100
    while not list((place / output / 'checkpoints').glob('0-*')):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_same_networks(a: Path, b: Path) -> None:
    first, second = mx.nd.load(str(a)), mx.nd.load(str(b))
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array.asnumpy(), second[name].asnumpy(), err_msg=name)


def test_a_run_leaves_everything_behind(place: Path) -> None:
    run = place / 'whole'
    assert {p.name for p in run.iterdir()} == {
        'config.yaml', 'log.jsonl', 'events', 'pictures', 'checkpoints', 'best.params',
        'best.json', 'final.params', 'final.json', 'evaluation.json'}
    assert {p.name for p in (run / 'pictures').iterdir()} == {
        'instances-00000005.png', 'proposals-00000002.png'}
    kinds = [json.loads(line)['kind'] for line in (run / 'log.jsonl').read_text().splitlines()]
    assert kinds.count('start') == 1 and {'train', 'validation'} < set(kinds)
    record = json.loads((run / 'evaluation.json').read_text())
    assert record['metrics']['images'] == 1 and record['settings']['split'] == 'test'
    assert record['settings']['checkpoint'] == file_facts(run / 'final.params')


def test_the_result_is_a_network_that_predicts(place: Path) -> None:
    image = np.zeros((40, 33, 3), np.uint8)
    for name in ('final.params', 'best.params', 'checkpoints/1-proposals-00000002/net.params'):
        result = load_predictor(place / 'whole' / name).set_image(image).panoptic()
        assert result.segment_map.shape == (40, 33)
        known = ImageStatistics.from_sidecar(read_sidecar(place / 'whole' / name))
        assert known.count == 6 and known.sizes == (32, 32)


def test_only_the_proposal_branch_learns_in_its_stage(place: Path) -> None:
    checkpoints = place / 'whole' / 'checkpoints'
    before, after = (mx.nd.load(str(checkpoints / name / 'net.params'))
                     for name in ('0-instances-00000005', '1-proposals-00000002'))
    changed = {k for k in before if (before[k].asnumpy() != after[k].asnumpy()).any()}
    assert changed and all('proposals' in name for name in changed)


def test_a_rate_for_other_batches_is_told_of_or_scaled(place: Path,
                                                       capsys: pytest.CaptureFixture) -> None:
    short = [word for change in ('instances.steps=1', 'instances.batch_size=1', 'proposals.steps=1',
                                 'evaluation_images=0', 'validation.every=0', 'pictures_every=0')
             for word in ('--set', change)]
    assert main(arguments(place, 'odd', *short)) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if 'learning rate' in line]
    assert told == ['The learning rate 0.001 of the stage instances was chosen for 2 images per '
                    'step, but there are 1: --scale-lr would set it to 0.0005.']
    assert main(arguments(place, 'scaled', '--scale-lr', *short)) == 0
    assert 'learning rate' not in capsys.readouterr().out
    for path in (place / 'scaled' / 'final.json',
                 place / 'scaled' / 'checkpoints' / '1-proposals-00000001' / 'net.json'):
        config = json.loads(path.read_text())['config']
        assert [config[stage]['optimizer'][key] for stage in ('instances', 'proposals')
                for key in ('lr', 'lr_batch')] == [0.0005, 1, 0.001, None]
    assert main(arguments(place, 'scaled', '--scale-lr', '--resume', *short)) == 0
    assert main(arguments(place, 'scaled', '--resume', *short)) == 1
    assert 'instances with instances.optimizer.lr 0.0005, so it can no' in capsys.readouterr().err


def test_a_training_can_start_from_given_weights(place: Path) -> None:
    given = place / 'whole' / 'final.params'
    frozen = [part for stage in ('instances', 'proposals') for part in (
        '--set', f'{stage}.optimizer.lr=0', '--set', f'{stage}.steps=1')]
    assert main(arguments(place, 'started', '--init', str(given), *frozen)) == 0
    before, after = (mx.nd.load(str(path)) for path in (given, place / 'started/final.params'))
    for name, array in before.items():
        if 'running' not in name:
            np.testing.assert_array_equal(array.asnumpy(), after[name].asnumpy(), err_msg=name)


@pytest.mark.parametrize('changes, words', [
    (['model.width=8'], 'contains a network with width 4, but the config asks for 8'),
    (['model.coordinates=none'], 'contains a network with coordinates relative, but the config '
                                 'asks for none'),
    (['initial_weights=nowhere.params'], 'nowhere.params does not exist'),
])
def test_given_weights_of_another_network_are_refused_by_name(
        place: Path, tmp_path: Path, capsys: pytest.CaptureFixture, changes: list,
        words: str) -> None:
    given = json.dumps(str(place / 'whole' / 'final.params'))
    sets = [part for change in [f'initial_weights={given}', *changes] for part in ('--set', change)]
    command = arguments(place, 'unused', *sets)
    command[command.index(str(place / 'unused'))] = str(tmp_path / 'out')
    assert main(command) == 1
    assert words in capsys.readouterr().err and not (tmp_path / 'out').exists()


def test_kill_minus_nine_costs_only_the_steps_since_the_last_checkpoint(place: Path) -> None:
    process = start(place, 'killed', '--workers', '1')
    wait_for_checkpoint(place, 'killed')
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (place / 'killed' / 'final.params').exists()
    assert main(arguments(place, 'killed', '--resume')) == 0
    assert not list((place / 'killed').rglob('.*'))   # temporary files
    assert_same_networks(place / 'whole' / 'final.params', place / 'killed' / 'final.params')
    logs = [(place / name / 'log.jsonl').read_text().splitlines() for name in ('whole', 'killed')]
    whole, killed = ([(r['stage'], r['step'], r.get('instances'), r.get('proposals'))
                      for r in map(json.loads, lines) if r['kind'] == 'train'] for lines in logs)
    assert whole == killed


def test_ctrl_c_saves_and_says_how_to_go_on(place: Path) -> None:
    process = start(place, 'stopped', '--workers', '1', '--set', 'instances.steps=500')
    wait_for_checkpoint(place, 'stopped')
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=250)
    assert process.returncode == 130
    assert 'To continue, repeat the command with --resume' in output


def test_a_closed_terminal_stops_the_run_as_ctrl_c_does(place: Path) -> None:
    """The kernel sends SIGHUP to the workers, too, and nothing can be written any more."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, '-m', 'adaptis.cli', *arguments(place, 'hung_up', '--workers', '1')],
        cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1'}, stdin=theirs, stdout=theirs,
        stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    os.close(theirs)
    wait_for_checkpoint(place, 'hung_up')
    os.close(ours)
    assert process.wait(timeout=250) in (129, 0)   # 0 if it was done by then
    assert main(arguments(place, 'hung_up', '--resume')) == 0
    assert_same_networks(place / 'whole' / 'final.params', place / 'hung_up' / 'final.params')


@pytest.mark.slow
def test_under_nohup_the_run_goes_on(place: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, '-m', 'adaptis.cli', *arguments(place, 'nohup')], cwd=ROOT,
        env={**os.environ, 'OMP_NUM_THREADS': '1'}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for_checkpoint(place, 'nohup')
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=250) == 0


@pytest.mark.parametrize('more, words', [
    ([], 'already contains a run: continue it with --resume'),
    (['--resume', '--set', 'model.width=6'], 'but the config asks for'),
    (['--resume', '--set', 'modle.width=5'], 'did you mean model'),
    (['--resume', '--ctx', 'gpu:7'], 'gpu:7'),
    (['--resume', '--kvstore', 'dist_sync'], 'needs a cluster'),
    (['--resume', '--kvstore', 'horovod'], 'choose device, local'),
    (['--resume', '--data', 'nowhere'], 'was not found: nowhere'),
])
def test_mistakes_are_one_sentence(place: Path, capsys: pytest.CaptureFixture, more: list,
                                   words: str) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in (place / 'whole').rglob('*'))
    assert main(arguments(place, 'whole', *more)) == 1
    message = capsys.readouterr().err
    assert words in message and message.count('\n') == 1
    assert sorted((p, p.stat().st_mtime_ns) for p in (place / 'whole').rglob('*')) == before


@pytest.mark.parametrize('override, words', [
    ('model.colour=red', 'has no option colour'),
    ('model.name=unet', 'no network "unet"'),
    ('instances.system.loss=bce', 'instances.system has no loss'),
    ('instances.system.instance_loss=l2', 'l2'),
    ('proposals.optimizer.name=adamant', 'optimizer "adamant" cannot be built'),
    ('data.augmentation=toy_v3', 'no augmentation "toy_v3"'),
    ('data.dataset=imagenet', 'no data set "imagenet": choose from toy, cityscapes'),
    ('data={dataset: imagenet, root: nowhere, augmentation: none}', 'no data set "imagenet"'),
    ('data.dataset=cityscapes', 'leftImg8bit/train does not exist'),
    ('data.val_split=dev', 'no split "dev"'),
    ('model.num_classes=19', 'The data set has 2 classes, 1 of them stuff'),
    ('inference.preset=kitti', "no preset 'kitti'"),
    ('inference.preset=[coco]', 'no preset'),
    ('row={table: "1", row: r50}', 'names an unpublished row'),
    ('proposals.optimizer.backbone_lr_mult=0.1', 'backbone_lr_mult does not apply'),
    ('proposals.optimizer.milestone_epochs=[9]', 'do not fit into'),
    ('proposals.sampling=grid', 'no point sampling "grid"'),
    ('proposals.system.proposal_labels=fuzzy', 'proposal labels "fuzzy" are unknown'),
    ('instances.batch_size=7', 'cannot be taken from 6'),
    ('instances.optimizer.lr=1e30', 'lower the learning rate'),
])
def test_mistakes_in_the_config_too(place: Path, capsys: pytest.CaptureFixture, override: str,
                                    words: str, tmp_path: Path) -> None:
    command = arguments(place, 'unused', '--set', override)
    command[command.index(str(place / 'unused'))] = str(tmp_path / 'out')
    assert main(command) == 1
    assert words in capsys.readouterr().err
    # Nothing is in the way of the next attempt, unless training had begun.
    assert (tmp_path / 'out').exists() == ('lr=1e30' in override)
