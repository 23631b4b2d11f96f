"""The claim protocol holds in all states of its model; and each part that is left out shows why it is there."""

import re
from pathlib import Path

import pytest

from tests.model.tlc import check
from tests.support.examples import some

pytestmark = pytest.mark.model

_HERE = Path(__file__).parent
STRONG = {
    "crashes": 10_000,
    "commands": 10_000,
    "dispatchers": 10_000,
    "again": 10_000,
    "ends": 1_000,
    "stale": 1_000,
    "heads": 1_000,
}
"""The configurations, with the least number of different states of each: a model that can't move proves nothing."""
WEAKENED = {
    "Fencing": ("commands", "NoneClaimedTwice"),
    "Evicting": ("crashes", "NoneDispatchedAfterwards"),
    "HoldingAtTheCommit": ("crashes", "NoneClaimedThatWasDone"),
    "LookingAgain": ("crashes", "NoneDispatchedAfterwards"),
    "AwaitingTheMarker": ("crashes", "NoneDispatchedAfterwards"),
    "AwaitingThePut": ("crashes", "NoneDispatchedAfterwards"),
    "HoldingAtThePut": ("again", "NoneClaimedThatWasDone"),
    "ResumingAtTheLook": ("crashes", "NoneDispatchedAfterwards"),
    "ReadingToTheEnd": ("commands", "OneClaimPerCommand"),
    "ProvingByAWrite": ("stale", "OneClaimPerCommand"),
    "AskingWhoTookThem": ("heads", "NoneClaimedThatWasDone"),
}
"""What can be left out, with the configuration in which that shows, and the invariant that it violates."""
SMALLER = {
    "ReadingToTheEnd": {"Commands": "{k1}", "Messages": "1", "Crashes": "1", "Redeliveries": "0", "Fences": "1"},
    "ResumingAtTheLook": {
        "Messages": "1",
        "Crashes": "1",
        "Joins": "1",
        "Leaves": "0",
        "LostSeats": "1",
        "Fences": "1",
    },
    "ProvingByAWrite": {"Messages": "1", "Crashes": "0", "Fences": "1"},
    "HoldingAtThePut": {"Crashes": "1", "Joins": "2"},
}
"""It shows with less of these as well, long before all else has been seen."""


def _config(name: str) -> str:
    return (_HERE / f"{name}.cfg").read_text()


def test_all_configurations_are_run() -> None:
    assert {path.stem for path in _HERE.glob("*.cfg")} == STRONG.keys()
    flags = [line.split()[0] for line in _config("crashes").splitlines() if line.endswith(" = TRUE")]
    assert flags == list(WEAKENED)


@pytest.mark.parametrize("name", STRONG)
def test_the_protocol_holds(name: str, tmp_path: Path) -> None:
    verdict = check(_config(name), tmp_path)
    assert verdict.holds, verdict.output[-8_000:]
    assert verdict.distinct_states >= STRONG[name]


@pytest.mark.parametrize("flag", some([*WEAKENED]))
def test_without_it_something_goes_wrong(flag: str, tmp_path: Path) -> None:
    name, invariant = WEAKENED[flag]
    config = re.sub("^INVARIANTS .*", f"INVARIANT {invariant}", _config(name), flags=re.MULTILINE)
    for constant, value in (SMALLER.get(flag, {}) | {flag: "FALSE"}).items():
        config, found = re.subn(rf"^    {constant} = .*", f"    {constant} = {value}", config, flags=re.MULTILINE)
        assert found == 1
    verdict = check(config, tmp_path)
    assert verdict.violated == invariant, verdict.output[-8_000:]
    assert verdict.steps
