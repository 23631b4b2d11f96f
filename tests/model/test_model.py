"""The claim protocol holds in all states of its model; and each part that is left out shows why it is there."""

from pathlib import Path

import pytest

from tests.model.tlc import check

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


@pytest.mark.parametrize("flag", WEAKENED)
def test_without_it_something_goes_wrong(flag: str, tmp_path: Path) -> None:
    name, invariant = WEAKENED[flag]
    lines = [
        f"INVARIANT {invariant}"
        if line.startswith("INVARIANTS ")
        else line.replace(f"{flag} = TRUE", f"{flag} = FALSE")
        for line in _config(name).splitlines()
    ]
    verdict = check("\n".join(lines), tmp_path)
    assert verdict.violated == invariant, verdict.output[-8_000:]
    assert verdict.steps
