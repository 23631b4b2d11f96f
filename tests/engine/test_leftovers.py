"""What is left of commands that have ended goes, whoever dies or stands still meanwhile; and does no harm before."""

import asyncio
from datetime import timedelta

from faust.types import TP

from streams.domain.claim import Claim, Progress, StallReason, TransferCount
from streams.domain.status import Status
from streams.domain.topic import topic_of
from streams.ledger.keys import claim_key, command_key, progress_key, tally_key, waiting_key
from tests.engine.checker import Checker
from tests.engine.test_outcomes import LATER_S, keys_about, until_forgotten
from tests.engine.world import QUEUES, XFER_QUEUE, World
from tests.fakes.clock import skip, timeless
from tests.fakes.faults import Faults
from tests.fakes.log import FakeRecord

TOPIC = topic_of(XFER_QUEUE)


@timeless
async def test_a_claim_whose_second_look_was_not_crossed_out_is_forgotten() -> None:
    """The record could not be removed (or the worker was stopped before it was); what was claimed is freed already."""
    async with World() as world:
        world.inject(6)
        faults = Faults()
        faults.on("publish:xferq.ledger/waiting", "unavailable")
        world.worker(faults)
        world.cancel("c")
        await world.ended("c")
        await until_forgotten(world, "c")


@timeless
async def test_a_claim_whose_worker_was_killed_before_the_second_look_is_forgotten() -> None:
    """The drains are another worker's, and through before the command comes again, 15 s later."""
    async with World() as world:
        world.inject(6)
        other = world.worker()
        await asyncio.sleep(3)
        mortal = Faults()
        mortal.on(f"transact:xferq.claim.{TOPIC}.committed", "crash")
        world.worker(mortal)
        await asyncio.sleep(3)
        settings = world.settings
        other.take([TP(settings.drains_topic, p) for p in range(settings.drains_partitions)])
        world.cancel("c")
        await world.until(lambda: mortal.dead)
        world.workers[1].kill()
        await asyncio.sleep(15)
        other.take([TP(settings.commands_topic, p) for p in range(settings.commands_partitions)])
        await world.ended("c")
        await until_forgotten(world, "c")


@timeless
async def test_forgetting_that_was_cut_off_leaves_nothing_for_ever() -> None:
    async with World() as world:
        world.inject(6)
        mortal = Faults()
        mortal.on("publish:xferq.ledger/drained", "crash")
        world.worker(mortal)
        world.cancel("c")
        await world.ended("c")
        await world.until(lambda: mortal.dead, 2_000)
        world.worker()
        await until_forgotten(world, "c")


@timeless
async def test_what_a_drain_says_late_is_not_left_for_ever() -> None:
    """A worker stood still before it said why a drain does not get on; it goes on when all of it is forgotten."""
    async with World() as world:
        world.inject(6)
        world.worker()
        world.cancel("c")
        await world.ended("c")
        await until_forgotten(world, "c")
        late = StallReason(why="no leader", offset=0)
        await world.ledger.record(TOPIC, [(waiting_key(TOPIC, 0, "c"), late.to_bytes())])
        assert "waiting" in keys_about(world, "c")
        await until_forgotten(world, "c")


@timeless
async def test_a_view_that_missed_tombstones_drains_nothing_twice() -> None:
    async with World(space_s=1e6) as world:
        world.inject(6)
        faults = Faults()
        faults.on("delete_before:", "unavailable", times=10_000)
        worker = world.worker(faults)
        world.cancel("c")
        await world.until(lambda: bool(world.ledger.claims(TOPIC)))
        (claim,) = world.ledger.claims(TOPIC)
        await world.ended("c")
        await asyncio.sleep(LATER_S)
        assert keys_about(world, "c") == {"outcome", "id"}
        # As if it had stood still from before the drain until compaction had taken the tombstones away.
        worker.engine.ledger.apply(FakeRecord(0, 0, 0, claim_key(TOPIC, "c").encode(), claim.to_bytes(), ()))
        await asyncio.sleep(60)
        Checker(world).check()


@timeless
async def test_a_transfer_of_an_earlier_version_that_is_half_forgotten() -> None:
    """It was done; whoever forgot it (30 days later) died after the first of its claims."""
    async with World(keep_commands_days=1.0) as world:
        world.queue(QUEUES[0])
        q2 = world.queue(QUEUES[1])
        at = "2026-11-20T10:00:00Z"
        tally = TransferCount(queues=2, at=at)
        status = Status(
            id="s1", type="xfer.start", queue_name=XFER_QUEUE, state="done", queues=2, total=2, restored=2,
            offsets_total=2, offsets_done=2, requested_at=at, claimed_at=at, finished_at=at,
        )  # fmt: skip
        await world.ledger.record(TOPIC, [(tally_key(TOPIC, "s1"), tally.to_bytes())])
        await world.ledger.record(TOPIC, [(command_key("s1"), status.to_bytes())])
        claim = Claim(
            id="s1", kind="xfer.start", topic=q2, topic_id=world.broker.topics[q2].id, queue=QUEUES[1],
            xfer_queue=XFER_QUEUE, reason="why", group=world.settings.group_of(q2), ranges={0: (0, 1)}, claimed_at=at,
        )  # fmt: skip
        done = Progress(topic_id=claim.topic_id, claimed_at=at, offset=1, restored=1, done=True, at=at)
        await world.ledger.record(q2, [(claim_key(q2, "s1"), claim.to_bytes())])
        await world.ledger._publish(
            world.ledger.progress_partition(q2, 0), [(progress_key(q2, 0, "s1"), done.to_bytes())]
        )
        world.worker()
        await asyncio.sleep(5)
        shown = await world.status("s1")
        assert shown is not None
        skip(timedelta(days=3))
        await until_forgotten(world, "s1", kept=frozenset())
        assert shown.state == "done"


@timeless
async def test_the_progress_of_a_claim_that_can_t_be_understood_stays() -> None:
    """A later version has made it, and goes on with it."""
    async with World() as world:
        topic = world.queue()
        done = Progress(topic_id="t", claimed_at="2026-11-20T10:00:00Z", offset=1, restored=1, done=True, at="x")
        await world.ledger.record(topic, [(claim_key(topic, "c"), b'{"of": "later"}')])
        where = world.ledger.progress_partition(topic, 0)
        await world.ledger._publish(where, [(progress_key(topic, 0, "c"), done.to_bytes())])
        worker = world.worker()
        await asyncio.sleep(LATER_S)
        assert keys_about(world, "c") == {"claim", "drained"}
        assert worker.engine.ledger.unreadable == {topic}
        world.problems.clear()
