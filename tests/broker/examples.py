"""The programs in docs/examples/, run as a reader of theirs would run them."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from streams.broker.jars import kafka_jars
from streams.broker.java import java_executable
from tests.bench.contenders.jars import compiler_jar
from tests.broker.scene import WAIT_S, wait_until
from tests.pages import ROOT

EXAMPLES = ROOT / "docs" / "examples"
_NEEDED = ("kafka-clients", "slf4j-api", "lz4", "snappy", "zstd")
"""What a program with plain kafka-clients has on its class path."""
Change = Callable[[str], str]


class Program:
    """An example at work, with what it has printed."""

    def __init__(self, command: list[str], variables: Mapping[str, str]) -> None:
        self._files = tempfile.TemporaryDirectory(prefix="xferq-example-")
        self.has_ended = False
        """Whether it was seen to end by itself."""
        self._printed = Path(self._files.name) / "printed"
        self._errors = Path(self._files.name) / "errors"
        with self._printed.open("wb") as printed, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                command, env=os.environ | variables, stdin=subprocess.DEVNULL, stdout=printed, stderr=errors,
                start_new_session=True,
            )  # fmt: skip

    @property
    def lines(self) -> list[str]:
        """All whole lines so far; it must not have ended by itself, unless it was seen to."""
        assert self.has_ended or self._process.poll() in (None, -signal.SIGKILL), self.errors
        return self._printed.read_text(errors="backslashreplace").split("\n")[:-1]

    @property
    def errors(self) -> str:
        """The end of what it has said besides."""
        return self._errors.read_text(errors="replace")[-3_000:]

    def goes_on(self) -> None:
        """Wait until it prints something more."""
        so_far = len(self.lines)
        wait_until(lambda: len(self.lines) > so_far)

    def said(self, word: str) -> list[str]:
        """What follows a word at the beginning of a line."""
        return [line.removeprefix(word).strip() for line in self.lines if line.startswith(word)]

    def signal(self, number: signal.Signals) -> None:
        """A signal to it and to what it has started."""
        os.killpg(self._process.pid, number)

    def ends(self) -> int:
        """Wait until it has ended by itself; its exit status."""
        status = self._process.wait(WAIT_S)
        self.has_ended = True
        return status

    def kill(self) -> None:
        """SIGKILL."""
        if self._process.poll() is None:
            self.signal(signal.SIGKILL)
        self._process.wait(WAIT_S)

    def end(self) -> int:
        """Ctrl-C; its exit status."""
        self.signal(signal.SIGINT)
        return self._process.wait(WAIT_S)

    def close(self) -> None:
        """Gone, with what it has written."""
        self.kill()
        self._files.cleanup()


@contextmanager
def programs(variables: Mapping[str, str]) -> Iterator[Callable[..., Program]]:
    """Starts examples by their files' names and arguments; all of them end with the block."""
    with tempfile.TemporaryDirectory(prefix="xferq-examples-") as folder:
        started: list[Program] = []

        def start(file: str, *arguments: str, change: Change = str) -> Program:
            started.append(Program([*_command(file, Path(folder), change), *arguments], variables))
            return started[-1]

        try:
            yield start
        finally:
            for program in started:
                program.close()


def _command(file: str, folder: Path, change: Change) -> list[str]:
    """How an example is run, with its text changed."""
    text = (EXAMPLES / file).read_text(encoding="utf-8")
    changed = change(text)
    source = EXAMPLES / file
    if changed != text:
        source = folder / file
        source.write_text(changed, encoding="utf-8")
    match source.suffix:
        case ".py":
            return [sys.executable, str(source)]
        case ".java":
            return [
                str(java_executable()), "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
                "-cp", f"{_compiled(changed, source).name}{os.pathsep}{_class_path()}", source.stem,
            ]  # fmt: skip
        case _:
            if shutil.which("kcat") is None:
                pytest.skip("kcat is not installed (Debian's package kcat): cancel.sh is not tried")
            return ["bash", str(source)]


@cache
def _compiled(_: str, source: Path) -> tempfile.TemporaryDirectory[str]:
    """A single file's classes, kept until the end. With ECJ, as our Java runtime has no compiler."""
    # Not where tests have their files: those of a module go with it.
    folder = tempfile.TemporaryDirectory(prefix="xferq-classes-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT"))
    compiler = [
        str(java_executable()),
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-jar",
        str(compiler_jar(lambda _: None)),
    ]
    strict = ["-21", "-proc:none", "-failOnWarning", "-warn:raw,unchecked,unusedImport,unusedLocal"]
    where = ["-encoding", "UTF-8", "-cp", _class_path(), "-d", folder.name, str(source)]
    result = subprocess.run(
        [*compiler, *strict, *where], capture_output=True, text=True, check=False, timeout=3 * WAIT_S
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@cache
def _class_path() -> str:
    jars = kafka_jars(lambda _: None)
    return os.pathsep.join(str(jar) for jar in jars if jar.name.startswith(_NEEDED))
