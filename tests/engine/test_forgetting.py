"""Commands are forgotten some time after their end; one that comes again later than that is not carried out twice."""

import asyncio
from datetime import timedelta

import pytest
from faust.types import TP

from streams.domain.timestamp import format_time
from streams.domain.topic import topic_of
from streams.domain.transitions import State
from tests.engine.checker import Checker
from tests.engine.mistaken import Mistaken
from tests.engine.world import XFER_QUEUE, World
from tests.fakes.clock import now, skip, timeless
from tests.fakes.faults import Faults
from tests.fakes.worker import FakeWorker

TOPIC = topic_of(XFER_QUEUE)
DAY = timedelta(days=1)


async def come_again(world: World, partition: int = 0) -> FakeWorker:
    """The workers' offsets are lost: another worker is given all commands of a partition once more."""
    for worker in world.workers:
        worker.kill()
    world.group.offsets[TP(world.settings.commands_topic, partition)] = 0
    return world.worker()


@pytest.mark.parametrize("state", ["refused", "done"])
@timeless
async def test_nothing_is_forgotten_that_is_not_drained(state: State) -> None:
    """Whatever was written last: by a worker, say, that stood still before it said that the queue is unknown."""
    async with World(keep_commands_days=1.0) as world:
        world.inject(6)
        worker = world.worker(drains=False)
        world.cancel()
        await world.until(lambda: bool(world.ledger.claims(TOPIC)))
        status = world.ledger.recorded_status("c1")
        assert status is not None
        wrong = status.model_copy(update={"state": state, "finished_at": status.requested_at})
        await world.ledger.record_status(TOPIC, wrong)
        await asyncio.sleep(5)
        skip(3 * DAY)
        await asyncio.sleep(1_400)
        await world.ledger.barrier_all()
        assert [claim.id for claim in world.ledger.claims(TOPIC)] == ["c1"]
        worker.kill()
        world.worker()
        await world.until(lambda: not world.ledger.unfinished(TOPIC, 0) and not world.ledger.unfinished(TOPIC, 1))
        Checker(world).check()


@timeless
async def test_what_is_finished_is_forgotten() -> None:
    async with World(keep_commands_days=1.0) as world:
        world.inject(6)
        world.worker()
        world.cancel()
        await world.ended("c1")
        skip(2 * DAY)
        await world.until(lambda: world.ledger.status("c1") is None, 1_400)
        assert world.ledger.claims(TOPIC) == []


@timeless
async def test_a_command_that_comes_again_after_it_was_forgotten_is_refused() -> None:
    async with World(keep_commands_days=1.0) as world:
        world.inject(6)
        world.worker()
        world.cancel()
        await world.ended("c1")
        skip(2 * DAY)
        await world.until(lambda: world.ledger.status("c1") is None, 1_400)
        later = world.inject(6)
        await come_again(world)
        status = await world.ended("c1")
        assert status.state == "refused"
        assert "longer ago than ids are remembered (1 days, XFERQ_KEEP_COMMANDS_DAYS)" in (status.detail or "")
        assert world.ledger.claims(TOPIC) == []
        assert set(later) <= {id for id, places in Checker(world).places().items() if tuple(places) == (TOPIC,)}
        world.cancel("c2")
        assert (await world.ended("c2")).restored == 6


@timeless
async def test_an_old_command_that_waits_is_carried_out() -> None:
    async with World(keep_commands_days=0.01) as world:
        world.inject(6)
        faults = Faults()
        faults.on("transact:xferq.claim", "unavailable", times=500)
        world.worker(faults)
        world.cancel()
        await asyncio.sleep(2 * 864)
        status = await world.status("c1")
        assert status is not None
        assert status.state == "waiting"
        await come_again(world)
        status = await world.ended("c1")
        assert (status.state, status.restored) == ("done", 6)


@timeless
async def test_one_that_is_too_late_is_not_made_known_by_saying_what_it_waits_for() -> None:
    async with World(keep_commands_days=1.0) as world:
        world.inject(6)
        world.cancel()
        skip(2 * DAY)
        faults = Faults()
        faults.on("producer:xferq.claim", "unavailable", times=3)
        world.worker(faults)
        status = await world.ended("c1")
        assert (status.state, status.restored) == ("refused", 0)


@timeless
async def test_a_clock_that_is_ahead_neither_refuses_nor_forgets() -> None:
    """It is the broker's that counts."""
    async with World(keep_commands_days=30.0) as world, Mistaken(world, 60 * DAY) as mistaken:
        world.inject(6)
        await mistaken.cancels()
        assert (await world.ended("c1")).restored == 6
        # Finished, to who is right, some days ago.
        skip(5 * DAY)
        status = world.ledger.recorded_status("c1")
        assert status is not None
        moment = format_time(now() - 5 * DAY)
        await world.ledger.record_status(TOPIC, status.model_copy(update={"finished_at": moment}))
        await asyncio.sleep(1)
        await mistaken.engine.forgetting.forget_commands()
        assert await world.status("c1") is not None


@timeless
async def test_what_a_clock_that_is_behind_has_finished_is_not_forgotten_too_early() -> None:
    """Its command may come again, and is too young to be refused."""
    async with World(keep_commands_days=30.0) as world:
        world.inject(6)
        async with Mistaken(world, -60 * DAY) as mistaken:
            await mistaken.cancels()
        assert (await world.ended("c1")).restored == 6
        world.worker()
        await asyncio.sleep(1_400)
        assert await world.status("c1") is not None
        skip(31 * DAY)
        await world.until(lambda: world.ledger.status("c1") is None, 1_400)


@timeless
async def test_a_clock_that_is_behind_refuses_what_may_have_been_forgotten() -> None:
    async with World(keep_commands_days=1.0) as world, Mistaken(world, -60 * DAY) as mistaken:
        world.inject(6)
        await mistaken.cancels()
        await world.ended("c1")
        world.worker()
        skip(2 * DAY)
        await world.until(lambda: world.ledger.status("c1") is None, 1_400)
        later = world.inject(6)
        await mistaken.cancels()
        assert (await world.ended("c1")).state == "refused"
        assert set(later) <= {id for id, places in Checker(world).places().items() if tuple(places) == (TOPIC,)}
