"""How commands end: once, under their fence; what is not wanted any more does not begin; what is left goes soon."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from streams.domain.claim import Control
from streams.domain.status import Status
from streams.domain.timestamp import format_time
from streams.domain.topic import topic_of
from streams.errors import Unavailable
from streams.ledger.keys import control_key
from tests.engine.checker import Checker
from tests.engine.world import QUEUES, TARGET, XFER_QUEUE, World
from tests.fakes.clock import now, timeless
from tests.fakes.faults import Faults

TOPIC = topic_of(XFER_QUEUE)
CANCEL = {"type": "xfer.cancel", "queue_name": XFER_QUEUE, "reason": "why", "id": "c"}
TRANSFER = {"type": "xfer.start", "target": TARGET, "reason": "why", "id": "c", "queue_names": QUEUES[:1]}
COMMANDS = pytest.mark.parametrize("command", [CANCEL, TRANSFER], ids=["cancel", "transfer"])
LATER_S = 1_900.0
"""By then what is left of a command that has ended is gone: ten minutes, and rounds of as much."""


def outcomes_written(world: World) -> Counter[str]:
    """How often each end was written, and is committed, by key."""
    logs = world.broker.topics[world.settings.ledger_topic].logs
    keys = [(record.key or b"").decode() for log in logs for record in log.all_records() if record.value]
    return Counter(key for key in keys if key.startswith("outcome/"))


def keys_about(world: World, id: str) -> set[str]:
    """The kinds of records that are left of the command."""
    values: dict[str, bytes | None] = {}
    for log in world.broker.topics[world.settings.ledger_topic].logs:
        for record in log.all_records():
            values[(record.key or b"").decode()] = record.value
    return {key.split("/")[0] for key, value in values.items() if value is not None and id in key.split("/")}


async def until_forgotten(world: World, id: str, kept: frozenset[str] = frozenset({"outcome", "id"})) -> None:
    """Wait until only these are left of the command, and see that it stays so through another round of forgetting."""
    ends_at = asyncio.get_running_loop().time() + 3 * LATER_S
    while keys_about(world, id) != kept and asyncio.get_running_loop().time() < ends_at:
        await asyncio.sleep(100)
    await asyncio.sleep(LATER_S / 3)
    assert keys_about(world, id) == kept


def inject(world: World) -> None:
    """Six messages for either command."""
    world.inject(6)
    world.inject(6, QUEUES[0])


async def withdraw(world: World, reason: str | None = None) -> None:
    """As the API does."""
    control = Control(
        action="withdraw", queue_name=XFER_QUEUE, reason=reason, requested_at=format_time(now()), requested_by="alice"
    )
    await world.ledger.record(TOPIC, [(control_key("c"), control.to_bytes())])


def check_untouched(world: World, status: Status, detail: str) -> None:
    """The command has ended without a trace."""
    assert (status.state, status.detail, status.queues, status.restored) == ("refused", detail, None, 0)
    assert Checker(world).claims(ever=True) == []
    Checker(world).check()


@COMMANDS
@timeless
async def test_what_has_expired_does_not_begin(command: dict[str, object]) -> None:
    async with World() as world:
        inject(world)
        moment = format_time(now() + timedelta(seconds=20))
        world.publish(command | {"expires_at": moment})
        await asyncio.sleep(30)
        world.worker()
        status = await world.ended("c")
        assert status.expires_at == moment
        check_untouched(world, status, f"it expired at {moment}, before it could begin")
        assert outcomes_written(world) == {"outcome/c": 1}


@COMMANDS
@timeless
async def test_what_expires_while_it_waits_does_not_begin(command: dict[str, object]) -> None:
    async with World() as world:
        inject(world)
        faults = Faults()
        faults.on("producer:xferq.c", "unavailable", times=30)
        world.worker(faults)
        moment = format_time(now() + timedelta(seconds=60))
        world.publish(command | {"expires_at": moment})
        status = await world.ended("c")
        check_untouched(world, status, f"it expired at {moment}, before it could begin")


@COMMANDS
@timeless
async def test_what_has_begun_goes_on_after_it_has_expired(command: dict[str, object]) -> None:
    async with World() as world:
        inject(world)
        worker = world.worker(drains=False)
        world.publish(command | {"expires_at": format_time(now() + timedelta(seconds=20))})
        await world.until(lambda: world.ledger.state("c") == "claimed")
        worker.kill()
        await asyncio.sleep(60)
        world.worker()
        status = await world.ended("c")
        assert (status.state, status.restored) == ("done", 6)
        Checker(world).check()


@timeless
async def test_a_transfer_that_has_selected_goes_on_after_it_has_expired() -> None:
    """Its queues are written down, and none is claimed yet."""
    async with World() as world:
        inject(world)
        mortal = Faults()
        mortal.on("producer:xferq.claim.", "crash")
        world.worker(mortal)
        world.publish(TRANSFER | {"expires_at": format_time(now() + timedelta(seconds=20))})
        await world.until(lambda: mortal.dead)
        assert world.ledger.claims_of("c") == []
        await asyncio.sleep(60)
        world.worker()
        status = await world.ended("c")
        assert (status.state, status.queues, status.restored) == ("done", 1, 6)


@COMMANDS
@timeless
async def test_a_setting_lets_all_others_expire(command: dict[str, object]) -> None:
    async with World(expire_after_s=20.0) as world:
        inject(world)
        published = datetime.fromtimestamp(world.broker.now_ms() / 1000, UTC)
        world.publish(command)
        world.publish(command | {"id": "later", "expires_at": format_time(now() + timedelta(hours=1))}, 1)
        await asyncio.sleep(30)
        world.worker()
        moment = format_time(published + timedelta(seconds=20))
        status = await world.ended("later", "c")
        assert (status.state, status.detail) == ("refused", f"it expired at {moment}, before it could begin")
        later = world.ledger.recorded_status("later")
        assert later is not None
        assert (later.state, later.restored) == ("done", 6)


@COMMANDS
@timeless
async def test_what_is_withdrawn_does_not_begin(command: dict[str, object]) -> None:
    async with World() as world:
        inject(world)
        faults = Faults()
        faults.on("producer:xferq.c", "unavailable", times=30)
        world.worker(faults)
        world.publish(command)
        await world.until(lambda: world.ledger.recorded_status("c") is not None)
        await withdraw(world, "mx2 is back")
        waiting = await world.status("c")
        assert waiting is not None
        assert (waiting.state, waiting.detail) == ("waiting", "to be withdrawn, at its turn")
        status = await world.ended("c")
        check_untouched(world, status, "it was withdrawn by alice: mx2 is back")
        assert outcomes_written(world) == {"outcome/c": 1}


@COMMANDS
@timeless
async def test_what_has_begun_is_not_withdrawn(command: dict[str, object]) -> None:
    async with World() as world:
        inject(world)
        worker = world.worker(drains=False)
        world.publish(command)
        await world.until(lambda: world.ledger.state("c") == "claimed")
        await withdraw(world)
        worker.kill()
        world.worker()
        status = await world.ended("c")
        assert (status.state, status.restored) == ("done", 6)
        Checker(world).check()


@COMMANDS
@timeless
async def test_one_that_stood_still_does_not_withdraw_what_another_has_begun(command: dict[str, object]) -> None:
    """It had the fence, had read that nothing had begun, and was about to write the end."""
    async with World() as world:
        inject(world)
        await world.ledger.barrier_all()
        faults = Faults()
        pause = faults.stand_still("transact:xferq.c")
        world.publish(command | {"expires_at": format_time(now() + timedelta(seconds=20))})
        await asyncio.sleep(30)
        world.worker(faults)
        await pause.begun.wait()
        # To the other one it has not expired: its clock is behind.
        other = world.worker(wrong_by=timedelta(seconds=-20))
        status = await world.ended("c")
        assert (status.state, status.restored) == ("done", 6)
        pause.over.set()
        await asyncio.sleep(60)
        await world.ledger.barrier_all()
        assert world.ledger.recorded_status("c") == status
        assert outcomes_written(world) == {"outcome/c": 1}
        assert other.faults.dead is False
        Checker(world).check()


@COMMANDS
@timeless
async def test_an_end_is_written_once_by_however_many(command: dict[str, object]) -> None:
    async with World() as world:
        inject(world)
        worker = world.worker()
        world.publish(command)
        await world.until(lambda: world.ledger.state("c") == "claimed")
        others = [world.worker() for _ in range(3)]
        await world.ended("c")
        await asyncio.gather(*(each.engine.commands.outcomes.finish("c") for each in [worker, *others]))
        assert outcomes_written(world) == {"outcome/c": 1}


@COMMANDS
@timeless
async def test_what_is_left_of_a_command_goes_soon_after_its_end(command: dict[str, object]) -> None:
    async with World() as world:
        inject(world)
        world.queue(QUEUES[1])
        world.worker()
        world.publish(command | ({} if command is CANCEL else {"queue_names": QUEUES[:2]}))
        status = await world.ended("c")
        await asyncio.sleep(300)
        assert "claim" in keys_about(world, "c")
        await asyncio.sleep(LATER_S)
        assert keys_about(world, "c") == {"outcome", "id"}
        assert await world.status("c") == status
        assert (status.state, status.restored) == ("done", 6)
        world.inject(3)
        world.inject(3, QUEUES[0])
        world.publish(command | ({} if command is CANCEL else {"queue_names": QUEUES[:2]}))  # it comes again
        await asyncio.sleep(60)
        assert await world.status("c") == status
        assert world.ledger.claims_of("c") == []
        Checker(world).check()


@timeless
async def test_heads_are_guarded_longer_than_their_claims_are_remembered() -> None:
    """Where the log can't be freed: what was claimed is still there to be dispatched."""
    async with World(space_s=1e6) as world:
        world.inject(8)
        faults = Faults()
        faults.on("delete_before:", "unavailable", times=1_000)
        world.worker(faults)
        world.cancel("c")
        await world.ended("c")
        await asyncio.sleep(LATER_S)
        assert keys_about(world, "c") == {"outcome", "id"}
        group = world.broker.group(world.settings.group_of(TOPIC))
        for partition in (0, 1):
            group.set_offset(TOPIC, partition, 1)
        await asyncio.sleep(10)
        assert [group.offset(TOPIC, partition) for partition in (0, 1)] == [4, 4]
        Checker(world).check()


@timeless
async def test_a_refusal_waits_for_what_has_begun() -> None:
    """The topic of the xfer queue can't be created once more, when a transfer's queues are claimed already."""
    async with World() as world:
        inject(world)
        worker = world.worker(drains=False)
        world.publish(TRANSFER)
        await world.until(lambda: world.ledger.state("c") == "claimed")
        status = Status(id="c", type="xfer.start", queue_name=XFER_QUEUE, state="waiting")
        with pytest.raises(Unavailable, match="no more"):
            await worker.engine.commands.outcomes.refuse(status, "refused", "no more")
        world.worker()
        assert (await world.ended("c")).state == "done"


@timeless
async def test_a_transfer_is_not_through_because_another_passed_one_queue_by() -> None:
    q1, q2 = QUEUES[0], QUEUES[1]
    async with World(pending_after_ms=10_000) as world:
        world.inject(6, q2)  # q1 does not exist
        faults = Faults()
        faults.on("create", "unavailable", times=15)  # until it is kept
        faults.on(f"topic:{topic_of(q2)}", "unavailable", times=10_000)
        world.worker(faults)
        world.transfer("s1", queue_names=[q1, q2])
        await world.until(lambda: bool(world.ledger.pending.names()), 60)
        pause = faults.stand_still(f"producer:xferq.claim.{topic_of(q1)}")
        await asyncio.wait_for(pause.begun.wait(), 60)
        other = Faults()
        other.on(f"topic:{topic_of(q2)}", "unavailable", times=10_000)
        b = world.worker(other)
        await world.until(lambda: topic_of(q1) in world.ledger.selection("s1").passed, 60)
        b.kill()
        pause.over.set()
        await asyncio.sleep(20)
        world.worker()
        status = await world.ended("s1", within_s=300)
        assert (status.state, status.restored) == ("done", 6)


@timeless
async def test_a_transfer_is_not_through_because_one_that_stood_still_has_passed_a_queue_by() -> None:
    """Nobody dies, and nothing is kept."""
    q1, q2 = QUEUES[0], QUEUES[1]
    async with World() as world:
        world.inject(6, q2)  # q1 does not exist
        first = Faults()
        world.worker(first)
        first.on(f"topic:{topic_of(q2)}", "unavailable", times=3)  # for a moment, to either worker
        passing = first.stand_still(f"transact:xferq.claim.{topic_of(q1)}")
        world.transfer("s1", queue_names=[q1, q2])
        await passing.begun.wait()
        second = Faults()
        second.on(f"topic:{topic_of(q2)}", "unavailable", times=3)
        about_to = second.stand_still(f"producer:xferq.claim.{topic_of(q1)}")
        world.worker(second)
        await about_to.begun.wait()
        passing.over.set()
        await world.until(lambda: topic_of(q1) in world.ledger.selection("s1").passed, 60)
        about_to.over.set()
        await asyncio.sleep(60)
        world.worker()  # to which it does not come again: it is acknowledged
        status = await world.ended("s1", within_s=300)
        assert (status.state, status.restored) == ("done", 6)


@timeless
async def test_an_end_that_can_t_be_written_keeps_no_other_from_being_written() -> None:
    async with World() as world:
        world.inject(6)
        world.inject(6, QUEUES[0])

        async def dies(_: str) -> None:
            """Whoever should have written their ends."""

        worker = world.worker()
        worker.engine.commands.outcomes.finish = dies  # type: ignore[method-assign]
        world.transfer("s1", queue_names=[QUEUES[0]])
        world.cancel("c")
        await world.until(lambda: {"done"} == {s and s.state for s in map(world.ledger.status, ("s1", "c"))})
        for worker in world.workers:
            worker.kill()
        faults = Faults()
        faults.on("producer:xferq.command.s1", "unavailable", times=1_000)  # not permitted, or held up
        world.worker(faults)
        await asyncio.sleep(300)
        assert world.ledger.outcome("s1") is None
        assert world.ledger.outcome("c") is not None


@pytest.mark.parametrize("after", [0, 1, 2], ids=["selection", "tally", "end"])
@timeless
async def test_a_transaction_that_was_left_under_a_command_s_fence_is_ended_by_who_goes_on(after: int) -> None:
    async with World(transaction_timeout_ms=300_000) as world:
        world.inject(6, QUEUES[0])
        mortal = Faults()
        mortal.on("transact:xferq.command.s1.written", "crash", after=after)
        world.worker(mortal)
        world.transfer("s1", queue_names=[QUEUES[0]])
        await world.until(lambda: mortal.dead)
        world.worker()
        began = asyncio.get_running_loop().time()
        await world.ended("s1")
        assert asyncio.get_running_loop().time() - began < 30
