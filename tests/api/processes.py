"""`xferq` as people run it: processes, their output, their exit status."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from tests.support.patience import WAIT_S
from tests.support.warm import XFERQ, WarmPopen, run

_LISTENING = re.compile(r"api\.listening url=(\S+)")


def environment(variables: Mapping[str, str], home: Path) -> dict[str, str]:
    """This environment without settings of xferq's but these, and a home of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("XFERQ_")}
    scratch = home / "tmp"  # for what a process leaves there when it is killed
    scratch.mkdir(parents=True, exist_ok=True)
    folders = {
        "TMPDIR": str(scratch),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"),
    }
    if "XFERQ_CACHE_DIR" in os.environ:
        folders["XFERQ_CACHE_DIR"] = os.environ["XFERQ_CACHE_DIR"]
    return clean | folders | {"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"} | dict(variables)


def xferq(
    *arguments: str, env: Mapping[str, str], status: int = 0, stdin: bytes = b""
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end; it must end with this status, and never with a traceback."""
    result = run([XFERQ, *arguments], env=env, stdin=stdin, wait_s=WAIT_S)
    stdout, stderr = result.stdout.decode(), result.stderr.decode()
    assert result.returncode == status, f"{arguments}: {result.returncode}\n{stdout}\n{stderr}"
    assert "Traceback" not in stderr + stdout
    return subprocess.CompletedProcess(result.args, result.returncode, stdout, stderr)


class ApiProcess:
    """`xferq api` on a free port; also a context manager. `url` is where it listens."""

    def __init__(self, env: Mapping[str, str], *options: str) -> None:
        self._process = WarmPopen(
            [XFERQ, "api", "--port", "0", *options], env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        self.log: list[str] = []
        self.url = ""
        for line in self._lines():
            found = _LISTENING.search(line)
            if found:
                self.url = found[1]
                break
        assert self.url, "".join(self.log)
        # Read on, or the pipe would fill up and stop it.
        threading.Thread(target=lambda: list(self._lines()), daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def _lines(self) -> Iterator[str]:
        for line in self._process.stderr or ():
            self.log.append(line.decode(errors="replace"))
            yield self.log[-1]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(WAIT_S)

    def __enter__(self) -> "ApiProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
