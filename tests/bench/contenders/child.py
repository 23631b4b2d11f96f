"""Contenders as processes: a job goes in, READY comes out, GO goes in, and what was done comes out.

Start, warm-up and connecting are over before READY, so that none of them is measured.
"""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import IO

from tests.bench.contenders.contender import Drained, Job, Source
from tests.bench.stopwatch import Stopwatch

_TIMEOUT_S = 900.0
_TAIL = 2000

Ready = Callable[[], None]
"""To be called by a loop when all is ready; returns when the clock runs."""
Loop = Callable[[Job, Source, str, Ready], tuple[int, int]]
"""Drains a source; the text tells ids of the warm-up from others. Returns messages and transactions."""


class ContenderFailed(Exception):
    """A process ended before it was done; the text has the end of what it said."""


def run_children(
    commands: Sequence[tuple[Sequence[str], Job]], stopwatch: Stopwatch, *, timeout_s: float = _TIMEOUT_S
) -> Drained:
    """Run commands side by side; what they took from the common GO until the last one is done."""
    with ExitStack() as stack:
        children = [stack.enter_context(_Child(command, job, timeout_s)) for command, job in commands]
        for child in children:
            child.expect("READY")
        stopwatch.start([child.pid for child in children])
        for child in children:
            child.send("GO")
        done = [json.loads(child.expect("DONE")) for child in children]
        return Drained(
            stopwatch.stop(),
            messages=sum(one["messages"] for one in done),
            transactions=sum(one["transactions"] for one in done),
        )


def python_command(module: str) -> list[str]:
    """The command that runs one of our modules."""
    return [sys.executable, "-m", module]


def serve(loop: Loop) -> None:
    """A child's side of it, in Python."""
    job = Job.from_json(sys.stdin.readline())

    def ready() -> None:
        print("READY", flush=True)
        if sys.stdin.readline().strip() != "GO":
            raise SystemExit("no GO")

    loop(job, job.warm_up, "warm-up", lambda: None)
    messages, transactions = loop(job, job.drain, "drain", ready)
    print("DONE", json.dumps({"messages": messages, "transactions": transactions}), flush=True)


class _Child:
    def __init__(self, command: Sequence[str], job: Job, timeout_s: float) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        # It reads blockingly from then on: a child that hangs is ended, and so is the read.
        self._timer = threading.Timer(timeout_s, self._process.kill)
        self._timer.daemon = True
        self._timer.start()
        self.send(job.to_json())

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def send(self, line: str) -> None:
        """One line to the child; one that has ended is noticed when it is read from."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def expect(self, word: str) -> str:
        """What follows `word` on the line that begins with it; other lines are passed over.

        Raises:
            ContenderFailed: the child ended before.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(word):
                return line.removeprefix(word).strip()
        self._errors.seek(0, 2)
        self._errors.seek(max(0, self._errors.tell() - _TAIL))
        said = self._errors.read().decode(errors="replace")
        raise ContenderFailed(f"{self._process.args!r} ended before {word}: {said}")
