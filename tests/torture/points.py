"""Kill a command before each of its operations on files, and repeat it.

    python -m tests.torture.points FOLDER COUNT ARGUMENT ...

runs ``adaptis ARGUMENT ...``, in which ``{out}`` stands for a new folder: once to the end and then,
for COUNT of its operations (0 = all of them), once until right before that operation and once more
to the end.  Prints a line of JSON for each: ``{"point": [i, n, event, path], "status": exit status
of the repetition, "left": temporary files, "same": whether its files are those of the undisturbed
run}``.  The processes are forked from one that has loaded MXNet, so each takes as long as its work.
"""
from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.torture.killing import leftovers, listing

CHANGING = {'os.rename', 'os.remove', 'os.mkdir', 'os.rmdir', 'os.chmod', 'os.link', 'os.symlink',
            'os.truncate'}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def main(arguments: Sequence[str]) -> int:
    """Run the command again and again; return 0."""
    root, count, command = Path(arguments[0]), int(arguments[1]), arguments[2:]
    import adaptis.model  # noqa: F401 - loads MXNet
    status, operations = _run(command, root / 'whole')
    assert status == 0, f'the command ends with {status}'
    numbers: Sequence[int] = range(len(operations))
    if count:
        numbers = sorted(random.Random(0).sample(numbers, min(count, len(numbers))))
    wanted = _content(root / 'whole')
    for number in numbers:
        folder = root / str(number)
        killed, _ = _run(command, folder, number)
        assert killed == -signal.SIGKILL, f'it ends with {killed} before operation {number}'
        status, _ = _run(command, folder)
        print(json.dumps({'point': [number, len(operations), *operations[number]],
                          'status': status, 'left': leftovers(folder),
                          'same': _content(folder) == wanted}), flush=True)
    return 0


def _run(command: Sequence[str], folder: Path, kill_at: int = -1
         ) -> tuple[int, list[tuple[str, str]]]:
    """Run a command in a child; return its exit status and its operations on files."""
    folder.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(2, 1)
        with os.fdopen(writing, 'w') as report:
            sys.addaudithook(_watch(folder, kill_at, report))
            from adaptis.cli import main as adaptis
            status = adaptis([part.format(out=folder) for part in command])
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as report:
        operations = [tuple(json.loads(line)) for line in report]
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), operations


def _watch(folder: Path, kill_at: int, report: Any) -> Any:
    """Return an audit hook that reports the operations below a folder, or kills at one."""
    seen = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event == 'open':
            path, _, flags = arguments
            if not flags & WRITING:
                return
        elif event in CHANGING:
            path = arguments[0]
        else:
            return
        # ``shutil.rmtree`` names files relative to the folder that it empties.
        inner = not os.path.isabs(os.fspath(path)) if event in ('os.remove', 'os.rmdir') else False
        if not inner and not str(path).startswith(f'{folder}{os.sep}'):
            return
        if seen == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1
        if kill_at < 0:
            report.write(json.dumps((event, Path(path).name)) + '\n')
    return hook


def _content(folder: Path) -> dict[str, bytes]:
    """Return all files; of JSON and Markdown, which hold times and folders, the names alone."""
    return {name: b'' if name.endswith(('.json', '.jsonl', '.md')) else content
            for name, content in listing(folder).items() if 'tfevents' not in name}


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
