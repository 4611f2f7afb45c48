"""Start processes that do not need the script which started them.

A process that Python spawns imports the main module first.  That runs a script without
``if __name__ == '__main__'`` once more, and fails where the script comes from standard input.
"""
from __future__ import annotations

import pickle
import sys
import types
from multiprocessing.context import SpawnContext, SpawnProcess


class _Process(SpawnProcess):
    def start(self) -> None:
        """Start without the main module, unless what the process works on is defined there."""
        main = sys.modules['__main__']
        sys.modules['__main__'] = types.ModuleType('__main__')
        try:
            super().start()
            return
        except (pickle.PicklingError, AttributeError):
            pass   # nothing has been started yet
        finally:
            sys.modules['__main__'] = main
        super().start()


class _Context(SpawnContext):
    Process = _Process


def spawn_context() -> SpawnContext:
    """Return a context of ``multiprocessing`` whose processes do not import the main module."""
    return _Context()
