"""The JSON log and the events."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from adaptis.engine.logs import (
    LOG_NAME,
    STALL_REPORTS,
    AverageMeter,
    RunLog,
    StageProgress,
    StallWatch,
    truncate_log,
)


def lines(folder: Path) -> list:
    return [json.loads(line) for line in (folder / LOG_NAME).read_text().splitlines()]


def test_records_are_lines_of_json_and_events(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.write('train', 0, 'instances', 20, loss=0.5, note='warm')
        log.picture('instances', 20, np.zeros((4, 6, 3), np.uint8))
    (record,) = lines(tmp_path)
    assert (record['kind'], record['step'], record['loss']) == ('train', 20, 0.5)
    (events,) = (tmp_path / 'events').iterdir()
    content = events.read_bytes()
    assert b'instances/train/loss' in content and b'instances/prediction' in content


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    with RunLog(tmp_path, quiet=True) as log:
        log.write('train', 0, 'instances', 1, loss=1.0)
        log.picture('instances', 1, np.zeros((4, 6, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_the_line_of_progress_names_the_losses_within_80_columns(capsys) -> None:
    bar = StageProgress('instances', 0, 20000, quiet=False)
    bar.show({'instances': 0.30517, 'semantic': 0.4, 'a loss with a long name': 1.0})
    bar.close()
    line = capsys.readouterr().err.split('\r')[-1].rstrip()
    assert 'instances 0.305, semantic 0.4' in line and len(line) <= 80


def test_a_resumed_run_forgets_what_it_will_do_again(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        for index, step in ((0, 10), (0, 20), (1, 10), (1, 20)):
            log.write('train', index, 's', step)
    with open(tmp_path / LOG_NAME, 'a') as stream:
        stream.write('{"kind": "tra')  # the process was killed here
    truncate_log(tmp_path, 1, 10)
    assert [(r['index'], r['step']) for r in lines(tmp_path)] == [(0, 10), (0, 20), (1, 10)]


def test_a_loss_that_no_longer_falls_is_noticed_once_in_so_many_reports() -> None:
    watch, told = StallWatch(), []
    for report in range(6 * STALL_REPORTS):
        loss = max(1 - report / STALL_REPORTS, -2.5) + 0.01 * (report % 2)
        told += [report + 1] if watch.add(loss) else []
    assert told == [6 * STALL_REPORTS]   # flat from half of the fourth fifty on
    assert StallWatch().add(float('inf')) is None


def test_averages_are_means_since_the_last_flush() -> None:
    averages = AverageMeter()
    averages.add({'loss': 1.0}, seconds=1.0)
    assert averages.names == ['loss']
    averages.add({'loss': 3.0}, seconds=3.0)
    assert averages.flush(images_per_step=4, waited=1.0) == {
        'loss': 2.0, 'images_per_second': 2.0, 'wait_share': 0.25}
    averages.add({'loss': 7.0}, seconds=2.0)
    assert averages.flush(images_per_step=4, waited=1.5) == {
        'loss': 7.0, 'images_per_second': 2.0, 'wait_share': 0.25}
