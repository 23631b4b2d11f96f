"""One thing that goes wrong for long, or at a bad moment, and what must not suffer from it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from faust.types import TP

from streams.domain.topic import topic_of
from streams.errors import Refused, Unavailable
from streams.worker import agents
from streams.worker.agents import AckQueue, Owns
from tests.engine.checker import Checker
from tests.engine.world import QUEUES, XFER_QUEUE, World
from tests.fakes.clock import timeless
from tests.fakes.faults import Crash, Faults
from tests.fakes.kafka import FakeKafka
from tests.fakes.worker import FakeEvent, FakeMessage

TOPIC = topic_of(XFER_QUEUE)
_SECOND = "http://second.example/.xfer.kumomta.internal"


@timeless
async def test_drains_that_fail_for_hours_leave_the_slots_to_the_others() -> None:
    async with World(concurrent_drains=1, partitions=1) as world:
        world.inject(3)
        world.inject(3, _SECOND)
        faults = Faults()
        faults.on(f"reader:{TOPIC}", "unavailable", times=500)
        world.worker(faults)
        world.cancel("c1", partition=0)
        await world.until(lambda: bool(world.ledger.claims(TOPIC)))
        await asyncio.sleep(5)
        world.cancel("c2", _SECOND, partition=1)
        assert (await world.ended("c2", within_s=60)).restored == 3
        recorded = world.ledger.recorded_status("c1")
        assert recorded is not None
        assert recorded.state == "claimed"
        faults.clear()
        assert (await world.ended("c1")).restored == 3
        Checker(world).check()


@timeless
async def test_a_task_that_came_often_takes_over_nothing_once_its_range_is_done() -> None:
    async with World(partitions=1) as world:
        world.inject(3)
        faults = Faults()
        world.worker(faults, repeat_tasks=20)
        world.cancel()
        await world.ended("c1")
        await asyncio.sleep(5)
        assert faults.passed.count(f"producer:xferq.drain.{TOPIC}.0") == 1


class _Refusing(FakeKafka):
    """The group can't be held from its second hold on."""

    holds = 0

    async def hold(self, group: str) -> Any:
        self.holds += 1
        if self.holds > 1:
            raise Refused(f"group {group} can't be joined: its members speak another protocol")
        return await super().hold(group)


@timeless
async def test_what_is_claimed_is_not_refused_any_more() -> None:
    """The group is empty when it is held, and somebody with another protocol joins right after the commit."""
    async with World() as world:
        world.inject(6)
        worker = world.worker()
        kafka = worker.engine.claimer._kafka
        kafka.__class__ = _Refusing
        world.cancel()
        status = await world.ended("c1")
        assert (status.state, status.restored) == ("done", 6)


class _Deaf(FakeKafka):
    """Tasks can't be published for a while; meanwhile what is in the ledger is told late."""

    deaf_s = 0.0

    async def publish(
        self, topic: str, records: Sequence[tuple[bytes, bytes | None]], partition: int | None = None
    ) -> None:
        if topic.endswith("drains") and self.deaf_s:
            self.deaf_s = 0.0
            raise Unavailable("by script")
        await super().publish(topic, records, partition)


@timeless
async def test_waiting_is_not_written_over_the_claim_that_came_before_the_trouble() -> None:
    async with World() as world:
        world.inject(6)
        worker = world.worker()
        await asyncio.sleep(1)
        kafka = worker.engine.claimer._kafka
        kafka.__class__ = _Deaf
        assert isinstance(kafka, _Deaf)
        kafka.deaf_s = 1.0
        # Our view of the ledger lags: what the claim wrote comes only with a barrier.
        known = worker.engine.ledger.recorded_status
        lag_until = asyncio.get_running_loop().time() + 1e9
        barrier = worker.engine.ledger.barrier

        def late(id: str) -> Any:
            return None if asyncio.get_running_loop().time() < lag_until else known(id)

        async def caught_up(name: str) -> None:
            nonlocal lag_until
            await barrier(name)
            if world.ledger.claims(TOPIC):
                lag_until = 0.0

        worker.engine.ledger.recorded_status = late  # type: ignore[method-assign]
        worker.engine.ledger.barrier = caught_up  # type: ignore[method-assign]
        states: list[str] = []
        for _ in range(2_000):
            await asyncio.sleep(0.01)
            status = world.ledger.recorded_status("c1")
            if not states:
                world.cancel()
                states.append("")
            elif status is not None and status.state != states[-1]:
                states.append(status.state)
        assert states == ["", "claimed", "done"]


@timeless
async def test_a_cancel_whose_status_was_overwritten_ends_all_the_same() -> None:
    """Whoever lost the command without knowing may write that it waits, after somebody else has claimed for it."""
    async with World() as world:
        world.inject(6)
        world.worker(drains=False)
        world.cancel()
        await world.until(lambda: bool(world.ledger.claims(TOPIC)))
        status = world.ledger.recorded_status("c1")
        assert status is not None
        waiting = status.model_copy(update={"state": "waiting", "queues": None, "claimed_at": None})
        await world.ledger.record_status(TOPIC, waiting)
        world.workers[0].begin_drains()
        ended = await world.ended("c1")
        assert (ended.state, ended.total, ended.restored) == ("done", 6, 6)


@timeless
async def test_a_transfer_ends_although_a_queue_that_it_claimed_is_gone_at_its_second_try() -> None:
    async with World() as world:
        world.queue()
        world.inject(4, QUEUES[0])
        world.inject(4, QUEUES[2])
        gone, other = topic_of(QUEUES[0]), topic_of(QUEUES[2])
        faults = Faults()
        faults.on(f"producer:xferq.claim.{other}", "unavailable")
        worker = world.worker(faults, drains=False)
        world.transfer("s1")
        await world.until(lambda: bool(world.ledger.claims(gone)))
        checker = Checker(world)
        checker.excuse(world.broker.topics[gone])
        world.broker.delete(gone)
        worker.begin_drains()
        status = await world.ended("s1")
        assert (status.state, status.restored) == ("done", 4)
        checker.check()


@timeless
async def test_a_topic_in_trouble_does_not_keep_the_space_of_all_behind_it() -> None:
    async with World(space_s=1e6) as world:
        queues = ["a.example", "b.example", "c.example"]
        topics = [world.queue(queue, 1) for queue in queues]
        for queue, topic in zip(queues, topics, strict=True):
            world.inject(3, queue)
            world.broker.group(world.settings.group_of(topic)).set_offset(topic, 0, 3)
        faults = Faults()
        faults.on(f"committed:{topics[0]}", "unavailable", times=5)
        world.worker(faults)
        await asyncio.sleep(60)
        assert [world.broker.topics[topic].logs[0].start for topic in topics] == [0, 3, 3]


class _DiesBetween(FakeKafka):
    """Writes single records, and is gone after the first one that removes something."""

    async def publish(
        self, topic: str, records: Sequence[tuple[bytes, bytes | None]], partition: int | None = None
    ) -> None:
        for record in records:
            await super().publish(topic, [record], partition)
            if record[1] is None:
                self.faults.crash()
                raise Crash


@timeless
async def test_a_claim_that_is_half_forgotten_is_not_drained_again() -> None:
    async with World(keep_commands_days=0.001, space_s=1e6) as world:
        world.inject(6)
        faults = Faults()
        faults.on("delete_before", Refused("not permitted"), times=100)
        worker = world.worker(faults)
        world.cancel()
        await world.ended("c1")
        kafka = worker.engine.ledger._kafka
        kafka.__class__ = _DiesBetween
        await asyncio.sleep(200)
        with pytest.raises(Crash):
            await worker.engine.forgetting.forget_commands()
        worker.kill()
        world.worker(Faults())
        await asyncio.sleep(60)
        Checker(world).check()


# ---- the hand-off


def _event(tp: TP, offset: int, acked: list[tuple[TP, int]]) -> Any:
    return FakeEvent(FakeMessage(tp, offset), lambda *what: acked.append(what))


async def _for_ever(*_: Any) -> bool:
    await asyncio.sleep(1e6)
    return True


@timeless
async def test_an_event_that_waits_for_its_turn_is_revoked_as_well() -> None:
    """It must not begin as one of ours when its partition has another owner by then."""
    before, agents._IN_HAND = agents._IN_HAND, 1
    try:
        acks = AckQueue()
        acked: list[tuple[TP, int]] = []
        end = asyncio.get_running_loop().create_future()

        async def first(*_: Any) -> bool:
            return bool(await end)

        began: list[bool] = []

        async def second(owns: Owns, _: asyncio.Future[None]) -> bool:
            began.append(owns())
            return True

        await acks.submit(_event(TP("drains", 0), 0, acked), first)
        waiting = asyncio.create_task(acks.submit(_event(TP("drains", 1), 0, acked), second))
        await asyncio.sleep(1)
        acks.drop({TP("drains", 0), TP("drains", 1)})
        end.set_result(True)
        await waiting
        await asyncio.sleep(1)
        assert began == []
        assert acked == []
        await acks.idle(0)
    finally:
        agents._IN_HAND = before
