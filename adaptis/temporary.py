"""Temporary names beside the files that they will replace, and what killed processes leave of them.

The name of a temporary file says which process of which machine writes it.  The first time that a
process writes into a folder, it removes there what processes have left that no longer run.
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
    """Create an empty file with a name of its own; OSError if that fails."""
    sweep(folder)
    handle, name = tempfile.mkstemp(dir=folder, prefix=_prefix(), suffix=suffix)
    os.close(handle)
    return Path(name)


def make_temporary_folder(folder: Path) -> Path:
    """Create an empty folder with a name of its own; OSError if that fails."""
    sweep(folder)
    return Path(tempfile.mkdtemp(dir=folder, prefix=_prefix()))


def remove_temporary_folder(temporary: Path) -> None:
    """Remove such a folder; what was moved into it to be replaced goes back if nothing came."""
    with contextlib.suppress(OSError):
        for replaced in (temporary / REPLACED).iterdir():
            target = temporary.parent / replaced.name
            if not target.exists():
                replaced.rename(target)
    shutil.rmtree(temporary, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what processes of this machine that no longer run have left in a folder."""
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
    except (PermissionError, OverflowError):   # of another user, or no number of a process
        return True
    return True
