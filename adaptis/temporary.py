"""Temporary files beside those that they replace, and the leftovers of killed processes.

The name of a temporary file identifies the process and the machine that write it.  When a process
first writes to a folder, it removes the leftovers of processes that no longer run.
"""
from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import tempfile
from pathlib import Path

REPLACED = 'replaced'
"""Where a temporary folder keeps the folder that it replaces, under its own name."""
_NAME = re.compile(r'\.writing-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-.+')
_swept: set[Path] = set()


def make_temporary_file(folder: Path, suffix: str) -> Path:
    """Create an empty file with a unique name; OSError if that fails."""
    sweep(folder)
    handle, name = tempfile.mkstemp(dir=folder, prefix=_prefix(), suffix=suffix)
    os.close(handle)
    return Path(name)


def make_temporary_folder(folder: Path) -> Path:
    """Create an empty folder with a unique name; OSError if that fails."""
    sweep(folder)
    return Path(tempfile.mkdtemp(dir=folder, prefix=_prefix()))


def remove_temporary_folder(temporary: Path) -> None:
    """Remove such a folder, and restore the folder that it did not get to replace."""
    with contextlib.suppress(OSError):
        for replaced in (temporary / REPLACED).iterdir():
            target = temporary.parent / replaced.name
            if not target.exists():
                replaced.rename(target)
    shutil.rmtree(temporary, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove the leftovers in a folder of this machine's processes that no longer run."""
    folder = folder.absolute()
    if folder in _swept:
        return
    _swept.add(folder)
    for entry in os.scandir(folder):
        match = _NAME.fullmatch(entry.name)
        if match is None or match['host'] != _host() or _runs(int(match['pid'])):
            continue
        if entry.is_dir(follow_symlinks=False):
            remove_temporary_folder(Path(entry.path))
        else:
            with contextlib.suppress(OSError):   # another process may have removed it
                os.unlink(entry.path)


def _prefix() -> str:
    return f'.writing-{_host()}-{os.getpid()}-'


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):   # another user's process, or not a process id
        return True
    return True
