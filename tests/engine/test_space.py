"""Space is freed below the head, never below what an unfinished claim has yet to drain."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.ledger_partitions import ledger_width
from streams.domain.topic import topic_of
from streams.ledger.keys import claim_key, command_key, head_key
from streams.worker.engine import Engine
from tests.engine.checker import Checker
from tests.engine.profile import PROPERTY
from tests.engine.world import XFER_QUEUE, World
from tests.fakes.clock import now, run, timeless
from tests.fakes.faults import Faults
from tests.fakes.kafka import FakeKafka
from tests.support.draining import drain

TOPIC = topic_of(XFER_QUEUE)


@timeless
async def test_an_unfinished_claim_keeps_what_it_has_to_drain() -> None:
    async with World(partitions=1) as world:
        world.inject(6)
        worker = world.worker(drains=False)
        log = world.broker.topics[TOPIC].logs[0]
        world.cancel("c1")
        await world.until(lambda: len(world.ledger.claims(TOPIC)) == 1)
        world.inject(4)
        dispatcher = world.dispatcher()
        await asyncio.sleep(12)  # rounds of freeing
        dispatcher.join()
        assert len(dispatcher.poll(100)) == 4
        assert dispatcher.commit()
        await asyncio.sleep(12)
        assert log.start == 0
        worker.begin_drains()
        await world.ended("c1")
        await asyncio.sleep(12)
        assert log.start == 10
        Checker(world).check()


@timeless
async def test_nothing_is_freed_of_what_the_ledger_knows_less_than_the_group(caplog: pytest.LogCaptureFixture) -> None:
    """A backup that is older than a claim was put back: what was claimed is still to be drained by somebody."""
    async with World(partitions=1) as world:
        world.inject(6)
        world.worker(drains=False)
        log = world.broker.topics[TOPIC].logs[0]
        world.cancel("c1")
        await world.until(lambda: len(world.ledger.claims(TOPIC)) == 1)
        await asyncio.sleep(12)
        keys = (claim_key(TOPIC, "c1"), head_key(TOPIC, 0), command_key("c1"))
        await world.ledger.record(TOPIC, [(key, None) for key in keys])
        await asyncio.sleep(60)
        assert log.start == 0
        assert f"maintenance.not_freed topic={TOPIC} partitions=[0] error='more of it was claimed" in caplog.text
        # Nor does another claim hide it.
        world.inject(4)
        world.cancel("c2")
        status = await world.ended("c2")
        assert status.state == "refused"
        assert "in partitions [0]: was an old backup restored?" in (status.detail or "")
        # Who commits says what has become of all that lies below.
        dispatcher = world.dispatcher()
        dispatcher.join()
        assert len(dispatcher.poll(100)) == 4
        assert dispatcher.commit()
        await asyncio.sleep(60)
        assert log.start == 10


@timeless
async def test_a_later_claim_of_other_partitions_leaves_the_stamps_where_they_are() -> None:
    async with World(partitions=2) as world:
        world.worker()
        for id in ("c1", "c2"):
            world.inject(1)  # in the one partition, and in the other
            world.cancel(id)
            assert (await world.ended(id)).restored == 1
        group = world.broker.group(world.settings.group_of(TOPIC))
        assert [group.stamped(TOPIC, partition) for partition in range(2)] == [1, 1]


@timeless
async def test_a_claim_whose_offsets_are_seen_before_its_record() -> None:
    """The marker in the ledger comes later than the one in the group's offsets."""
    async with World(partitions=1) as world:
        world.inject(6)
        worker = world.worker(drains=False)
        await world.until(lambda: bool(worker.engine._shares))
        delays = iter([0.0, 0.5] * 100)
        world.broker.marker_delay = lambda: next(delays)
        world.cancel("c1")
        group = world.broker.group(world.settings.group_of(TOPIC))
        while group.offset(TOPIC, 0) is None:
            await asyncio.sleep(0.001)
        assert world.ledger.claims(TOPIC) == []
        await worker.engine.space.free(TOPIC)
        assert world.broker.topics[TOPIC].logs[0].start == 0
        Checker(world).check()


@timeless
async def test_a_claim_of_another_ledger_between_two_looks_at_the_offsets() -> None:
    """Its stamp is looked for after the offsets were seen: before, it might not have been there yet."""
    async with World(partitions=1) as world:
        world.inject(6)
        worker = world.worker(drains=False)
        await world.until(lambda: bool(worker.engine._shares))
        faults = Faults()
        settings = world.settings.model_copy(update={"ledger_topic": "another.ledger"})
        world.broker.create(settings.ledger_topic, ledger_width(settings.ledger_partitions))
        engine = Engine(FakeKafka(world.broker, settings, faults), settings, now)
        await engine.ledger.start()
        stands = faults.stand_still(f"committed:{TOPIC}")
        freeing = asyncio.create_task(engine.space.free(TOPIC))
        await stands.begun.wait()
        world.cancel("c1")
        await world.until(lambda: len(world.ledger.claims(TOPIC)) == 1)
        stands.over.set()
        await freeing
        assert world.broker.topics[TOPIC].logs[0].start == 0
        await engine.stop()


@timeless
async def test_without_claims_what_was_dispatched_is_freed_and_no_more() -> None:
    async with World(partitions=1) as world:
        world.inject(6)
        world.worker()
        dispatcher = world.dispatcher()
        dispatcher.join()
        dispatcher.poll(4)
        assert dispatcher.commit()
        dispatcher.poll(1)
        await asyncio.sleep(12)
        assert world.broker.topics[TOPIC].logs[0].start == 4


@PROPERTY
@given(
    steps=st.lists(st.sampled_from(["inject", "claim", "dispatch", "free", "drain", "expire", "pass"]), max_size=14),
    seed=st.integers(0, 1_000),
)
def test_nothing_is_freed_that_was_neither_dispatched_nor_drained(steps: list[str], seed: int) -> None:
    async def work() -> None:
        async with World(partitions=1, space_s=1_000.0, stalled_ms=1_000_000) as world:
            chance = random.Random(seed)
            world.broker.marker_delay = lambda: chance.choice([0.0, chance.uniform(0, 0.3)])
            world.inject(3)
            log = world.broker.topics[TOPIC].logs[0]
            worker = world.worker(Faults(seed), drains=False)
            await world.until(lambda: bool(worker.engine._shares))
            dispatcher = world.dispatcher()
            freeing: list[asyncio.Task[None]] = []
            drained = 0
            for number, step in enumerate(steps):
                match step:
                    case "inject":
                        world.inject(2)
                    case "claim":
                        world.cancel(f"c{number}")
                    case "dispatch":
                        dispatcher.join()
                        dispatcher.poll(1)
                        dispatcher.commit()
                    case "free":
                        freeing.append(asyncio.create_task(worker.engine.space.free(TOPIC)))
                    case "drain":
                        drained += len(await drain(worker.engine.drainer, TOPIC, 0))
                    case "expire":
                        world.broker.group(world.settings.group_of(TOPIC)).set_offset(TOPIC, 0, None)
                    case _:
                        await asyncio.sleep(chance.uniform(0, 3))
                if chance.random() < 0.5:
                    await asyncio.sleep(chance.uniform(0, 0.02))
                Checker(world).nothing_claimed_was_freed({got.key for got in dispatcher.got})
            await asyncio.gather(*freeing, return_exceptions=True)
            dispatched = {got.key for got in dispatcher.got}
            Checker(world).nothing_claimed_was_freed(dispatched)
            moved = {r.key for log_ in world.broker.topics[world.settings.log_topic].logs for r in log_.all_records()}
            for record in log.decided(0, log.start):
                assert record.key in dispatched | moved

    run(work)
