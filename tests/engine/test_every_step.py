"""A fault at every step by name: whatever happens at one call of Kafka's, all is as if it had not.

The steps are those that a run without faults passes; each is then run again with one fault at one of them.
"""

import asyncio
from collections import Counter
from functools import cache

import pytest
from faust.types import TP

from tests.engine.checker import Checker
from tests.engine.world import QUEUES, XFER_QUEUE, World
from tests.fakes.clock import run
from tests.fakes.faults import Faults
from tests.support.examples import some

SCENARIOS = ("cancel", "transfer", "kept", "streamed")
"""A cancel; a transfer; a cancel that waits for so long that it is kept; one in transactions that are sent in parts."""
SETTINGS = {
    "kept": {"pending_after_ms": 0},
    "streamed": {"transaction_messages": 100, "drain_bytes": 1, "partitions": 1},
}


def kinds_of(point: str) -> tuple[str, ...]:
    """What can happen at a point."""
    _, _, done = point.rpartition(".")
    if point.startswith(("close", "release")):
        return ("crash",)
    if point.startswith("transact:"):
        match done:
            case "begun" | "offsets":
                return ("crash", "unavailable", "fenced")
            case "written":
                return ("crash", "unknown", "fenced")
            case "committed":
                return ("crash", "unknown")
        return ("crash", "unavailable", "fenced")
    if point.startswith("send:"):
        return ("crash", "unavailable", "fenced")
    if point.startswith("publish"):
        return ("crash", "unknown") if done == "done" else ("crash", "unavailable", "unknown")
    return ("crash",) if done == "done" else ("crash", "unavailable")


async def carry_out(scenario: str, faults: Faults, *, lose_tasks: bool = False) -> bool:
    """One command from beginning to end, with a worker that takes over where the first one crashed; whether it did."""
    async with World(**SETTINGS.get(scenario, {})) as world:
        if scenario != "transfer":
            sources = [XFER_QUEUE]
            world.inject(9)
            world.inject_open(3).decide(commit=True)
            world.inject_open(2).decide(commit=False)
            world.inject(2, headers=lambda _: [("other", b"no envelope")])
        else:
            sources = [QUEUES[0], QUEUES[2]]
            world.queue()
            world.inject(5, QUEUES[0])
            world.inject(4, QUEUES[2])
            world.inject(1, QUEUES[2], headers=lambda _: [])
            world.queue(QUEUES[1])  # matches, and is empty
        for source in sources:
            dispatcher = world.dispatcher(source)
            dispatcher.join()
            dispatcher.poll(1)
            dispatcher.commit()
            dispatcher.poll(1)
        first = world.worker(faults)
        if scenario != "transfer":
            world.cancel("c")
        else:
            world.transfer("c")

        async def take_over() -> None:
            await world.until(lambda: faults.dead, within_s=1e5)
            first.kill()
            if lose_tasks:
                for partition, log in enumerate(world.broker.topics[world.settings.drains_topic].logs):
                    world.group.offsets[TP(world.settings.drains_topic, partition)] = log.end
            world.worker()

        taking_over = asyncio.create_task(take_over())
        status = await world.ended("c")
        await asyncio.sleep(12)  # the rounds of maintenance
        for dispatcher in world.dispatchers:
            dispatcher.poll(100)
        taking_over.cancel()
        checker = Checker(world)
        checker.check()
        checker.heads_hold()
        records, restored = checker.counts("c")
        assert status.state == "done"
        assert (status.total, status.restored) == (records, restored)
        assert status.returned == (1 if scenario == "transfer" else 2)
        assert status.returned_reasons == {"no_envelope": status.returned}
        assert list(world.workers[-1].unacknowledged()) == []
        assert len(checker.claims()) == len(sources)
        assert [worker.faults.dead for worker in world.workers] in ([False], [True, False])
        return faults.dead


@cache
def steps(scenario: str) -> list[str]:
    """The points that the scenario passes, in order, numbered where one is passed several times."""
    faults = Faults()
    run(lambda: carry_out(scenario, faults))
    # From here on there is only the standing work, over and over.
    ends = max(number for number, point in enumerate(faults.passed) if point.startswith(("publish:", "transact:")))
    return faults.passed[: ends + 12]


def cases() -> list[object]:
    """Scenario, number of the step, and what happens there."""
    found: list[object] = []
    for scenario in SCENARIOS:
        times: Counter[str] = Counter()
        for number, point in enumerate(steps(scenario)):
            times[point] += 1
            short = point.replace("queue.http-3a-2f-2fbogus.example-2f.xfer.kumomta.internal", "XQ")
            for kind in kinds_of(point):
                name = f"{scenario}-{short}-{times[point]}-{kind}"
                found.append(pytest.param(scenario, number, point, kind, id=name))
    return found


@pytest.mark.parametrize(("scenario", "number", "point", "kind"), some(cases()))
def test_a_fault_at_this_step_changes_nothing(scenario: str, number: int, point: str, kind: str) -> None:
    faults = Faults()
    faults.at(number, kind)
    crashed = run(lambda: carry_out(scenario, faults, lose_tasks=number % 2 == 0))
    assert faults.passed[number] == point
    assert crashed == (kind == "crash")


def test_the_steps_are_all_there() -> None:
    """The list above is made by itself: that nothing is missing from it has to be said."""
    for scenario in SCENARIOS:
        passed = "\n".join(steps(scenario))
        for point in (
            "producer:xferq.claim.",
            "transact:xferq.claim.",
            "committed:queue.",
            "stable_ends:queue.",
            "hold",
            "members",
            "publish:xferq.drains",
            "producer:xferq.drain.",
            "read:queue.",
            "transact:xferq.drain.",
            "publish:xferq.ledger",
            "delete_before:queue.",
        ):
            assert point in passed
    assert "transact:xferq.command.c.written" in steps("transfer")
    assert "publish:xferq.ledger/pending" in steps("kept")
    assert any(point.startswith("send:xferq.drain.") for point in steps("streamed"))
