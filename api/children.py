"""Child processes: this process starts them and watches them; they end with it, however it ends."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from streams.children import end_children, end_with_parent, start_child

__all__ = ["Children", "end_with_parent"]


class Children:
    """A few `xferq` processes; also a context manager that ends them."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, arguments: Sequence[str], variables: Mapping[str, str], log: Path | None = None) -> None:
        """Start `xferq` with these arguments, and `variables` on top of the environment.

        Args:
            log: a file for what it says; None: it says it where this process does.
        """
        # With -P: without it, Python looks for every module in the folder where it was called first.
        command = [sys.executable, "-P", "-m", "api.cli", *arguments, "--with-parent"]
        with nullcontext() if log is None else log.open("wb") as output:
            self._running[name] = start_child(command, variables, output)

    def ended(self) -> tuple[str, int] | None:
        """The name and exit status of one that has ended, if any has."""
        for name, process in self._running.items():
            status = process.poll()
            if status is not None:
                return name, status
        return None

    def stop(self, timeout_s: float = 10.0) -> None:
        """End all of them, side by side: with SIGTERM, and after the time-out at once."""
        end_children(self._running.values(), timeout_s)
        self._running.clear()

    def __enter__(self) -> "Children":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
