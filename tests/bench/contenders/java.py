"""The contenders in Java: compiled when they are first wanted, run on the Java runtime of the embedded broker."""

import asyncio
import hashlib
import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from streams.broker.jars import cache_dir
from streams.broker.java import java_executable
from tests.bench.contenders.child import run_children
from tests.bench.contenders.contender import Drained
from tests.bench.contenders.jars import class_path, compiler_jar

if TYPE_CHECKING:
    from tests.bench.world import World

SOURCES = Path(__file__).parent.parent / "java"
_RELEASE = "21"


class DoesNotCompile(Exception):
    """ECJ turned the sources down; the text is what it said."""


class JavaLoop:
    """One main class of tests/bench/java/, in one process; its job says how many threads it has."""

    def __init__(self, name: str, main_class: str, remark: str = "") -> None:
        self.name = name
        self.remark = remark
        self._main_class = main_class

    def why_not(self) -> str | None:
        """Nothing stands in the way where the embedded broker runs."""
        return None

    def prepare(self) -> None:
        """Fetch the jars and compile."""
        compiled()

    async def drain(self, world: "World") -> Drained:
        """Run the process."""
        job = await world.job(self.name)
        command = await asyncio.to_thread(java_loop_command, self._main_class)
        return await asyncio.to_thread(run_children, [(command, job)], world.stopwatch)


def java_contenders() -> list[JavaLoop]:
    """Those in Java."""
    return [
        JavaLoop("java-clients", "ClientsLoop"),
        JavaLoop("kafka-streams", "StreamsLoop"),
        JavaLoop("message-copier", "CopierLoop", "copies only, text without headers"),
    ]


def java_loop_command(main_class: str, *options: str) -> list[str]:
    """The command that runs a main class of ours, with options for Java."""
    # The collector that is meant for throughput, and room enough that it has little to do.
    return [
        str(java_executable()),
        "-Xms1g",
        "-Xmx2g",
        "-XX:+UseParallelGC",
        "-XX:-UsePerfData",
        *options,
        "-cp",
        os.pathsep.join(map(str, [compiled(), SOURCES, *_class_path()])),
        main_class,
    ]


@cache
def compiled() -> Path:
    """The folder with the compiled classes; compiles them where these very sources were not yet.

    Raises:
        DoesNotCompile: there is an error in them.
    """
    sources = sorted(SOURCES.glob("*.java"))
    ecj = compiler_jar(_quiet)
    digest = hashlib.sha256(ecj.name.encode())
    for source in sources:
        digest.update(source.read_bytes())
    folder = cache_dir() / "bench-classes" / digest.hexdigest()[:16]
    if folder.is_dir():
        return folder
    # Built beside it and then renamed: another process may do the same at the same time.
    partial = folder.with_suffix(f".{os.getpid()}")
    _compile(ecj, sources, partial)
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    return folder


def _compile(ecj: Path, sources: Sequence[Path], folder: Path) -> None:
    result = subprocess.run(
        [
            str(java_executable()),
            "-jar",
            str(ecj),
            f"-{_RELEASE}",
            "-proc:none",
            "-warn:none",
            "-encoding",
            "UTF-8",
            "-cp",
            os.pathsep.join(map(str, _class_path())),
            "-d",
            str(folder),
            *map(str, sources),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if result.returncode != 0:
        raise DoesNotCompile(result.stdout + result.stderr)


@cache
def _class_path() -> tuple[Path, ...]:
    return tuple(class_path(_quiet))


def _quiet(_: str) -> None:
    pass
