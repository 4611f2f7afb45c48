"""``adaptis launch`` with small programs instead of trainings."""
from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from adaptis.cli import main
from adaptis.errors import AdaptisError
from adaptis.launch import launcher

TELL = '''
names = ['DMLC_ROLE', 'DMLC_PS_ROOT_URI', 'DMLC_PS_ROOT_PORT', 'DMLC_NUM_WORKER',
         'DMLC_NUM_SERVER', 'DMLC_NODE_HOST', 'OMP_NUM_THREADS', 'MXNET_TEST', 'SECRET']
Path(f'told{os.getpid()}').write_text(json.dumps({name: os.environ.get(name) for name in names}))
done()
'''


def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in folder.glob('told*')]


def test_workers_on_this_machine_know_the_cluster(cluster: Any, tmp_path: Path,
                                                  capfd: pytest.CaptureFixture) -> None:
    assert cluster(TELL, workers=2).run() == 0
    found = told(tmp_path)
    assert len(found) == 2 and found[0] == found[1]
    assert found[0].items() >= {
        'DMLC_ROLE': 'worker', 'DMLC_PS_ROOT_URI': '127.0.0.1', 'DMLC_NUM_WORKER': '2',
        'DMLC_NUM_SERVER': '1', 'DMLC_NODE_HOST': '127.0.0.1'}.items()
    assert int(found[0]['OMP_NUM_THREADS']) == max(1, len(os.sched_getaffinity(0)) // 2)
    assert capfd.readouterr().out == 'hello from a worker\n'   # once for both


def test_workers_on_other_machines_too(cluster: Any, tmp_path: Path, capfd: pytest.CaptureFixture,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MXNET_TEST', 'passed on')
    monkeypatch.setenv('SSH_CONNECTION', '203.0.113.9 1 203.0.113.8 22')   # of the user
    assert cluster(TELL, 'localhost\nnode1\nnode2', workers=3, servers=3).run() == 0
    found = told(tmp_path)
    assert len(found) == 3
    for each in found:
        assert each['DMLC_PS_ROOT_URI'] == '127.0.0.1' and each['DMLC_NUM_SERVER'] == '3'
        assert each['MXNET_TEST'] == 'passed on' and each['OMP_NUM_THREADS'] is None
    assert 'Welcome' not in capfd.readouterr().out


def test_a_taken_port_is_named_or_avoided(cluster: Any, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(AdaptisError, match=f'Port {number} of 127.0.0.1 cannot be used: Address'
                                               ' already in use'):
            cluster(TELL, port=number).run()
        assert not told(tmp_path)
        assert cluster(TELL, workers=1).run() == 0
        assert told(tmp_path)[0]['DMLC_PS_ROOT_PORT'] != str(number)


def test_a_foreign_address_is_refused(cluster: Any) -> None:
    with pytest.raises(AdaptisError, match='^203.0.113.9 cannot be used: Cannot assign'):
        cluster(TELL, workers=1, address='203.0.113.9').run()


@pytest.mark.parametrize('host, words', [
    ('nowhere', 'nowhere cannot be reached by ssh: ssh: connect to host nowhere port 22: No route '
                'to host.'),
    ('bare', 'bare has no Python at .*: give its path there with --python.'),
    ('empty', 'The Python .* on empty does not have adaptis: install'),
])
def test_a_machine_that_cannot_be_used_is_named(cluster: Any, host: str, words: str) -> None:
    with pytest.raises(AdaptisError, match=words):
        cluster(TELL, f'localhost\n{host}').run()


def test_a_folder_that_other_machines_lack_is_named(cluster: Any, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    made = cluster(TELL, 'node1', workers=1)
    monkeypatch.setattr(launcher.os, 'getcwd', lambda: '/nowhere/at/all')
    with pytest.raises(AdaptisError, match='^node1 has no folder /nowhere/at/all: all machines'):
        made.run()


FIRST = '''
try:
    os.mkdir('first')
    first = True
except FileExistsError:
    first = False
'''


def test_a_dead_worker_ends_the_others(cluster: Any, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, 'GRACE', 0.5)
    lines = FIRST + '''
if not first:
    while not Path('pid').exists():
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
Path('pid.part').write_text(str(os.getpid()))
os.rename('pid.part', 'pid')
time.sleep(100)
'''
    began = time.monotonic()
    with pytest.raises(AdaptisError, match=r'^worker \d on localhost was killed by SIGKILL '
                                           r'\(perhaps .* memory ran out.*, and the other 1 was '
                                           'ended: continue with'):
        cluster(lines).run()
    assert time.monotonic() - began < 15
    assert not Path(f'/proc/{(tmp_path / "pid").read_text()}').exists()


def test_a_dead_server_ends_all(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, 'GRACE', 0.1)
    made = cluster('time.sleep(100)')
    made.node = ['-c', 'import sys; sys.exit(3)']
    with pytest.raises(AdaptisError, match=r'(server 0|scheduler) on localhost ended with status 3 '
                                           r'\(its message is above\), and the other 2 were ended'):
        made.run()


def test_a_mistake_of_all_is_told_once(cluster: Any, capfd: pytest.CaptureFixture) -> None:
    assert cluster('print("the config is wrong", file=sys.stderr); sys.exit(1)').run() == 1
    assert capfd.readouterr().err == 'the config is wrong\n'


STOPPABLE = '''
def stop(number, frame):
    print('stopping')
    done(128 + number)
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
Path(f'ready{os.getpid()}').write_text('')
time.sleep(100)
'''


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_goes_to_the_workers(cluster: Any, tmp_path: Path, number: int) -> None:
    def ask() -> None:
        while len(list(tmp_path.glob('ready*'))) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    # A program that a shell started in the background ignores SIGINT, and so does the launcher.
    before = signal.signal(number, signal.default_int_handler)
    try:
        threading.Thread(target=ask, daemon=True).start()
        assert cluster(STOPPABLE, 'localhost\nnode1').run() == 128 + number
    finally:
        signal.signal(number, before)
    assert len(list(tmp_path.glob('done*'))) == 2


def test_without_its_launcher_nothing_goes_on(cluster: Any, tmp_path: Path) -> None:
    made = cluster('Path(f"pid{os.getpid()}").write_text(""); time.sleep(100)', 'node1', workers=1)
    process = os.fork()
    if not process:
        os.setpgid(0, 0)
        made.run()
        os._exit(0)
    while not list(tmp_path.glob('pid*')):
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    worker = next(tmp_path.glob('pid*')).name[3:]
    deadline = time.monotonic() + 20
    while subprocess.run(['ps', '-p', worker, '-o', 'stat='], capture_output=True,
                         text=True).stdout.strip()[:1] not in ('', 'Z'):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_a_sign_of_life_a_machine_ends_its_process(tmp_path: Path) -> None:
    program = ('import sys\nfrom adaptis.launch import agent\nagent.SILENCE = 0.5\n'
               'sys.exit(agent.main())')
    order = {'folder': str(tmp_path), 'command': ['sleep', '100'], 'environment': {},
             'root': ['127.0.0.1', 1], 'connect': False, 'workers': 1}
    with subprocess.Popen([sys.executable, '-c', program], stdin=subprocess.PIPE, text=True,
                          stdout=subprocess.DEVNULL) as process:
        process.stdin.write(json.dumps(order) + '\nstart\n')
        process.stdin.flush()
        assert process.wait(timeout=60) == 128 + signal.SIGKILL


@pytest.mark.parametrize('words, sentence', [
    (['-n', '2', 'evaluate', 'x.yaml'], 'Write "train CONFIG" after the options'),
    (['-n', '2'], 'Write "train CONFIG" after the options'),
    (['train', 'x.yaml'], 'Give the number of processes'),
    (['-n', '0', 'train', 'x.yaml'], 'need at least one worker each'),
    (['-n', '2', '--port', '0', 'train', 'x.yaml'], '--port must be at least 1'),
    (['-n', '2', '--port', '99999', 'train', 'x.yaml'], 'Port 99999 of 127.0.0.1 cannot be used'),
    (['-n', '2', 'train', 'x.yaml', '--kvstore', 'nccl'], '--kvstore nccl is for a single process'),
    (['--hosts', 'nowhere.txt', 'train', 'x.yaml'], '--hosts nowhere.txt cannot be read'),
])
def test_wrong_options_are_one_sentence(capsys: pytest.CaptureFixture, words: list,
                                        sentence: str) -> None:
    assert main(['launch', *words]) == 1
    message = capsys.readouterr().err
    assert re.match('adaptis launch: ', message) and sentence in message
    assert message.count('\n') == 1
