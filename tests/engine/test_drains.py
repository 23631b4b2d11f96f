"""Drains begin by what the ledger shows, in turn, and nobody waits for what does not concern him."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.topic import topic_of
from streams.drain.drains import Turns
from streams.errors import Unavailable
from streams.ledger.keys import HEADS
from tests.engine.checker import Checker
from tests.engine.profile import PROPERTY
from tests.engine.world import QUEUES, XFER_QUEUE, World
from tests.fakes.clock import timeless
from tests.fakes.faults import Faults
from tests.fakes.worker import FakeWorker

TOPIC = topic_of(XFER_QUEUE)
_SECOND = "http://second.example/.xfer.kumomta.internal"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5))))
@PROPERTY
def test_each_command_has_its_turn(asked: list[tuple[str, int]]) -> None:
    turns = Turns()
    expected: dict[str, list[tuple[str, int]]] = {}
    for command, number in asked:
        turns.add(command, (command, number))
        if (command, number) not in expected.setdefault(command, []):
            expected[command].append((command, number))
    had: list[tuple[str, int]] = []
    while (where := turns.next()) is not None:
        had.append(where)
    assert {command: [where for where in had if where[0] == command] for command in expected} == expected
    # As long as a command waits, nobody has two more turns than it.
    for end in range(len(had)):
        so_far = Counter(where[0] for where in had[:end])
        waiting = [command for command in expected if so_far[command] < len(expected[command])]
        assert all(most <= so_far[command] + 1 for command in waiting for most in so_far.values())


def test_a_partition_that_waits_behind_many_has_its_turn_when_a_later_command_has() -> None:
    turns = Turns()
    for number in range(100):
        turns.add("transfer", ("queue", number))
    turns.add("cancel", ("queue", 99))
    assert [turns.next() for _ in range(3)] == [("queue", 0), ("queue", 99), ("queue", 1)]
    rest = list(iter(turns.next, None))
    assert rest == [("queue", number) for number in range(2, 99)]


def without_tasks(world: World) -> None:
    """Every task on the drains topic is lost from now on: acknowledged by a worker that died then."""
    topic = world.broker.topics[world.settings.drains_topic]
    for partition, log in enumerate(topic.logs):
        world.group.offsets[TP(topic.name, partition)] = log.end


@timeless
async def test_who_takes_over_begins_at_once_although_all_tasks_were_acknowledged() -> None:
    async with World(partitions=4, stalled_ms=10_000_000) as world:
        world.inject(80)
        faults = Faults()
        faults.on("transact:xferq.drain", "crash", after=3)
        first = world.worker(faults)
        world.cancel()
        await world.until(lambda: first.faults.dead)
        without_tasks(world)
        world.worker()
        assert (await world.ended("c1", within_s=10)).restored == 80
        Checker(world).check()


@timeless
async def test_what_is_given_back_and_taken_again_at_once_goes_on() -> None:
    """As after a rebalance that changes nothing: the attempt stops at its edge, when the share is ours again."""
    async with World(partitions=2, stalled_ms=10_000_000) as world:
        world.inject(60)
        worker = world.worker()
        world.cancel()
        await world.until(lambda: worker.faults.passed.count(f"transact:xferq.drain.{TOPIC}.0") > 2)
        shares = worker.engine.shares
        worker.engine.lose_shares()
        await asyncio.sleep(0.001)
        worker.engine.take_shares(shares, range(world.settings.drains_partitions))
        assert (await world.ended("c1", within_s=10)).restored == 60
        Checker(world).check()


@timeless
async def test_a_cancel_does_not_wait_for_the_drains_of_all_that_a_transfer_has_claimed() -> None:
    async with World(partitions=1, concurrent_drains=1, stalled_ms=10_000_000) as world:
        queues = [f"q{number}.example" for number in range(30)]
        for queue in queues:
            world.inject(3, queue)
        worker = world.worker(drains=False)
        world.transfer("s1", queue_names=queues)
        await world.until(lambda: len(world.ledger.claims_of("s1")) == 30)
        world.inject(3, _SECOND)
        world.cancel("c1", _SECOND, partition=1)
        await world.until(lambda: bool(world.ledger.claims_of("c1")))
        worker.begin_drains()
        await world.ended("c1")
        status = await world.status("s1")
        assert status is not None
        assert status.restored < 30
        await world.ended("s1")
        Checker(world).check()


async def get_stuck(world: World, worker: FakeWorker) -> list[str]:
    """Cancel some queues, more than a worker drains at a time; when each drain of them has failed once, their names."""
    stuck = [f"http://stuck{number}.example/.xfer.kumomta.internal" for number in range(8)]
    kafka = worker.engine.drainer._context.kafka
    reader = kafka.reader

    async def never(topic: str, *where: Any) -> Any:
        if "stuck" in topic:
            await asyncio.sleep(30)
            raise Unavailable("by script")
        return await reader(topic, *where)

    kafka.reader = never  # type: ignore[method-assign]
    for number, queue in enumerate(stuck):
        world.inject(1, queue)
        world.cancel(f"stuck{number}", queue, partition=1)
    await asyncio.sleep(30 * len(stuck))
    return stuck


@timeless
async def test_drains_whose_attempts_take_long_and_fail_leave_the_first_attempts_of_others_alone() -> None:
    """Eight of them, each waiting out its time-outs: their places are not those of what begins."""
    async with World(partitions=1, concurrent_drains=2, stalled_ms=10_000_000) as world:
        await get_stuck(world, world.worker())
        world.inject(3)
        world.cancel()
        began = asyncio.get_running_loop().time()
        await world.ended("c1")
        assert asyncio.get_running_loop().time() - began < 2


@timeless
async def test_a_topic_that_is_made_again_is_drained_again() -> None:
    async with World(stalled_ms=10_000_000) as world:
        world.worker()
        for id in ("c1", "c2"):
            world.inject(6)
            world.cancel(id)
            assert (await world.ended(id)).restored == 6
            world.broker.delete(TOPIC)


@timeless
async def test_what_has_failed_stays_among_its_kind_when_it_is_asked_for_again_and_when_shares_change() -> None:
    async with World(partitions=1, concurrent_drains=2, stalled_ms=10_000_000) as world:
        worker = world.worker()
        stuck = await get_stuck(world, worker)
        shares = worker.engine.shares
        for again in (False, True):
            if again:
                worker.engine.lose_shares()
                worker.engine.take_shares(shares, range(world.settings.drains_partitions))
            for queue in stuck:
                world.publish_task(topic_of(queue), 0)
            await asyncio.sleep(1)
            world.inject(3)
            world.cancel(f"c{again}")
            began = asyncio.get_running_loop().time()
            await world.ended(f"c{again}")
            assert asyncio.get_running_loop().time() - began < 2


@timeless
async def test_a_drain_that_fails_when_it_is_somebody_elses_by_then_is_no_reason_to_be_given_up() -> None:
    async with World(partitions=1, stalled_ms=10_000_000) as world:
        world.inject(3)
        faults = Faults()
        faults.on("transact:xferq.drain", "fenced")
        pause = faults.stand_still("transact:xferq.drain")
        worker = world.worker(faults)
        world.cancel()
        await pause.begun.wait()
        worker.engine.take_shares(worker.engine.shares, ())
        pause.over.set()
        await asyncio.sleep(30)
        assert worker.engine.health.waiting == 0
        assert worker.engine.health.problem() is None


@timeless
async def test_what_is_claimed_later_does_not_overtake_what_can_t_be_decided() -> None:
    """An hour of faults has found it: a look at the topic of the first claim fails, that of the second does not."""
    async with World(partitions=1, stalled_ms=10_000_000) as world:
        worker = world.worker(drains=False)
        for id in ("c1", "c2"):
            world.inject(6)
            world.cancel(id)
            await world.until(lambda: world.ledger.claim(TOPIC, id) is not None)  # noqa: B023
        await asyncio.sleep(3)
        worker.faults.on(f"topic:{TOPIC}", "unavailable")
        worker.begin_drains()
        await world.ended("c1", "c2")
        for queue in QUEUES:
            (log,) = world.broker.topics[topic_of(queue)].logs
            keys = [int((record.key or b"")[1:]) for record in log.all_records()]
            assert keys == sorted(keys)


# ---- the second look of a claim whose drains were quicker


@pytest.mark.parametrize("comes_again", [True, False], ids=["its command comes again", "nobody has its command"])
@timeless
async def test_whoever_dies_before_the_second_look_leaves_it_to_others(comes_again: bool) -> None:
    """All is drained and recorded at once; a dispatcher that came in the middle of the claim must not go on with it."""
    async with World(partitions=1, space_s=1e6) as world:
        world.inject(6)
        faults = Faults()
        faults.on(f"transact:xferq.claim.{TOPIC}.committed", "crash")
        pause = faults.stand_still(f"transact:xferq.claim.{TOPIC}.written")
        first = world.worker(faults)
        world.cancel()
        await pause.begun.wait()
        dispatcher = world.dispatcher()  # nobody was there when the claim looked
        dispatcher.join()
        assert len(dispatcher.poll(2)) == 2
        pause.over.set()
        await world.until(lambda: faults.dead)
        first.kill()
        if not comes_again:
            commands = world.broker.topics[world.settings.commands_topic]
            for partition, log in enumerate(commands.logs):
                world.group.offsets[TP(commands.name, partition)] = log.end
        second = Faults()
        second.on("delete_before", "unavailable", times=10_000)  # else nothing is left to be dispatched
        world.worker(second)
        assert (await world.ended("c1", within_s=10)).restored == 6
        await world.until(lambda: HEADS not in world.ledger.waiting(TOPIC, "c1"), 30)
        assert not dispatcher.commit()
        dispatcher.join()
        assert dispatcher.poll(100) == []
        Checker(world).heads_hold()


@timeless
async def test_a_claim_whose_second_look_goes_well_says_nothing_of_it() -> None:
    async with World() as world:
        world.inject(6)
        world.worker()
        world.cancel()
        said: set[str | None] = set()
        while (status := world.ledger.status("c1")) is None or status.state != "done":
            said.add(None if status is None else status.detail)
            await asyncio.sleep(0.001)
        await asyncio.sleep(5)
        assert said == {None}
        assert world.ledger.waiting(TOPIC, "c1") == {}
