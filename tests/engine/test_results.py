"""What other services are told of commands: every change of state, no end that is none, and nothing late."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from streams.domain.topic import topic_of
from streams.errors import Refused, Rejected, Unavailable, XferqError
from tests.engine.checker import Checker
from tests.engine.test_outcomes import LATER_S, inject, withdraw
from tests.engine.world import QUEUES, XFER_QUEUE, World
from tests.fakes.clock import skip, timeless
from tests.fakes.faults import Faults

TOPIC = topic_of(XFER_QUEUE)


def told(world: World, id: str = "c") -> list[tuple[str, int]]:
    """States and revisions, in order."""
    return [(value["state"], value["revision"]) for value in Checker(world).results()[id] if value is not None]


def last(world: World, id: str = "c") -> dict[str, Any]:
    value = Checker(world).results()[id][-1]
    assert value is not None
    return value


@timeless
async def test_of_a_cancel() -> None:
    async with World() as world:
        world.inject(6)
        world.worker()
        world.cancel("c")
        status = await world.ended("c")
        assert told(world) == [("claimed", 1), ("done", 2)]
        assert (last(world)["restored"], last(world)["total"]) == (6, 6)
        assert last(world)["finished_at"] == status.finished_at
        Checker(world).check()


@timeless
async def test_of_a_transfer() -> None:
    async with World() as world:
        world.inject(6, QUEUES[0])
        world.worker()
        world.transfer("c", queue_names=[QUEUES[0]])
        await world.ended("c")
        assert told(world) == [("claimed", 1), ("done", 2)]
        assert (last(world)["queues"], last(world)["restored"]) == (1, 6)
        Checker(world).check()


@timeless
async def test_of_commands_that_do_nothing() -> None:
    async with World() as world:
        world.queue()
        world.worker()
        world.cancel("empty")
        world.cancel("unknown", queue="http://nowhere.example/.xfer.kumomta.internal")
        world.publish({"type": "xfer.dance", "id": "none"})
        await world.ended("empty", "unknown", "none")
        assert told(world, "empty") == [("done", 1)]
        assert told(world, "unknown") == told(world, "none") == [("refused", 1)]
        assert last(world, "none")["type"] is None
        Checker(world).check()


@timeless
async def test_of_what_was_withdrawn() -> None:
    async with World() as world:
        inject(world)
        world.cancel("c")
        await withdraw(world, "not now")
        world.worker()
        await world.ended("c")
        assert told(world) == [("refused", 1)]
        assert "not now" in last(world)["detail"]


@pytest.mark.parametrize("before", ["", ".written"])
@timeless
async def test_a_worker_that_stood_still_has_never_the_last_word(before: str) -> None:
    """It was about to say that the command is claimed; another worker has carried it out since."""
    async with World(space_s=1e6) as world:
        world.inject(6)
        faults = Faults()
        world.worker(faults)
        await asyncio.sleep(3)
        pause = faults.stand_still(f"transact:xferq.claim.{TOPIC}{before}")
        world.cancel("c")
        await pause.begun.wait()
        world.worker()
        await world.ended("c")
        pause.over.set()
        await asyncio.sleep(60)
        assert told(world) == [("claimed", 1), ("done", 2)]
        Checker(world).check()


@timeless
async def test_a_worker_that_stood_still_before_it_refuses_does_not_say_so() -> None:
    async with World(space_s=1e6) as world:
        world.inject(6)
        world.dispatcher().join()
        faults = Faults()
        world.worker(faults)
        faults.on("hold", Refused("by script"))
        pause = faults.stand_still("transact:xferq.claim.")
        world.cancel("c")
        await pause.begun.wait()
        world.worker()
        await world.ended("c")
        pause.over.set()
        await asyncio.sleep(60)
        assert told(world) == [("claimed", 1), ("done", 2)]
        Checker(world).check()


@timeless
async def test_without_the_topic_workers_work_and_say_so() -> None:
    async with World() as world:
        settings = world.settings
        world.broker.delete(settings.results_topic)
        world.inject(6)
        worker = world.worker()
        world.cancel("c")
        await world.ended("c")
        assert any(settings.results_topic in note for note in worker.engine.health.noted)
        world.broker.create(settings.results_topic, settings.results_partitions)
        await worker.engine.look()
        assert not any(settings.results_topic in note for note in worker.engine.health.noted)
        world.inject(6)
        world.cancel("d")
        await world.ended("d")
        assert Checker(world).results().keys() == {"d"}


@timeless
async def test_a_topic_that_can_t_be_written_holds_up_a_command_once() -> None:
    """Its group is evicted twice and not for ever; the end is told when it can be."""
    async with World() as world:
        world.inject(6)
        topic = world.broker.topics[world.settings.results_topic]
        limit, topic.max_message_bytes = topic.max_message_bytes, 10
        worker = world.worker()
        world.cancel("c")
        await world.ended("c", within_s=30)
        assert any("too_large" in note for note in worker.engine.health.noted)
        world.inject(6)
        world.cancel("d")
        await world.ended("d", within_s=10)
        assert Checker(world).results() == {}
        topic.max_message_bytes = limit
        await world.until(lambda: Checker(world).results().keys() >= {"c", "d"}, 2 * LATER_S)
        assert told(world, "c") == told(world, "d") == [("done", 2)]
        Checker(world).check()


@pytest.mark.parametrize(
    "error", [Unavailable("queue.results/0", {"queue.results"}), Rejected({("queue.results", 0): "x"})]
)
@timeless
async def test_another_topic_s_failure_is_not_put_down_to_it(error: XferqError) -> None:
    """Its name may be a part of another one's."""
    async with World(results_topic="results") as world:
        world.inject(6)
        faults = Faults()
        faults.on("transact:xferq.claim.", error)
        worker = world.worker(faults)
        world.cancel("c")
        await world.ended("c")
        assert not any("no results" in note for note in worker.engine.health.noted)
        assert told(world) == [("claimed", 1), ("done", 2)]


@timeless
async def test_a_broker_that_tells_of_the_past_hides_no_topic() -> None:
    async with World() as world:
        world.inject(6)
        faults = Faults()
        worker = world.worker(faults)
        await asyncio.sleep(5)
        kafka = worker.engine._results._kafka

        async def unknown(name: str) -> None:
            return None

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kafka, "topic", unknown)
            await worker.engine._results.look()
        world.cancel("c")
        await world.ended("c")
        assert told(world) == [("claimed", 1), ("done", 2)]


@timeless
async def test_what_the_ledger_forgets_is_removed() -> None:
    async with World(keep_commands_days=1.0) as world:
        world.inject(6)
        world.worker()
        world.cancel("c")
        await world.ended("c")
        skip(timedelta(days=5))
        await world.until(lambda: world.ledger.status("c") is None, 2_800)
        await world.until(lambda: Checker(world).results()["c"][-1] is None, 60)


@timeless
async def test_an_end_is_told_by_whoever_comes_after_a_crash() -> None:
    async with World() as world:
        world.inject(6)
        mortal = Faults()
        mortal.on("transact:xferq.claim.", "crash", after=1)
        world.worker(mortal)
        world.cancel("c")
        await world.until(lambda: mortal.dead)
        world.worker()
        await world.ended("c")
        assert told(world) == [("claimed", 1), ("done", 2)]


@timeless
@pytest.mark.parametrize("point", ["publish:xferq.ledger/outcome", "publish:xferq.results/"])
async def test_of_no_command_at_all_where_the_worker_dies_in_between(point: str) -> None:
    """Nothing is told that the ledger does not know; what it knows is told when the record comes again."""
    async with World() as world:
        mortal = Faults()
        mortal.on(point, "crash")
        world.worker(mortal)
        world.publish({"type": "xfer.dance", "id": "none"})
        await world.until(lambda: mortal.dead)
        assert "none" not in Checker(world).results()
        await world.ledger.barrier_all()
        known = world.ledger.recorded_status("none")
        assert (known is None) is ("ledger" in point)
        worker = world.worker()
        await world.ended("none")
        await world.until(lambda: not list(worker.unacknowledged()))
        assert told(world, "none") == [("refused", 1)]
        assert known in (None, world.ledger.recorded_status("none"))
        Checker(world).check()
