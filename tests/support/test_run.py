"""The closing lines of a whole run say what was run, what was not, and what failed."""

from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest

from tests.support.outcome import Outcome
from tests.support.run import is_late
from tests.support.stages import STAGES


def report(path: Path, **cases: str) -> Path:
    """A report as pytest writes it: for each test what came of it, as XML."""
    inside = "".join(
        f'<testcase classname="tests.test_a" name={quoteattr(name)}>{what}</testcase>' for name, what in cases.items()
    )
    path.write_text(f"<testsuites><testsuite>{inside}</testsuite></testsuites>")
    return path


FAILED = '<failure message="no">trace</failure>'
SKIPPED = '<skipped type="pytest.skip" message="no kcat">where</skipped>'


def closing(outcome: Outcome) -> list[str]:
    return list(outcome.text(STAGES[:2], 65))


def test_all_is_well(tmp_path: Path) -> None:
    outcome = Outcome()
    outcome.add("quick", report(tmp_path / "a", test_one="", test_two=SKIPPED))
    assert outcome.is_good
    lines = closing(outcome)
    assert lines[-1] == "1 passed, 0 failed, 1 skipped"
    assert "skipped 1: no kcat" in lines
    assert lines[-2] == "not run: broker, nodes, cluster, packaging, model, alone"


def test_a_failure_is_named_with_where_to_look(tmp_path: Path) -> None:
    outcome = Outcome()
    outcome.add("quick", report(tmp_path / "a", test_one="", test_two=FAILED))
    assert not outcome.is_good
    assert "FAILED tests/test_a.py::test_two: see test-results/quick.log" in closing(outcome)
    assert closing(outcome)[-1] == "1 passed, 1 failed, 0 skipped"


def test_a_stage_that_did_not_come_to_its_end_is_a_failure() -> None:
    outcome = Outcome(broken=["broker"])
    assert not outcome.is_good
    assert "stage broker did not come to its end: see test-results/broker.log" in closing(outcome)


def test_what_fails_among_others_only_is_named_and_what_fails_again_has_failed(tmp_path: Path) -> None:
    outcome = Outcome()
    outcome.add("check", report(tmp_path / "a", test_zero=FAILED))
    outcome.add("quick", report(tmp_path / "b", test_one="", test_two=FAILED, test_three=FAILED))
    outcome.forgive("quick", report(tmp_path / "c", test_two="", test_three=FAILED))
    assert not outcome.is_good
    lines = closing(outcome)
    assert "failed once, and passed by itself: tests/test_a.py::test_two: see test-results/quick.log" in lines
    assert "FAILED tests/test_a.py::test_three: see test-results/quick.log" in lines
    assert "FAILED tests/test_a.py::test_zero: see test-results/check.log" in lines
    assert lines[-1] == "2 passed, 2 failed, 0 skipped"


@pytest.mark.parametrize(
    ("taken_min", "done_min", "left_min", "is_late_then"),
    [(0, 0, 30, False), (0, 0, 60, True), (5, 2, 16, False), (5, 2, 20, True), (20, 10, 10, False), (30, 10, 10, True)],
)
def test_whether_it_gets_through_in_time(
    taken_min: float, done_min: float, left_min: float, is_late_then: bool
) -> None:
    assert is_late(taken_min, done_min, left_min, 50) == is_late_then


def test_what_was_left_out_in_a_hurry_is_said() -> None:
    outcome = Outcome(hurry="every fourth")
    assert "every fourth" in list(outcome.text(STAGES, 1.0))
