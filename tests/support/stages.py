"""Which stage of the whole run a test belongs to: by the Kafka that it needs, and whether it bears company."""

from collections.abc import Collection
from dataclasses import dataclass

import pytest

CHECKS = ("tests/test_architecture.py", "tests/test_docstrings.py", "tests/test_docs.py", "tests/test_readme.py")
"""What `make check` runs: the code and the pages as texts."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the run.

    `at_once` is how many tests run side by side. `share` is how much of the whole run's time the stage takes, about:
    the estimate of the time that is left begins with it. With `shares_kafka` one node serves all of its tests. `paths`
    is where its tests are, if not anywhere.
    """

    name: str
    about: str
    at_once: int
    share: float
    shares_kafka: bool = False
    paths: Collection[str] = ()


STAGES = (
    Stage("check", "the code and the pages as texts", 1, 0.01, paths=CHECKS),
    Stage("quick", "everything without Kafka", 2, 0.08),
    Stage("broker", "on one Kafka that all of them share", 3, 0.30, shares_kafka=True),
    Stage("nodes", "each module on a Kafka of its own", 1, 0.22),
    Stage("alone", "what stresses the machine or measures it, one after the other", 1, 0.25, shares_kafka=True),
    Stage("cluster", "on three nodes", 1, 0.06),
    Stage("model", "the claim's model in TLA+", 1, 0.03, paths=["tests/model"]),
    Stage("packaging", "built, installed and run outside of the checkout", 1, 0.05, paths=["tests/test_packaging.py"]),
)
"""In the order in which they run: what is quick first, so that most failures show early."""
NAMES = tuple(stage.name for stage in STAGES)
_KINDS = {"mortal", "secured"}
"""Fixtures with a single node of a kind of its own, of which one is alive at a time."""


def stage_of(item: pytest.Item) -> str:
    """The one stage that runs this test: by the Kafka that its fixtures give it, else by its marker."""
    fixtures = set(getattr(item, "fixturenames", ()))
    if item.nodeid.partition("::")[0] in CHECKS:
        return "check"
    if "cluster" in fixtures:
        return "cluster"
    if _KINDS & fixtures:
        return "nodes"
    if "broker" in fixtures:
        return "alone" if item.get_closest_marker("alone") else "broker"
    marked = (name for name in reversed(NAMES) if item.get_closest_marker(name))
    return next(marked, "quick")


def select(items: list[pytest.Item], wanted: Collection[str]) -> list[pytest.Item]:
    """Put the items into the order of the stages, and take out those of other stages than the wanted ones.

    Within a stage, those that start a Kafka by themselves come first, while none is kept for the others.

    Returns those that were taken out.
    """

    def place(item: pytest.Item) -> tuple[int, list[str]]:
        kept = _KINDS | {"cluster"}
        return NAMES.index(stages[item]), sorted(kept & set(getattr(item, "fixturenames", ())))

    stages = {item: stage_of(item) for item in items}
    left_out = [item for item in items if wanted and stages[item] not in wanted]
    items[:] = sorted((item for item in items if not wanted or stages[item] in wanted), key=place)
    return left_out
