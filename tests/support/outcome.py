"""What came of a whole run's stages, and the lines in which it is told."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from tests.support.progress import clock
from tests.support.stages import STAGES, Stage

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "test-results"


@dataclass(slots=True)
class Outcome:
    """What came of the stages so far."""

    counts: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Stage and test."""
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Skipped, or expected to fail; why, and how many tests."""
    seconds: dict[str, float] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    """Stages that did not come to their end."""
    hurry: str = ""
    """What was left out on a machine that is too slow for all, if it was."""
    shaky: list[tuple[str, str]] = field(default_factory=list)
    """Stage and test: failed, and then passed by itself."""

    def add(self, stage: str, report: Path) -> None:
        """Take in a stage's report, in the format of JUnit."""
        for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - pytest has just written it
            name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
            skipped = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                self.counts["failed"] += 1
                self.failed.append((stage, name))
            elif skipped is not None:
                kind = "xfailed" if skipped.get("type") == "pytest.xfail" else "skipped"
                self.counts[kind] += 1
                self.skipped[(kind, skipped.get("message") or "no reason given")] += 1
            else:
                self.counts["passed"] += 1

    def forgive(self, stage: str, report: Path) -> None:
        """Take in what a stage's failures came to when they were run once more by themselves."""
        again = Outcome()
        again.add(stage, report)
        first = [failure for failure in self.failed if failure[0] == stage]
        self.shaky += [failure for failure in first if failure not in again.failed]
        self.failed = [failure for failure in self.failed if failure[0] != stage] + again.failed
        self.counts["passed"] += len(first) - len(again.failed)
        self.counts["failed"] = len(self.failed)

    @property
    def is_good(self) -> bool:
        """Whether nothing failed and every stage came to its end."""
        return not self.failed and not self.broken

    def text(self, wanted: Sequence[Stage], total_s: float) -> Iterator[str]:
        """The end of the run, in lines."""
        yield "stage       time"
        for name, took_s in self.seconds.items():
            yield f"{name:10} {clock(took_s):>6}"
        yield f"{'all':10} {clock(total_s):>6}"
        for (kind, why), count in self.skipped.items():
            yield f"{kind} {count}: {why}"
        if self.hurry:
            yield self.hurry
        for stage in self.broken:
            yield f"stage {stage} did not come to its end: see {_shown(RESULTS / f'{stage}.log')}"
        for stage, test in self.shaky:
            yield f"failed once, and passed by itself: {test}: see {_shown(RESULTS / f'{stage}.log')}"
        for stage, test in self.failed:
            yield f"FAILED {test}: see {_shown(RESULTS / f'{stage}.log')}"
        if not self.is_good:
            yield "Kept for a look: test-results/<stage>.log has what tests and their workers said, kafka-<stage>.log"
            yield "what Kafka said. One test by itself: .venv/bin/python -m pytest FILE::TEST"
        not_run = [stage.name for stage in STAGES if stage not in wanted]
        if not_run:
            yield f"not run: {', '.join(not_run)}"
        yield f"{self.counts['passed']} passed, {self.counts['failed']} failed, {self.counts['skipped']} skipped"


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT))
