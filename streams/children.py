"""Child processes that end with their parent, however it ends, even by kill -9.

A child's standard input is a pipe whose other end only the parent has, and to which nothing is written: end of file
means that the parent is gone.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import IO

from streams.settings.sources import inherited

_KILL_AFTER_S = 15.0


def start_child(
    command: Sequence[str], variables: Mapping[str, str], output: IO[bytes] | None = None
) -> "subprocess.Popen[bytes]":
    """Start a command of xferq's, with `variables` on top of the environment; it has to call `end_with_parent`.

    What it says goes to `output`; where that is None, to where this process's goes.
    """
    return subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        env={**os.environ, **variables},
        pass_fds=inherited(),
        start_new_session=True,  # Ctrl-C in a terminal is the parent's to handle
    )


def end_children(children: Collection["subprocess.Popen[bytes]"], within_s: float = 10.0) -> None:
    """End all of them, side by side: with SIGTERM, and after so many seconds at once."""
    for child in children:
        child.terminate()
    deadline = time.monotonic() + within_s
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdin is not None:
            child.stdin.close()


def end_with_parent() -> None:
    """From now on, end this process when the one ends that has started it by `start_child`."""
    threading.Thread(target=_watch, name="parent", daemon=True).start()


def _watch() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_KILL_AFTER_S)
    os._exit(1)
