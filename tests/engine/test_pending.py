"""Commands that wait for long are kept in the ledger: whatever becomes of their topic and of who had them."""

import asyncio

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.topic import topic_of
from streams.ledger.pending_records import PendingRecords
from streams.worker import agents
from tests.engine.checker import Checker
from tests.engine.profile import PROPERTY
from tests.engine.world import XFER_QUEUE, World
from tests.fakes.clock import timeless
from tests.fakes.faults import Faults
from tests.fakes.log import PartitionLog, Transaction

TOPIC = topic_of(XFER_QUEUE)
OTHER = "http://other.example/.xfer.kumomta.internal"
_AFTER_S = 10.0
_STUCK = f"stable_ends:{TOPIC}"

positions = st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 3))


@PROPERTY
@given(st.lists(st.tuples(st.sampled_from("ab"), positions, st.booleans()), max_size=30))
def test_records_go_in_the_order_of_their_partition(
    said: list[tuple[str, tuple[int, int, int], bool]],
) -> None:
    records = PendingRecords()
    kept: set[tuple[str, tuple[int, int, int]]] = set()
    for name, position, is_kept in said:
        records.put(name, position, b"x" if is_kept else None)
        (kept.add if is_kept else kept.discard)((name, position))
    assert set(records.names()) == {name for name, _ in kept}
    for name in "ab":
        mine = sorted(position for of, position in kept if of == name)
        first = records.first(name)
        assert (first is None) == (not mine)
        if first is not None:
            assert first[0] in mine
            assert not records.is_behind(name, first[0])
        for position in mine:
            assert records.holds(name, position)
            assert records.is_behind(name, position) == any(p[0] == position[0] and p < position for p in mine)


def stuck(world: World, seed: int = 0) -> Faults:
    """Of a worker that can't claim the xfer queue, which has six messages."""
    faults = Faults(seed)
    faults.on(_STUCK, "unavailable", times=1_000)
    world.inject(6)
    return faults


async def restored(world: World, *ids: str) -> list[int]:
    """How many messages each of the commands has restored."""
    return [status.restored for id in ids if (status := await world.status(id)) is not None]


def ledger_logs(world: World) -> list[PartitionLog]:
    """The ledger's partitions."""
    return world.broker.topics[world.settings.ledger_topic].logs


def acknowledged(world: World) -> int:
    """How far the commands of the first partition are."""
    return world.group.offsets[TP(world.settings.commands_topic, 0)]


@timeless
async def test_one_that_waits_for_longer_than_its_topic_keeps_it() -> None:
    async with World(pending_after_ms=_AFTER_S * 1000) as world:
        first = world.worker(stuck(world))
        world.cancel("c1")
        world.cancel("c2", reason="another")
        await world.until(lambda: acknowledged(world) == 2, _AFTER_S + 5)
        status = world.ledger.status("c1")
        assert status is not None
        assert status.state == "waiting"
        await asyncio.sleep(5)
        status = world.ledger.status("c2")
        assert status is not None
        assert "its turn" in str(status.detail)
        first.kill()
        log = world.broker.topics[world.settings.commands_topic].logs[0]
        log.start = log.end
        world.worker()
        await world.ended("c1", "c2")
        assert await restored(world, "c1", "c2") == [6, 0]  # in their order
        assert world.ledger.pending.names() == []
        Checker(world).check()


@timeless
async def test_one_that_comes_later_does_not_overtake_it_nor_disturb_it() -> None:
    async with World(pending_after_ms=_AFTER_S * 1000) as world:
        faults = stuck(world)
        worker = world.worker(faults)
        world.cancel("c1")
        await world.until(lambda: acknowledged(world) == 1, _AFTER_S + 5)
        world.cancel("c2", reason="another")
        await asyncio.sleep(_AFTER_S / 2)
        status = world.ledger.status("c2")
        assert status is not None
        assert "its turn" in str(status.detail)
        world.inject(6, OTHER)
        world.cancel("good", OTHER)
        await world.ended("good", within_s=3)
        faults.clear()
        assert (await world.ended("c1", "c2")).restored in (0, 6)
        assert await restored(world, "c1", "c2") == [6, 0]
        assert worker.engine.health.waiting == 0
        Checker(world).check()


@timeless
async def test_who_dies_before_it_is_acknowledged_leaves_it_to_one_and_not_to_two() -> None:
    async with World(pending_after_ms=_AFTER_S * 1000) as world:
        faults = stuck(world)
        faults.on(f"publish:{world.settings.ledger_topic}/pending.done", "crash")
        first = world.worker(faults)
        world.cancel("c1")
        await world.until(lambda: first.faults.dead, _AFTER_S + 5)
        assert acknowledged(world) == 0
        later = stuck(world)
        world.worker(later)
        # It comes again, and is acknowledged long before it would be kept once more.
        await world.until(lambda: acknowledged(world) == 1, _AFTER_S / 2)
        later.clear()
        assert (await world.ended("c1")).restored == 12
        Checker(world).check()


@timeless
async def test_thousands_behind_it_do_not_wait_for_its_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "_BEHIND", 5)
    async with World() as world:
        faults = stuck(world)
        world.worker(faults)
        world.cancel("c1")
        for number in range(10):
            queue = f"http://q{number}.example/.xfer.kumomta.internal"
            world.inject(1, queue)
            world.cancel(f"g{number}", queue)
        await world.ended(*(f"g{number}" for number in range(10)))
        await world.until(lambda: acknowledged(world) == 11, 10)
        faults.clear()
        assert (await world.ended("c1")).restored == 6
        Checker(world).check()


@timeless
async def test_no_more_in_hand_than_there_are_places_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them for one queue that can't be claimed: what comes behind them gets on all the same."""
    monkeypatch.setattr(agents, "_IN_HAND", 8)
    async with World() as world:
        faults = stuck(world)
        world.worker(faults)
        ids = [f"c{number}" for number in range(30)]
        for id in ids:
            world.cancel(id)
        world.inject(1, OTHER)
        world.cancel("good", OTHER)
        await world.ended("good", within_s=60)
        faults.clear()
        await world.ended(*ids)
        assert await restored(world, *ids) == [6, *[0] * 29]
        assert world.ledger.pending.names() == []
        Checker(world).check()


@pytest.mark.parametrize("seed", range(4))
@timeless
async def test_one_whose_record_can_t_be_written_at_first_is_not_overtaken_by_a_later_one(seed: int) -> None:
    async with World(pending_after_ms=_AFTER_S * 1000) as world:
        faults = stuck(world, seed)
        faults.on(f"publish:{world.settings.ledger_topic}/pending", "unavailable")
        world.worker(faults)
        world.cancel("c1")
        await asyncio.sleep(seed / 4)
        world.cancel("c2", reason="another")
        await world.until(lambda: acknowledged(world) == 2, 60)
        faults.clear()
        await world.ended("c1", "c2")
        assert await restored(world, "c1", "c2") == [6, 0]
        Checker(world).check()


@timeless
async def test_a_claims_transaction_is_not_cut_off_by_its_being_kept() -> None:
    async with World(pending_after_ms=_AFTER_S * 1000, transaction_timeout_ms=300_000) as world:
        world.inject(6)
        faults = Faults()
        pause = faults.stand_still(f"transact:xferq.claim.{TOPIC}.offsets")
        world.worker(faults)
        world.cancel("c1")
        await pause.begun.wait()
        await asyncio.sleep(_AFTER_S + 10)  # it is to be kept long since
        pause.over.set()
        assert (await world.ended("c1", within_s=10)).restored == 6
        await world.until(lambda: acknowledged(world) == 1, 10)
        Checker(world).check()


@timeless
async def test_of_a_burst_without_trouble_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "_BEHIND", 20)
    async with World() as world:
        ids = [f"g{number}" for number in range(100)]
        for id in ids:
            queue = f"http://{id}.example/.xfer.kumomta.internal"
            world.inject(1, queue)
            world.cancel(id, queue)
        world.worker()
        await world.ended(*ids)
        written = [record.key or b"" for log in ledger_logs(world) for record in log.all_records()]
        assert not [key for key in written if key.startswith(b"pending/")]
        Checker(world).check()


@timeless
async def test_a_worker_that_ends_leaves_no_transaction_of_one_that_is_kept() -> None:
    async with World(pending_after_ms=_AFTER_S * 1000, transaction_timeout_ms=300_000) as world:
        faults = stuck(world)
        first = world.worker(faults)
        world.cancel("c1")
        await world.until(lambda: acknowledged(world) == 1, _AFTER_S + 5)
        pause = faults.stand_still(f"transact:xferq.claim.{TOPIC}.offsets")
        faults.clear()
        await pause.begun.wait()
        asyncio.get_running_loop().call_later(2, pause.over.set)
        await first.stop()
        assert all(log.stable_end == log.end for log in ledger_logs(world))
        world.worker()
        assert (await world.ended("c1", within_s=10)).restored == 6
        Checker(world).check()


@timeless
async def test_one_that_can_t_be_told_keeps_no_other_from_being_told() -> None:
    """Of the second, whose the id is can't be known, where a stranger's transaction is open in the ledger."""
    async with World(pending_after_ms=0) as world:
        faults = stuck(world)
        world.worker(faults)
        await asyncio.sleep(1)
        where = world.ledger.partition_of(TOPIC)
        names = [f"x{number}" for number in range(100)]
        dark = next(name for name in names if world.ledger.partition_of(name) != where)
        first, *others = [name for name in names if world.ledger.partition_of(name) == where][:4]
        stranger = Transaction()
        ledger_logs(world)[world.ledger.partition_of(dark)].append([(0, b"z", b"z", ())], stranger)
        for id in (first, dark, *others):
            world.cancel(id, reason=id)
        await asyncio.sleep(15)
        assert [str(status.state) for id in others if (status := world.ledger.recorded_status(id))] == ["waiting"] * 3
        world.broker.decide(stranger, commit=False)
        faults.clear()
        await world.ended(first, dark, *others)
        Checker(world).check()


@timeless
async def test_work_that_is_cut_off_with_its_hand_over_does_not_go_on() -> None:
    async with World() as world:
        faults = Faults()
        pause = faults.stand_still(_STUCK)
        worker = world.worker(faults)
        world.inject(6)
        world.cancel("c1")
        await pause.begun.wait()
        await worker._acks.idle(0.1)
        pause.over.set()
        await asyncio.sleep(5)
        assert world.ledger.claims_of("c1") == []
        world.worker()
        assert (await world.ended("c1")).restored == 6
        Checker(world).check()
