"""Child processes: this process starts them and watches them; they end with it, however it ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from streams.settings.sources import inherited

_KILL_AFTER_S = 15.0


class Children:
    """A few `xferq` processes; also a context manager that ends them."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, arguments: Sequence[str], variables: Mapping[str, str], log: Path | None = None) -> None:
        """Start `xferq` with these arguments, and `variables` on top of the environment.

        Args:
            log: a file for what it says; None: it says it where this process does.
        """
        with nullcontext() if log is None else log.open("wb") as output:
            self._running[name] = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "api.cli", *arguments, "--with-parent"],
                stdin=subprocess.PIPE,  # never written: that it is open says that this process lives
                stdout=output,
                stderr=output,
                env={**os.environ, **variables},
                pass_fds=inherited(),
                start_new_session=True,  # Ctrl-C in a terminal is this process's to handle
            )

    def ended(self) -> tuple[str, int] | None:
        """The name and exit status of one that has ended, if any has."""
        for name, process in self._running.items():
            status = process.poll()
            if status is not None:
                return name, status
        return None

    def stop(self, timeout_s: float = 10.0) -> None:
        """End all of them, side by side: with SIGTERM, and after the time-out at once."""
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        for process in self._running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
        self._running.clear()

    def __enter__(self) -> "Children":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def end_with_parent() -> None:
    """End this process, which `Children` has started, when that one ends: standard input is closed then."""
    threading.Thread(target=_watch, name="parent", daemon=True).start()


def _watch() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_KILL_AFTER_S)
    os._exit(1)
