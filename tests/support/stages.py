"""Which stage of the whole run a test belongs to: by the Kafka that it needs, and whether it bears company."""

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKS = ("tests/test_architecture.py", "tests/test_docstrings.py", "tests/test_docs.py", "tests/test_readme.py")
"""What `make check` runs: the code and the pages as texts."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the run.

    `at_once` is how many tests run side by side. `minutes` is how long it takes, about: the estimate of the time that
    is left begins with it. With `shares_kafka` one node serves all of its tests. `paths` is where its tests are, if not
    anywhere.
    """

    name: str
    about: str
    at_once: int
    minutes: float
    shares_kafka: bool = False
    paths: Collection[str] = ()


ROUNDS = (
    ([Stage("check", "the code and the pages as texts", 1, 0.2, paths=CHECKS)],),
    ([Stage("quick", "everything without Kafka", 2, 2)],),
    ([Stage("broker", "on one Kafka that all of them share", 4, 5, shares_kafka=True)],),
    (
        [Stage("nodes", "each module on a Kafka of its own", 1, 10)],
        [
            Stage("cluster", "on three nodes", 1, 7),
            Stage(
                "packaging", "built, installed, run outside of the checkout", 1, 2, paths=["tests/test_packaging.py"]
            ),
        ],
        [Stage("model", "the claim's model in TLA+", 1, 9, paths=["tests/model"])],
    ),
    ([Stage("alone", "what stresses the machine or measures it, one by one", 1, 8, shares_kafka=True)],),
)
"""In the order in which they run: what is quick first, so that most failures show early. The lists of a round run side
by side, the stages of a list one after the other.

At most one node and one cluster are alive at a time, and nothing runs beside what stresses the machine.
"""
STAGES = tuple(stage for together in ROUNDS for lane in together for stage in lane)
NAMES = tuple(stage.name for stage in STAGES)
WITHOUT_KAFKA = frozenset({"check", "quick"})
FILES = "TEST_XFERQ_FILES"
"""A file that says where the tests of each stage are: made by who has looked everywhere, so that others need not."""
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
    if (file := os.environ.get(FILES)) and not os.path.exists(file) and "quick" in wanted:
        _note(stages, Path(file))
    left_out = [item for item in items if wanted and stages[item] not in wanted]
    items[:] = sorted((item for item in items if not wanted or stages[item] in wanted), key=place)
    return left_out


def _note(stages: Mapping[pytest.Item, str], file: Path) -> None:
    found: dict[str, dict[str, None]] = {}
    for item, stage in stages.items():
        found.setdefault(stage, {})[item.nodeid.partition("::")[0]] = None
    partial = file.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps({stage: list(names) for stage, names in found.items()}))
    partial.replace(file)
