"""The broker's Java process, held through its watchdog."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from streams.broker import watchdog
from streams.broker.failure import BrokerError

# Options for Java from the surroundings (agents, heap sizes for other programs) aren't meant for this one.
_NOT_PASSED_ON = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH")
_STOP_S = 5.0
"""Longest wait for all threads of a process to stop."""


def java_environment() -> dict[str, str]:
    """This process's environment without what would change how Java runs; paths are UTF-8, whatever the locale."""
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    return kept | {"LC_ALL": "C.UTF-8"}


class BrokerProcess:
    """One run of Java. It ends with this process: see watchdog.py."""

    def __init__(self, command: Sequence[str], *, console_log: Path, remove_dir: Path | None) -> None:
        """Start the command.

        Args:
            console_log: gets what Java writes to its standard output and error; emptied first.
            remove_dir: folder that the watchdog removes when it has outlived this process.

        Raises:
            BrokerError: Java can't be executed.
        """
        self._watchdog = subprocess.Popen(  # noqa: S603
            # Isolated and without site: nothing of the surroundings can keep the watchdog from starting.
            [
                sys.executable,
                "-I",
                "-S",
                watchdog.__file__,
                str(console_log),
                str(remove_dir or "-"),
                *command,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=java_environment(),
            start_new_session=True,  # Ctrl-C in a terminal is this process's to handle
        )
        # Its standard input is never written: that it is open says that this process lives.
        self._lifeline = cast(IO[bytes], self._watchdog.stdin)
        with cast(IO[bytes], self._watchdog.stdout) as output:
            word, _, rest = output.readline().decode().strip().partition(" ")
        if word != "pid":
            self._watchdog.wait()
            raise BrokerError(f"Java can't be started: {rest or 'its watchdog ended at once'}")
        self.java_pid = int(rest)
        self.watchdog_pid = self._watchdog.pid

    @property
    def is_running(self) -> bool:
        """True until Java has ended (paused counts as running)."""
        return self._watchdog.poll() is None

    def terminate(self, timeout_s: float) -> None:
        """End Java in order, or, after timeout_s seconds, at once."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        try:
            self._watchdog.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
        self._reap()

    def kill(self) -> None:
        """End Java as a crash would, with SIGKILL."""
        self._signal(signal.SIGKILL)
        self._reap()

    def pause(self) -> None:
        """Stop Java from running (SIGSTOP): its connections stay open and nothing answers.

        Returns once all of its threads have stopped (Linux). On a busy machine the one that takes the signal may wait
        for a core, and the others go on answering meanwhile.
        """
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline and self.is_running and not _has_stopped(self.java_pid):
            time.sleep(0.005)

    def resume(self) -> None:
        """Let Java run again after a pause (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        # The watchdog reaps Java and then ends, so while it lives the id can't belong to another process
        # (but for a moment between the two that isn't worth a pidfd).
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.java_pid, number)

    def _reap(self) -> None:
        self._watchdog.wait()
        self._lifeline.close()


def _has_stopped(pid: int) -> bool:
    """Whether no thread of the process runs any more; true where that can't be seen."""
    try:
        stats = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:  # one has just ended, or the process has
        return False
    # The state comes behind the name, which is in brackets and may hold any character.
    return all(stat.rpartition(")")[2].split()[0] in "TtZX" for stat in stats)
