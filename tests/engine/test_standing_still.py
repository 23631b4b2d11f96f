"""A worker stands still in the middle of a command, for as long as others need to carry it out; then it goes on.

What it says then was so when it looked. It must not be the command's last word.
"""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from streams.domain.status import Status
from streams.errors import Refused, Unavailable, XferqError
from streams.ledger.keys import command_key
from streams.ledger.ledger import Ledger
from tests.engine.checker import Checker
from tests.engine.world import QUEUES, XFER_QUEUE, World
from tests.fakes.clock import timeless
from tests.fakes.faults import Faults, Standstill

_STARTED_S = 3.0
"""By then the maintenance has had its first look at everything, and what passes a point next is the command."""


async def said(world: World, id: str) -> Status:
    """The command's status, once the worker that stood still has had its say, and the maintenance its look."""
    await asyncio.sleep(60)
    await world.ledger.barrier_all()
    recorded, status = world.ledger.recorded_status(id), world.ledger.status(id)
    assert recorded == status is not None
    return status


_SAYS = "publish:xferq.ledger/command"
"""The point at which a command's status is written, that it waits, say."""


async def silenced(
    world: World,
    send: Callable[[], object],
    before: str = _SAYS,
    at: str = "",
    error: XferqError | None = None,
    after: int = 0,
) -> Standstill:
    """Start a worker, send it a command, and let it stand still before it says in the ledger what came of it: at the
    point `before`, behind `after` others of the name.

    With an `error`, Kafka's answer at the point `at` is that.
    """
    faults = Faults()
    world.worker(faults)
    await asyncio.sleep(_STARTED_S)
    if error is not None:
        faults.on(at, error)
    pause = faults.stand_still(before, after=after)
    send()
    await pause.begun.wait()
    return pause


@pytest.mark.parametrize("where", ["topic:", "stable_ends:", "log_starts:", "committed:", "transact:xferq.claim."])
@timeless
async def test_in_a_claim(where: str) -> None:
    async with World(space_s=1e6) as world:
        topic = world.queue()
        world.dispatcher().join()
        world.inject(8)
        faults = Faults()
        world.worker(faults)
        await asyncio.sleep(_STARTED_S)
        pause = faults.stand_still(where + topic)
        world.cancel("c1")
        await pause.begun.wait()
        world.worker()
        await world.ended("c1")
        world.inject(8)
        world.cancel("c2")
        await world.ended("c2")
        pause.over.set()
        for id in ("c1", "c2"):
            status = await said(world, id)
            assert (status.state, status.restored, status.detail) == ("done", 8, None)
        Checker(world).check()


@pytest.mark.parametrize(("before", "after"), [("producer:xferq.claim.", 1), ("transact:xferq.claim.", 0)])
@timeless
async def test_before_it_says_that_a_queue_can_t_be_claimed(before: str, after: int) -> None:
    async with World() as world:
        world.inject(8)
        faults = Faults()
        world.worker(faults)
        faults.on("hold", Refused("by script"))
        world.dispatcher().join()
        pause = faults.stand_still(before, after=after)
        world.cancel("c1")
        await pause.begun.wait()
        world.worker()
        await world.ended("c1")
        pause.over.set()
        status = await said(world, "c1")
        assert (status.state, status.restored, status.detail) == ("done", 8, None)
        Checker(world).check()


@pytest.mark.parametrize("before", ["producer:xferq.claim.", "transact:xferq.claim."])
@timeless
async def test_before_it_says_that_an_unknown_queue_is_refused_which_was_empty_to_the_other(before: str) -> None:
    async with World() as world:
        faults = Faults()
        world.worker(faults)
        pause = faults.stand_still(before)
        world.cancel("c1")
        await pause.begun.wait()
        world.queue()
        world.worker()
        await world.ended("c1")
        pause.over.set()
        status = await said(world, "c1")
        assert (status.state, status.total, status.detail) == ("done", 0, None)


@timeless
async def test_in_a_transfer_whose_queues_another_claims_for_it() -> None:
    async with World(space_s=1e6) as world:
        topic = world.queue(QUEUES[0])
        world.inject(6, QUEUES[0])
        faults = Faults()
        world.worker(faults)
        await asyncio.sleep(_STARTED_S)
        pause = faults.stand_still(f"stable_ends:{topic}")
        world.transfer("s1", queue_names=[QUEUES[0]])
        await pause.begun.wait()
        world.worker()
        await world.ended("s1")
        pause.over.set()
        status = await said(world, "s1")
        assert (status.state, status.queues, status.total) == ("done", 1, 6)
        Checker(world).check()


@pytest.mark.parametrize("goes_on", ["claimed", "done"])
@pytest.mark.parametrize(
    ("says", "before"),
    [
        pytest.param(Unavailable("by script"), _SAYS, id="waiting"),
        pytest.param(Refused("by script"), "producer:xferq.command.", id="refused"),
        pytest.param(Refused("by script"), "transact:xferq.command.", id="refused-fenced"),
    ],
)
@timeless
async def test_before_it_says_what_a_transfer_waits_for(says: XferqError, before: str, goes_on: str) -> None:
    async with World() as world:
        for queue in QUEUES:
            world.inject(6, queue)
        pause = await silenced(world, partial(world.transfer, "s1", queue_names=QUEUES), before, "create", says)
        world.worker()
        await world.until(lambda: world.ledger.recorded_status("s1") is not None)
        if goes_on == "done":
            await world.ended("s1")
        pause.over.set()
        status = await said(world, "s1")
        assert (status.state, status.queues, status.total, status.detail) == ("done", 3, 18, None)
        Checker(world).check()


@timeless
async def test_before_it_says_what_a_transfer_of_nothing_waits_for() -> None:
    async with World() as world:
        transfer = partial(world.transfer, "s1", queue_names=[QUEUES[0]])
        pause = await silenced(world, transfer, at="topics", error=Unavailable("by script"))
        world.worker()
        await world.ended("s1")
        pause.over.set()
        status = await said(world, "s1")
        assert (status.state, status.queues, status.total, status.detail) == (
            *("done", 0, 0),
            f"queues that do not exist: {QUEUES[0]}",
        )


@timeless
async def test_before_it_refuses_a_transfer_that_another_has_claimed_and_not_counted() -> None:
    async with World() as world:
        for queue in QUEUES:
            world.inject(6, queue)
        transfer = partial(world.transfer, "s1", queue_names=QUEUES)
        pause = await silenced(world, transfer, "producer:xferq.command.", "create", Refused("by script"))
        mortal = Faults()
        mortal.on("command.s1.written", "crash", after=1)  # its tally; the first one is what it selects
        world.worker(mortal)
        await world.until(lambda: mortal.dead)
        assert len(world.ledger.claims_of("s1")) == 3
        pause.over.set()
        await world.until(lambda: world.ledger.recorded_status("s1") is not None)
        world.worker()
        status = await said(world, "s1")
        assert (status.state, status.queues, status.total, status.detail) == ("done", 3, 18, None)
        Checker(world).check()


@timeless
async def test_before_it_says_how_many_queues_it_claimed() -> None:
    """One of them was empty; while it stood still, another worker goes on, and does not claim what has come since."""
    async with World(space_s=1e6) as world:
        world.inject(6, QUEUES[0])
        world.queue(QUEUES[1])
        pause = await silenced(
            world, partial(world.transfer, "s1", queue_names=QUEUES[:2]), "command.s1.written", after=1
        )
        world.inject(6, QUEUES[1])
        world.worker()
        await world.ended("s1")
        pause.over.set()
        status = await said(world, "s1")
        assert (status.state, status.queues, status.total) == ("done", 1, 6)
        Checker(world).check()


@timeless
async def test_before_it_says_what_a_cancel_waits_for() -> None:
    async with World() as world:
        world.inject(8)
        pause = await silenced(
            world, partial(world.cancel, "c1"), at="stable_ends:queue", error=Unavailable("by script")
        )
        world.worker()
        await world.ended("c1")
        pause.over.set()
        status = await said(world, "c1")
        assert (status.state, status.total, status.detail) == ("done", 8, None)
        Checker(world).check()


@timeless
async def test_a_refusal_that_stands_in_the_ledger_is_overruled_by_what_was_claimed() -> None:
    """As an earlier version left it: whoever looks sees the counts, and the maintenance writes them."""
    async with World() as world:
        world.inject(8)
        world.worker()
        world.cancel("c1")
        done = await world.ended("c1")
        refused = done.model_copy(update={"state": "refused", "detail": "by script", "restored": 0, "total": None})
        ledger: Ledger = world.workers[0].engine.ledger
        await ledger.record(world.queue(XFER_QUEUE), [(command_key("c1"), refused.to_bytes())])
        await world.ledger.barrier_all()
        seen = world.ledger.status("c1")
        assert seen is not None
        assert (seen.state, seen.total, seen.detail) == ("done", 8, None)
        assert (await said(world, "c1")).total == 8
