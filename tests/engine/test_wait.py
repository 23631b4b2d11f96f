"""Whoever waits is told for what, within five seconds."""

import asyncio
from typing import Any

import pytest

from streams.commands.wait import Wait
from streams.domain.topic import topic_of
from streams.errors import Refused
from tests.engine.checker import Checker
from tests.engine.world import QUEUES, XFER_QUEUE, World
from tests.fakes.clock import timeless
from tests.fakes.faults import Faults
from tests.fakes.kafka import FakeKafka
from tests.fakes.log import Transaction
from tests.support.examples import some

TOPIC = topic_of(XFER_QUEUE)


@timeless
async def test_what_lasts_is_told_once_and_what_does_not_is_never() -> None:
    told: list[tuple[float, str]] = []
    clock = asyncio.get_running_loop().time
    began = {"a": 0.0, "c": 13.0}

    async def say(why: str, for_s: float) -> bool:
        assert for_s == pytest.approx(0 if why == "d" else clock() - began[why])
        told.append((clock(), why))
        return len(told) != 1  # the first time, it could not be said

    async with Wait("a", say) as wait:
        await asyncio.sleep(10)
        wait.now("b")
        await asyncio.sleep(3)
        wait.now("c")
        await asyncio.sleep(100)
        await wait.tell("d")
        await asyncio.sleep(100)
    await asyncio.sleep(100)
    assert [why for _, why in told] == ["a", "a", "c", "d"]
    assert told[0][0] < 5
    assert told[2][0] < 10 + 3 + 5
    assert told[3][0] == 113


class _Hanging(FakeKafka):
    """Some of its calls don't come to an end, for as long as `at` says."""

    at = ""

    async def producer(self, transactional_id: str) -> Any:
        while self.at == "producer" and ".claim." in transactional_id:
            await asyncio.sleep(0.1)
        return await super().producer(transactional_id)

    async def stable_ends(self, topic: str, *args: Any, **options: Any) -> Any:
        while self.at == "stable_ends" and topic == TOPIC:
            await asyncio.sleep(0.1)
        return await super().stable_ends(topic, *args, **options)


async def _said(world: World, id: str, within_s: float = 5.0) -> str:
    """What the status says after that time."""
    await asyncio.sleep(within_s)
    status = world.ledger.status(id)
    assert status is not None
    assert status.state == "waiting"
    return str(status.detail)


@pytest.mark.parametrize(("at", "words"), [("producer", "transactional id"), ("stable_ends", "the heads of the queue")])
@timeless
async def test_a_claim_that_takes_long_says_for_what_before_anything_has_failed(at: str, words: str) -> None:
    async with World() as world:
        world.inject(6)
        worker = world.worker()
        await asyncio.sleep(3)
        kafka = worker.engine.claimer._kafka
        kafka.__class__ = _Hanging
        assert isinstance(kafka, _Hanging)
        kafka.at = at
        world.cancel("c1")
        world.cancel("c2", reason="another")  # of the same queue
        assert words in await _said(world, "c1")
        assert "earlier commands for the same queue" in await _said(world, "c2", 0)
        assert worker.engine.health.waiting == 2
        kafka.at = ""
        await world.ended("c1", "c2")
        status = await world.status("c1")
        assert status is not None
        assert (status.state, status.detail, status.restored) == ("done", None, 6)
        assert worker.engine.health.waiting == 0
        Checker(world).check()


@timeless
async def test_a_command_behind_a_strangers_transaction_in_the_ledger_is_told_by_the_worker() -> None:
    """In the partition of its id: before that is known to be its own, nothing can be said under it."""
    async with World(transaction_timeout_ms=900_000) as world:
        world.inject(6)
        worker = world.worker()
        await asyncio.sleep(3)
        ledger = worker.engine.ledger
        id = next(f"c{n}" for n in range(99) if ledger.partition_of(f"c{n}") != ledger.partition_of(TOPIC))
        log = world.broker.topics[world.settings.ledger_topic].logs[ledger.partition_of(id)]
        stranger = Transaction()
        log.append([(0, b"waiting/x/y/z", b"{}", ())], stranger)
        world.cancel(id)
        await asyncio.sleep(4.5)
        (note,) = worker.engine.health.noted
        assert note.startswith(
            f"command {id} can't get on for 4 s: reading what the ledger says: a transaction is open in"
        )
        assert world.ledger.recorded_status(id) is None
        world.broker.decide(stranger, commit=False)
        assert (await world.ended(id)).restored == 6


@timeless
async def test_drains_that_wait_for_their_turn_say_so() -> None:
    async with World(partitions=1, concurrent_drains=1, stalled_ms=10_000_000) as world:
        for queue in (QUEUES[0], XFER_QUEUE):
            world.inject(6, queue)
        faults = Faults()
        pause = faults.stand_still("transact:xferq.drain")
        world.worker(faults)
        world.cancel("c1")
        await pause.begun.wait()
        world.transfer("s1", queue_names=[QUEUES[0]], partition=1)
        await world.until(lambda: (status := world.ledger.status("s1")) is not None and status.detail is not None, 20)
        status = world.ledger.status("s1")
        assert status is not None
        assert "its turn" in str(status.detail)
        pause.over.set()
        assert (await world.ended("c1", "s1")).detail is None


@timeless
async def test_a_refusal_has_the_last_word() -> None:
    """It comes just as what it waited for is being written: whatever the moment."""
    for step in some(range(60)):
        async with World() as world:
            world.inject(6)
            faults = Faults(step)
            faults.longest_s = 0.1
            worker = world.worker(faults)
            await asyncio.sleep(3)
            kafka = worker.engine.claimer._kafka

            async def members(group: str, after_s: float = 3.9 + step * 0.01) -> set[str]:
                await asyncio.sleep(after_s)
                raise Refused("by script")

            kafka.members = members  # type: ignore[method-assign, assignment]
            world.cancel()
            await world.ended("c1", within_s=20)
            await asyncio.sleep(10)
            status = await world.status("c1")
            assert status is not None
            assert (status.state, status.detail) == ("refused", "by script")


@timeless
async def test_a_command_that_waits_for_its_turn_says_nothing_under_the_id_of_another() -> None:
    """Nor is either of them carried out by nobody: the id is that of the first that has asked for it."""
    other = "http://other.example/.xfer.kumomta.internal"
    async with World() as world:
        world.inject(6)
        world.inject(6, other)
        worker = world.worker()
        await asyncio.sleep(3)
        kafka = worker.engine.claimer._kafka
        kafka.__class__ = _Hanging
        assert isinstance(kafka, _Hanging)
        kafka.at = "stable_ends"
        world.cancel("first")
        world.cancel("k", reason="behind the first, in its queue")
        await asyncio.sleep(20)
        world.cancel("k", other, partition=1)
        await asyncio.sleep(20)
        kafka.at = ""
        await world.ended("first", "k")
        status = await world.status("k")
        assert status is not None
        assert status.reason == "behind the first, in its queue"
        assert world.ledger.claims(topic_of(other)) == []
        assert list(worker.unacknowledged()) == []
