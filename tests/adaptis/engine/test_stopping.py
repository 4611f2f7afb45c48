"""Requests to stop a run."""
from __future__ import annotations

import errno
import os
import signal
import sys

import pytest

from adaptis.engine.stopping import StopRequest


def test_an_error_of_a_closed_terminal_is_a_request_to_stop(
        monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with open(theirs, 'w', encoding='utf-8') as terminal, StopRequest() as without:
        monkeypatch.setattr(sys, 'stdout', terminal)
        broken_disk = OSError(errno.EIO, 'Input/output error')
        with StopRequest() as stop:
            assert stop.after_hang_up(broken_disk) == 0 and stop.status == 0
            os.close(ours)
            assert without.after_hang_up(broken_disk) == 0
            with pytest.raises(OSError) as found:
                os.write(theirs, b'5 steps')
            assert stop.after_hang_up(ValueError()) == 0
            assert stop.after_hang_up(found.value) == stop.status == 128 + signal.SIGHUP
            os.write(theirs, b'6 steps')   # goes nowhere
