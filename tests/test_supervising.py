"""The supervisor outlives that a worker can't be started just now."""

import subprocess
import sys
from typing import Any

import pytest

from streams.worker import supervisor


def test_what_can_t_be_started_just_now_is_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    fails = iter((False, True, True, False))

    def start(*_: Any) -> "subprocess.Popen[bytes]":
        if next(fails):
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        return started[-1]

    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(started) == 1:
            started[0].kill()
            started[0].wait()
        else:
            ours.stop(0, None)

    monkeypatch.setattr(supervisor, "start_child", start)
    monkeypatch.setattr(supervisor.time, "sleep", pause)
    ours = supervisor._Supervisor(1, 0)
    assert ours.run() == 0
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
