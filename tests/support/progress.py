"""Where a run of many minutes is: a line now and then instead of a dot for each test."""

import os
import time

import pytest

REST = "TEST_XFERQ_REST"
"""What comes after this stage, as a multiple of this stage's own time; set by `tests.support.run`."""
_EVERY_S = 10.0


class Progress:
    """Counts what has ended, in the process that shows it."""

    def __init__(self, stage: str, rest: float) -> None:
        self._stage = stage
        self._rest = rest
        self._began = time.monotonic()
        self._said_at = self._began
        self._total = 0
        self._ended: set[str] = set()
        self._failed = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without workers, what was selected here is what is run."""
        self._total = len(session.items)

    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """With workers, each says what it has found: the same as the others."""
        self._total = len(ids)

    def pytest_report_teststatus(self, report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str, str] | None:
        """No letter for what is as it should be."""
        if report.passed:
            return ("passed" if report.when == "call" else "", "", "")
        return None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One more test, or one that has failed."""
        if report.failed:
            self._failed += 1
            self._say(f"FAILED {report.nodeid}")
        if report.when != "teardown":
            return
        self._ended.add(report.nodeid)
        now = time.monotonic()
        if now - self._said_at >= _EVERY_S:
            self._said_at = now
            self._say(self._line(now - self._began))

    def _line(self, took_s: float) -> str:
        ended, total = len(self._ended), max(self._total, len(self._ended))
        whole_s = took_s * total / ended
        left_s = whole_s - took_s + whole_s * self._rest
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._stage}: {ended} of {total}{failed}, {clock(took_s)}; about {clock(left_s)} left in all"

    def _say(self, text: str) -> None:
        print(f"\n{text}", end="", flush=True)


def clock(seconds: float) -> str:
    """Minutes and seconds, as `3:07`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def pytest_configure(config: pytest.Config) -> None:
    """Only the process that talks to the terminal."""
    if not hasattr(config, "workerinput"):
        stage = ", ".join(config.getoption("--stage") or ["tests"])
        config.pluginmanager.register(Progress(stage, float(os.environ.get(REST, "0"))), "progress")
