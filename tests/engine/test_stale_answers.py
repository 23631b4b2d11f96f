"""A broker that was away answers with what it knew before: which topics there were, and with which ids."""

import asyncio

import pytest

from streams.claim.request import ClaimRequest
from streams.errors import Unavailable
from streams.ports import Topic
from tests.engine.checker import Checker
from tests.engine.world import XFER_QUEUE, World
from tests.fakes.clock import timeless
from tests.fakes.kafka import FakeKafka
from tests.support.draining import drain


class Lagging(FakeKafka):
    """Answers the next `times` questions about topics with `old`."""

    old: Topic | None = None
    times = 0

    async def topic(self, name: str) -> Topic | None:
        there = await super().topic(name)
        if self.times:
            self.times -= 1
            return self.old
        return there


def lagging(world: World) -> Lagging:
    """The way to Kafka of the world's next worker, which is made to lag."""
    kafka = world.worker(drains=False).engine.drainer._context.kafka
    kafka.__class__ = Lagging
    assert isinstance(kafka, Lagging)
    return kafka


async def drained_with(times: int, *, is_of_another_id: bool = False) -> None:
    """See that all is restored though the drain is given so many old answers: no such topic, or one of another id."""
    async with World(stalled_ms=60_000) as world:
        topic = world.queue()
        world.inject(12)
        kafka = lagging(world)
        (worker,) = world.workers
        world.cancel()
        await world.until(lambda: bool(world.ledger.claims(topic)))
        kafka.old, kafka.times = Topic(topic, "the one before", 2) if is_of_another_id else None, times
        for partition in (0, 1):
            assert await drain(worker.engine.drainer, topic, partition) == ["c1"]
        assert kafka.times == 0
        status = await world.ended("c1")
        assert (status.total, status.restored, status.detail) == (12, 12, None)
        Checker(world).check()


@timeless
async def test_messages_are_not_given_up_for_one_answer_that_their_topic_is_gone() -> None:
    await drained_with(1)


@timeless
async def test_messages_are_not_given_up_for_as_long_as_the_controller_knows_their_topic() -> None:
    """A broker that is cut off may tell of the past for minutes, and always the same."""
    await drained_with(30)


@timeless
async def test_messages_are_not_given_up_for_one_broker_that_knows_their_topic_under_another_id() -> None:
    """It may have slept since before the topic was made again, and be the one that answers us every time."""
    await drained_with(30, is_of_another_id=True)


@timeless
async def test_messages_are_given_up_once_nobody_knows_their_topic_for_long_enough_and_that_is_said_before() -> None:
    async with World(stalled_ms=60_000, gone_s=60.0) as world:
        topic = world.queue()
        world.inject(12)
        worker = world.worker(drains=False)
        world.cancel()
        await world.until(lambda: bool(world.ledger.claims(topic)))
        world.broker.delete(topic)
        began = asyncio.get_running_loop().time()
        draining = [asyncio.create_task(drain(worker.engine.drainer, topic, partition)) for partition in (0, 1)]
        await asyncio.sleep(30)
        await world.ledger.barrier_all()
        status = await world.status("c1")
        assert status is not None
        assert (status.state, "was deleted: what was claimed of it is given up" in str(status.detail)) == (
            "claimed",
            True,
        )
        await asyncio.gather(*draining)
        assert 60 <= asyncio.get_running_loop().time() - began < 75
        status = await world.ended("c1")
        assert "lost" in str(status.detail)


@timeless
async def test_heads_are_guarded_as_long_as_any_broker_knows_their_topic_by_its_id() -> None:
    async with World(partitions=1, stalled_ms=10_000_000, space_s=1e6) as world:
        topic = world.queue()
        world.inject(12)
        kafka = lagging(world)
        world.cancel()
        await world.until(lambda: bool(world.ledger.claims(topic)))
        await asyncio.sleep(5)
        kafka.old, kafka.times = Topic(topic, "the one before", 1), 3
        group = world.broker.group(world.settings.group_of(topic))
        group.set_offset(topic, 0, 2)
        await asyncio.sleep(10)
        assert group.offset(topic, 0) == 12


@timeless
async def test_a_cancel_is_not_refused_for_as_long_as_the_controller_knows_the_queue() -> None:
    async with World(stalled_ms=60_000) as world:
        topic = world.queue()
        world.inject(12)
        kafka = lagging(world)
        await asyncio.sleep(5)
        kafka.times = 30
        world.cancel()
        await world.until(lambda: bool(world.ledger.claims(topic)))
        assert kafka.times == 0
        assert world.ledger.claims(topic)[0].offsets_total == 12


@timeless
async def test_nothing_claimed_is_freed_where_the_topics_id_is_told_wrongly() -> None:
    async with World(stalled_ms=10_000_000, space_s=1e6) as world:
        topic = world.queue()
        world.inject(12)
        kafka = lagging(world)
        (worker,) = world.workers
        world.cancel()
        await world.until(lambda: bool(world.ledger.claims(topic)))
        await asyncio.sleep(5)
        kafka.old, kafka.times = Topic(topic, "the one before", 2), 1
        await worker.engine.space.free(topic)
        assert [log.start for log in world.broker.topics[topic].logs] == [0, 0]


@timeless
async def test_a_topic_created_anew_in_the_middle_of_a_claim_is_not_claimed_as_the_old_one() -> None:
    async with World() as world:
        topic = world.queue()
        world.inject(6)
        kafka = lagging(world)
        (worker,) = world.workers
        await asyncio.sleep(5)
        kafka.old, kafka.times = Topic(topic, "the one before", 2), 1
        request = ClaimRequest("c", "xfer.cancel", XFER_QUEUE, topic, XFER_QUEUE, "why")
        with pytest.raises(Unavailable, match="another id"):
            await worker.engine.claimer.claim(request)
        assert kafka.times == 0
        claim = await worker.engine.claimer.claim(request)
        assert claim.topic_id == world.broker.topics[topic].id
        await world.ledger.barrier_all()
        assert world.ledger.claims(topic) == [claim]


@timeless
async def test_heads_are_guarded_for_as_long_as_the_controller_knows_their_topic() -> None:
    """One broker that does not know the topic is no reason to look after its heads no more."""
    async with World(partitions=1, stalled_ms=10_000_000, space_s=1e6) as world:
        topic = world.queue()
        world.inject(12)
        kafka = lagging(world)
        world.cancel()
        await world.until(lambda: bool(world.ledger.claims(topic)))
        await asyncio.sleep(5)
        kafka.times = 3
        group = world.broker.group(world.settings.group_of(topic))
        group.set_offset(topic, 0, 2)
        await asyncio.sleep(10)
        assert group.offset(topic, 0) == 12
