"""The same harness with a part of xferq taken out: the checker must fail, or it proves nothing."""

import time
from pathlib import Path

import orjson
import pytest

from tests.broker.scene import wait_until
from tests.faults.history import History, read_history
from tests.faults.links import LinkedCluster
from tests.faults.load import Injector, durable_producer
from tests.faults.queue_trouble import PER_SECOND
from tests.faults.run import Plan, run
from tests.faults.stage import Stage
from tests.faults.verdict import Verdict, judge
from tests.faults.worker import GO_ON, STANDS_STILL

pytestmark = pytest.mark.cluster


def rules(verdict: Verdict) -> set[str]:
    """The rules that are broken."""
    assert verdict.totals["messages"] > 0
    return {violation.rule for violation in verdict.violations}


def test_without_transactions_the_checker_fails(cluster: LinkedCluster, tmp_path: Path) -> None:
    plan = Plan(seed=11, seconds=35, per_second=200, tracks=("workers",), weakness="transactions")
    assert rules(run(plan, tmp_path, print, cluster).verdict) & {"doubled", "moved wrongly", "logged wrongly"}


def test_without_the_second_look_the_checker_fails(cluster: LinkedCluster, tmp_path: Path) -> None:
    """The moment is made, as it is short.

    1. A claimer has seen that the group is empty, and stands still before its transaction.
    2. A dispatcher joins, is given the old heads, polls and sends.
    3. The claimer goes on. Its last look finds nothing new; the claim is made.
    4. The dispatcher commits what it has sent. It was never evicted, and goes on where it was.
    """
    go_on = tmp_path / "go on"
    with Stage("f12", tmp_path, cluster=cluster, weakness="second-look", guard_ms=3_600_000) as stage:

        def history() -> History:
            return read_history(stage.servers, stage.names, stage.settings)

        worker = stage.start_worker(0, {GO_ON: str(go_on)}).started()
        injector = Injector(stage.servers, stage.names, 1_000)
        injector.start()
        wait_until(lambda: injector.sent > 3_000)
        injector.stop()
        command = {"type": "xfer.cancel", "queue_name": stage.names.sources[1], "reason": "a fault run", "id": "a"}
        producer = durable_producer(stage.servers)
        producer.produce(stage.settings.commands_topic, orjson.dumps(command))
        producer.flush()
        worker.says(STANDS_STILL)
        stage.start_dispatcher("x1", stage.names.source_topics[1], PER_SECOND, direct=True, commits_after_s=8)
        wait_until(lambda: history().sent)
        go_on.touch()
        wait_until(lambda: history().statuses.get("a", {}).get("state") == "done")
        ended_at = time.time()
        wait_until(lambda: any((batch.committed_at or 0) > ended_at for batch in history().batches))
        stage.stop_dispatchers()
        found = history()
        found.heads = stage.heads()
        assert "dispatched after the claim" in rules(judge(found, injector.acknowledged, ["a"]))
