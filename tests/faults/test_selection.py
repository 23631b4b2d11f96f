"""A short fault run with a seed of its own, as part of the tests; `make faults` is the long one."""

from pathlib import Path

import pytest

from tests.faults.links import LinkedCluster
from tests.faults.run import Plan, run
from tests.support.patience import WAIT_S

pytestmark = pytest.mark.cluster

_SECONDS = 75
"""`make faults` fails after 30 s without progress; here a slow machine must not."""


def test_nothing_is_lost_and_nothing_is_twice_whatever_goes_wrong(cluster: LinkedCluster, tmp_path: Path) -> None:
    outcome = run(Plan(seed=4, seconds=_SECONDS, per_second=150), tmp_path, print, cluster)
    assert outcome.verdict.violations == [], outcome.story
    assert outcome.verdict.totals["restored"] > 0
    assert outcome.verdict.totals["dispatched"] > 0
    assert sum(outcome.faults.values()) > 10
    assert outcome.longest_stall_s < WAIT_S
