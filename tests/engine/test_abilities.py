"""Two versions side by side: a worker leaves alone what needs more than its version can, and says so."""

import asyncio

import pytest
from faust.types import TP
from pydantic import ValidationError

from streams.domain.abilities import in_words
from streams.domain.claim import Control
from streams.domain.topic import topic_of
from streams.ledger.keys import claim_key, control_key
from tests.engine.checker import Checker
from tests.engine.world import XFER_QUEUE, World
from tests.fakes.clock import timeless
from tests.fakes.faults import Faults
from tests.fakes.worker import FakeWorker

TOPIC = topic_of(XFER_QUEUE)
HOLD = Control(action="hold", needs=("hold",), queue_name=XFER_QUEUE, requested_at="2026-11-29T10:00:00Z")
TEXT = in_words(["hold"])


def later_version(worker: FakeWorker) -> FakeWorker:
    worker.engine.ledger.abilities = frozenset({"hold"})
    return worker


async def control(world: World, wish: Control | None) -> None:
    await world.ledger.record(TOPIC, [(control_key("c"), None if wish is None else wish.to_bytes())])


def take_all(world: World, worker: FakeWorker, topic: str, partitions: int) -> None:
    worker.take([TP(topic, partition) for partition in range(partitions)])


def restored(world: World) -> int:
    return sum(step.restored for step in Checker(world)._progress().values())


@timeless
async def test_a_claim_that_needs_more_is_left_to_a_later_version() -> None:
    async with World() as world:
        world.inject(6)
        faults = Faults()
        faults.on("producer:xferq.drain.", "unavailable", times=10_000)
        earlier = world.worker(faults)
        world.cancel("c")
        await world.until(lambda: bool(world.ledger.claims(TOPIC)))
        (claim,) = world.ledger.claims(TOPIC)
        claim = claim.model_copy(update={"needs": ("hold",)})
        await world.ledger.record(TOPIC, [(claim_key(TOPIC, "c"), claim.to_bytes())])
        faults.clear()
        await asyncio.sleep(60)
        status = await world.status("c")
        assert status is not None
        assert (status.state, status.restored) == ("claimed", 0)
        assert TEXT in (status.detail or "")
        assert any(TEXT in note for note in earlier.engine.health.noted)
        later = later_version(world.worker())
        settings = world.settings
        take_all(world, later, settings.drains_topic, settings.drains_partitions)
        assert (await world.ended("c")).restored == 6
        await asyncio.sleep(60)
        assert not any(TEXT in note for note in earlier.engine.health.noted)
        # Not all of `check`: the test has written the claim a second time.
        Checker(world).each_message_is_in_one_place()
        Checker(world).one_log_record_per_move()


@timeless
async def test_a_drain_stops_at_its_next_edge_where_a_control_needs_more() -> None:
    async with World(transaction_messages=2) as world:
        world.inject(40)
        faults = Faults()
        pause = faults.stand_still("transact:xferq.drain.", after=1)
        world.worker(faults)
        world.cancel("c")
        await pause.begun.wait()
        await control(world, HOLD)
        await asyncio.sleep(5)
        pause.over.set()
        await asyncio.sleep(60)
        before = restored(world)
        assert 0 < before < 40
        status = await world.status("c")
        assert status is not None
        assert (status.state, TEXT in (status.detail or "")) == ("claimed", True)
        await control(world, None)
        assert (await world.ended("c")).restored == 40
        Checker(world).check()


@timeless
async def test_what_was_claimed_behind_it_does_not_overtake_what_is_left_alone() -> None:
    async with World(partitions=1) as world:
        world.inject(6)
        faults = Faults()
        faults.on("producer:xferq.drain.", "unavailable", times=10_000)
        world.worker(faults)
        world.cancel("c")
        await world.until(lambda: bool(world.ledger.claims(TOPIC)))
        await control(world, HOLD)
        world.inject(6)
        world.cancel("d")
        await world.until(lambda: len(world.ledger.claims(TOPIC)) == 2)
        faults.clear()
        await asyncio.sleep(60)
        assert restored(world) == 0
        status = await world.status("d")
        assert f"what was claimed before, by c: {TEXT}" in ((status and status.detail) or "")
        await control(world, None)
        await world.ended("c", "d", within_s=5)
        for name, topic in world.broker.topics.items():
            if name.startswith("queue.") and name != TOPIC:
                ids = [int((record.key or b"").decode()[1:]) for log in topic.logs for record in log.all_records()]
                assert ids == sorted(ids)


@timeless
async def test_a_command_does_not_begin_where_its_control_needs_more() -> None:
    async with World() as world:
        world.inject(6)
        world.cancel("c")
        await control(world, HOLD)
        world.worker()
        await asyncio.sleep(60)
        status = await world.status("c")
        assert status is not None
        assert (status.state, TEXT in (status.detail or "")) == ("waiting", True)
        assert Checker(world).claims(ever=True) == []
        later = later_version(world.worker())
        settings = world.settings
        take_all(world, later, settings.commands_topic, settings.commands_partitions)
        take_all(world, later, settings.drains_topic, settings.drains_partitions)
        assert (await world.ended("c")).restored == 6
        Checker(world).check()


@timeless
async def test_an_end_is_left_to_the_version_that_knows_it() -> None:
    """All is drained, but the control says more than this version understands: the end may be another one."""
    async with World() as world:
        world.inject(6)
        faults = Faults()
        world.worker(faults)
        pause = faults.stand_still("transact:xferq.drain.", after=0)
        world.cancel("c")
        await pause.begun.wait()
        await control(world, HOLD)
        await asyncio.sleep(5)
        pause.over.set()
        await asyncio.sleep(120)
        assert world.ledger.outcome("c") is None
        await control(world, None)
        assert (await world.ended("c")).restored == 6


def test_an_action_that_is_not_known_says_what_it_needs() -> None:
    with pytest.raises(ValidationError, match="has to say what it needs"):
        Control(action="hold", queue_name=XFER_QUEUE, requested_at="2026-11-29T10:00:00Z")
