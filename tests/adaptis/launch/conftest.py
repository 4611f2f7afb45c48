"""A cluster of small programs that need no MXNet, and a stand-in for ssh."""
from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Callable

import pytest

from adaptis.launch.hosts import read_hosts, share_workers
from adaptis.launch.launcher import Cluster
from adaptis.launch.member import Shell

ROOT = Path(__file__).resolve().parents[3]

# Ends when all workers have left a file, as MXNet's scheduler and servers do.
NODE = '''
import os, time
from pathlib import Path
while len(list(Path().glob('done*'))) < int(os.environ['DMLC_NUM_WORKER']):
    time.sleep(0.02)
'''
WORKER = '''
import json, os, signal, sys, time
from pathlib import Path
def done(status=0):
    Path(f'done{os.getpid()}').write_text('')
    sys.exit(status)
print('hello from a worker')
'''

# Runs its command here, on machines whose names say what is wrong with them.
SSH = '''#!/bin/sh
host=$1; shift
case $host in
  nowhere) echo "ssh: connect to host nowhere port 22: No route to host" >&2; exit 255;;
  bare) echo "sh: /opt/python: No such file or directory" >&2; exit 127;;
  empty) exec python3 -S -E -m no_such_package.agent;;
esac
SSH_CONNECTION="127.0.0.1 40000 127.0.0.1 22"; export SSH_CONNECTION
cd /
echo "Welcome to $host"
exec sh -c "$*"
'''


@pytest.fixture
def ssh(tmp_path: Path) -> Path:
    """A program that takes the place of ssh."""
    path = tmp_path / 'ssh'
    path.write_text(SSH)
    path.chmod(0o755)
    return path


@pytest.fixture
def cluster(tmp_path: Path, ssh: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Cluster]:
    """Return a maker of clusters on the named hosts whose workers run some lines of Python."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    for name in [name for name in os.environ if name.startswith(('DMLC_', 'OMP_'))]:
        monkeypatch.delenv(name)

    def make(lines: str, hosts: str = 'localhost', workers: int = 2, **options: object) -> Cluster:
        (tmp_path / 'hosts.txt').write_text(hosts)
        return Cluster(['-c', WORKER + lines],
                       share_workers(read_hosts(tmp_path / 'hosts.txt'), workers),
                       Shell([str(ssh)], sys.executable), node=['-c', NODE], **options)
    return make
