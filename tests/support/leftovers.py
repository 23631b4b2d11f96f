"""A plugin of pytest: no test leaves a process, a port, a file or a topic behind.

It looks at the end of each module (in each process that runs tests) and at the end of the run. What it finds it ends
or removes, so that nothing follows from it, and the last test of the module fails in its teardown, with what was found
and by which test, where that can be told. What fixtures of the session hold is not left: they are asked for what they
hold now, as a test may have started their broker again.
"""

import gc
import os
import shutil
import signal
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from types import MethodType
from typing import Any

import pytest

from tests.support import names
from tests.support.processes import all_pids, below, environment_of, listening_sockets, stat_of
from tests.support.warm import started_by

VARIABLE = "TEST_XFERQ_RUN"
"""Every process that comes from a run has its mark in this one; not `XFERQ_`: tests remove those."""
_GRACE = "TEST_XFERQ_GRACE_S"
_GRACE_S = 10.0
"""For what ends by itself once its parent has, or its topic is deleted; waited for only if there is something."""
_OURS = ("streams", "api", "tests")
_DEEP = 10

Thing = tuple[str, str]
"""A kind, and which one it is."""


def pytest_configure(config: pytest.Config) -> None:
    """Watch in the processes that run tests, not in the one that only hands them out."""
    hands_out = getattr(config.option, "dist", "no") != "no" and not hasattr(config, "workerinput")
    if not hands_out and Path("/proc/self/environ").exists():
        config.pluginmanager.register(Leftovers(), "xferq-leftovers")


class Leftovers:
    """What is there, and what of it may be."""

    def __init__(self) -> None:
        before = os.environ.get(VARIABLE, "")
        self._run = f"{before}/{names.RUN}"
        os.environ[VARIABLE] = self._run
        # pytest's own folders stay where they are: they are kept for whoever looks for the reason of a failure.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        self._folder = Path(tempfile.mkdtemp(prefix="xferq-tests-"))
        os.environ["TMPDIR"] = str(self._folder)
        tempfile.tempdir = None
        self._ran: list[str] = []
        self._shared: set[Thing] = set(self._things())
        self._shared_names: set[str] = set()
        self._held: list[Any] = []
        """What fixtures of the session gave."""

    # ---- when it looks

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        """What a fixture of the session makes, by itself or through others, is there for all."""
        if fixturedef.scope not in ("session", "package"):
            return (yield)
        before, names_before = set(self._things()), len(names.given)
        value = yield
        self._shared |= set(self._things()) - before
        self._shared_names |= set(names.given[names_before:])
        self._held.append(value)
        return value

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        """After the last test of a module, and after all that pytest does at its end."""
        self._ran.append(item.name)
        if nextitem is not None and nextitem.path == item.path:
            return (yield)
        try:
            yield
        finally:
            left = self._left(is_end=nextitem is None)
            ran, self._ran = self._ran, []
        if left:
            pytest.fail(
                f"{item.path.name} leaves behind:\n  " + "\n  ".join(left) + f"\nRan here: {', '.join(ran)}",
                pytrace=False,
            )
        return None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        """Once more, where a run was stopped before its last test; and the folder goes."""
        try:
            yield
        finally:
            if left := self._left(is_end=True):
                print("left behind by this run:\n  " + "\n  ".join(left))
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
            os.environ["TMPDIR"] = str(self._folder.parent)
            tempfile.tempdir = None
            shutil.rmtree(self._folder, ignore_errors=True)
        return None

    # ---- what there is

    def _left(self, *, is_end: bool) -> list[str]:
        """What was left, in words; it is gone afterwards."""
        if is_end:
            self._shared = {thing for thing in self._shared if thing[0] == "port"}
        left = self._not_held(is_end)
        if left:
            gc.collect()  # a server that nobody holds any more
            ends_at = time.monotonic() + float(os.environ.get(_GRACE, _GRACE_S))
            while (left := self._not_held(is_end)) and time.monotonic() < ends_at:
                time.sleep(0.1)
        for thing in left:
            self._remove(*thing)
        return sorted(left.values())

    def _not_held(self, is_end: bool) -> dict[Thing, str]:
        pids: set[int] = set()
        paths: set[str] = set()
        if not is_end:
            for value in self._held:
                _reach(value, pids, paths, set(), _DEEP)
        held = {("process", str(pid)) for pid in below(pids)} if pids else set()
        held |= {("file", Path(path).name) for path in paths}
        there = self._things() | self._topics()
        return {thing: words for thing, words in there.items() if thing not in self._shared | held}

    def _things(self) -> dict[Thing, str]:
        found: dict[Thing, str] = {}
        us = os.getpid()
        ours = below([us])
        for pid in all_pids():
            environment = environment_of(pid)
            is_marked = f"{environment.get(VARIABLE, '')}/".startswith(f"{self._run}/")
            stat = stat_of(pid)
            by = started_by(pid)
            if pid != us and by != "" and (is_marked or pid in ours) and stat is not None and stat[0] not in "ZX":
                test = by or environment.get("PYTEST_CURRENT_TEST", "?")
                found["process", str(pid)] = _process_in_words(pid, test)
        for address in listening_sockets(us):
            found["port", address] = f"port: {address}, on which this process listens"
        for path in self._folder.iterdir():
            found["file", path.name] = f"file: {path}"
        return found

    def _topics(self) -> dict[Thing, str]:
        """Of this process, on what fixtures of the session hold."""
        return {
            ("topic", f"{servers} {topic}"): f"topic: {topic}"
            for servers in self._servers()
            for topic in names.topics_with(servers, names.RUN)
            if not any(name in topic for name in self._shared_names)
        }

    def _servers(self) -> set[str]:
        found = set()
        for value in self._held:
            if type(value).__name__ in ("EmbeddedBroker", "LinkedCluster") or hasattr(value, "shared_servers"):
                with suppress(Exception):  # it does not run just now
                    found.add(value.bootstrap_servers)
        return found

    def _remove(self, kind: str, which: str) -> None:
        if kind == "process":
            with suppress(OSError):
                os.kill(int(which), signal.SIGKILL)
        elif kind == "file":
            path = self._folder / which
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        elif kind == "topic":
            names.remove_topics(*which.split(" "))
        else:
            self._shared.add((kind, which))  # it can't be closed from here; it is said once


def _process_in_words(pid: int, test: str) -> str:
    command, ports = "?", []
    with suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:160]
        ports = list(listening_sockets(pid))
    where = f", listening on {', '.join(ports)}" if ports else ""
    return f"process: {pid} of {test}: {command}{where}"


def _reach(value: Any, pids: set[int], paths: set[str], seen: set[int], deep: int) -> None:
    """The processes and the files that an object of ours holds, through whatever it holds."""
    if id(value) in seen or deep == 0:
        return
    seen.add(id(value))
    parts: list[Any] = []
    if isinstance(value, Popen):
        pids.add(value.pid)
    elif isinstance(value, Path):
        paths.add(str(value))
    elif isinstance(value, MethodType):
        parts = [value.__self__]
    elif isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, list | tuple | set | frozenset | deque):
        parts = list(value)
    elif type(value).__module__ == "tempfile":
        paths.add(str(value.name))
    elif type(value).__module__.split(".")[0] in (*_OURS, "contextlib"):
        parts = list(getattr(value, "__dict__", {}).values())
    for part in parts:
        _reach(part, pids, paths, seen, deep - 1)
