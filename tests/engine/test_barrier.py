"""The barrier of the ledger: a mark that was acknowledged and delivered, whatever a broker says that is cut off."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import orjson
import pytest

from streams.claim.request import ClaimRequest
from streams.commands.command_record import CommandRecord
from streams.domain.ledger_partitions import ledger_width
from streams.domain.status import Status
from streams.domain.topic import topic_of
from streams.errors import Unavailable
from streams.ledger.keys import command_key
from streams.ledger.ledger import Ledger
from streams.ledger.view import LedgerView
from streams.records import Header, Record
from streams.telemetry.metrics import UNREADABLE
from tests.engine.checker import Checker
from tests.engine.world import XFER_QUEUE, World
from tests.fakes.clock import timeless
from tests.fakes.faults import Faults
from tests.fakes.kafka import FakeKafka
from tests.fakes.reader import FakeTail
from tests.support.draining import drain

TOPIC = topic_of(XFER_QUEUE)


def _done(id: str) -> tuple[bytes, bytes]:
    """The record of a status."""
    return command_key(id).encode(), Status(id=id, state="done").to_bytes()


class _Zombie(FakeKafka):
    """The way to a cluster of which one broker was cut off from the controller, by a client that asks that broker.

    For the ledger it says what it knew at the cut, and it takes a mark that nobody ever acknowledges. `believed`
    says whether the client believes it still; readers are those that were opened while it did.
    """

    believed = True
    ends: Mapping[int, int] | None = None

    def cut(self) -> None:
        """From now on another broker leads."""
        logs = self.broker.topics[self._settings.ledger_topic].logs
        self.ends = {log.partition: log.end for log in logs}

    def _old(self, topic: str) -> Mapping[int, int] | None:
        return self.ends if self.believed and topic == self._settings.ledger_topic else None

    async def high_watermarks(
        self, topic: str, partitions: Iterable[int], *, latest_of: str | None = None
    ) -> dict[int, int]:
        found = await super().high_watermarks(topic, partitions, latest_of=latest_of)
        old = self._old(topic)
        return found if old is None else {p: old[p] for p in found}

    async def stable_ends(
        self, topic: str, partitions: Iterable[int], *, latest_of: str | None = None
    ) -> dict[int, int]:
        found = await super().stable_ends(topic, partitions, latest_of=latest_of)
        old = self._old(topic)
        return found if old is None else {p: min(old[p], end) for p, end in found.items()}

    async def mark(self, topic: str, partition: int, key: bytes, headers: Sequence[Header]) -> None:
        if self._old(topic) is not None:
            await asyncio.sleep(15)
            raise Unavailable(f"writing to {topic}/{partition}: no answer in time")
        await super().mark(topic, partition, key, headers)

    async def tail(self, topic: str, starts: Mapping[int, int]) -> FakeTail:
        tail = await super().tail(topic, starts)
        tail.__class__ = _ZombieTail
        assert isinstance(tail, _ZombieTail)
        tail.kafka, tail.asks_it = self, self.believed
        return tail


class _ZombieTail(FakeTail):
    kafka: _Zombie
    asks_it: bool

    async def read(self, timeout_ms: int) -> Iterable[Record]:
        ends = self.kafka.ends if self.asks_it else None
        if ends is None:
            return await super().read(timeout_ms)
        await asyncio.sleep(timeout_ms / 1000)
        return []


def zombie(world: World) -> _Zombie:
    """The way to Kafka of a worker that is made to ask the broker that is cut off."""
    kafka = world.worker(drains=False).engine.ledger._kafka
    kafka.__class__ = _Zombie
    assert isinstance(kafka, _Zombie)
    return kafka


@asynccontextmanager
async def following(kafka: FakeKafka, world: World) -> AsyncIterator[Ledger]:
    """A view of the ledger of its own."""
    ledger = Ledger(kafka, world.settings)
    await ledger.start()
    try:
        yield ledger
    finally:
        await ledger.stop()


# ---- what it is for


@timeless
async def test_a_drain_by_one_who_asks_a_broker_that_is_cut_off_moves_nothing_again() -> None:
    async with World(stalled_ms=10_000_000, space_s=1e6) as world:
        world.inject(12)
        kafka = zombie(world)
        (behind,) = world.workers
        world.cancel()
        await world.until(lambda: behind.engine.ledger.claim(TOPIC, "c1") is not None)
        await asyncio.sleep(5)
        claim = world.ledger.claims(TOPIC)[0]
        kafka.cut()
        # Another one drains all of it; nothing of that reaches the broker that is cut off.
        ahead = world.worker(drains=False)
        await asyncio.sleep(5)
        for partition in (0, 1):
            assert await drain(ahead.engine.drainer, TOPIC, partition) == ["c1"]
        assert world.ledger.is_finished(claim)
        # The first one drains as well, as after a rebalance.
        assert behind.engine.ledger.unfinished(TOPIC, 0) == [claim]
        drains = [asyncio.create_task(drain(behind.engine.drainer, TOPIC, p)) for p in (0, 1)]
        await asyncio.sleep(60)
        assert not any(task.done() for task in drains)  # it waits: nothing proves what it is told
        kafka.believed = False  # its clients learn of the other leader
        assert await asyncio.gather(*drains) == [[], []]
        status = await world.ended("c1")
        assert (status.total, status.restored) == (12, 12)
        Checker(world).check()


@timeless
async def test_a_claim_by_one_who_asks_a_broker_that_is_cut_off_claims_nothing_again() -> None:
    async with World(stalled_ms=10_000_000, space_s=1e6) as world:
        world.inject(6)
        kafka = zombie(world)
        (behind,) = world.workers
        await asyncio.sleep(5)
        kafka.cut()
        ahead = world.worker(drains=False)
        await asyncio.sleep(5)
        request = ClaimRequest("c1", "xfer.cancel", XFER_QUEUE, TOPIC, XFER_QUEUE, "why")
        claim = await ahead.engine.claimer.claim(request)
        world.inject(6)
        with pytest.raises(Unavailable):
            await behind.engine.claimer.claim(request)
        kafka.believed = False
        assert await behind.engine.claimer.claim(request) == claim


@pytest.mark.parametrize("reason", ["why", "another"])
@timeless
async def test_a_command_that_the_view_does_not_show_yet_is_known_behind_the_barrier(reason: str) -> None:
    async with World(stalled_ms=10_000_000, space_s=1e6) as world:
        world.inject(6)
        kafka = zombie(world)
        (behind,) = world.workers
        await asyncio.sleep(5)
        kafka.cut()
        world.worker()
        world.cancel("c1")
        ended = await world.ended("c1")
        later = world.inject(6)
        command = {"id": "c1", "type": "xfer.cancel", "queue_name": XFER_QUEUE, "reason": reason}
        moment = world.broker.now_ms()
        record = CommandRecord(world.settings.commands_topic, 0, 0, moment, orjson.dumps(command))
        again = asyncio.create_task(behind.engine.on_command(record, lambda: True))
        await asyncio.sleep(20)
        assert behind.engine.ledger.status("c1") is None
        kafka.believed = False
        assert await again
        assert await world.status("c1") == ended
        assert len(Checker(world).claims()) == 1
        assert set(later) <= {id for id, places in Checker(world).places().items() if tuple(places) == (TOPIC,)}


# ---- the write


@timeless
async def test_all_who_ask_at_once_share_a_write() -> None:
    async with World() as world:
        faults = Faults()
        async with following(FakeKafka(world.broker, world.settings, faults), world) as ledger:
            await asyncio.gather(*(ledger.barrier(TOPIC) for _ in range(100)))
            point = f"mark:{world.settings.ledger_topic}/{ledger.partition_of(TOPIC)}"
            assert 1 <= faults.passed.count(point) <= 2
            assert sum("mark:" in passed and not passed.endswith(".done") for passed in faults.passed) <= 2


@timeless
async def test_a_write_that_fails_is_unavailable_to_those_who_asked_and_spoils_nothing_else() -> None:
    async with World() as world:
        faults = Faults()
        async with following(FakeKafka(world.broker, world.settings, faults), world) as ledger:
            partition = ledger.partition_of(TOPIC)
            other = next(name for name in map(str, range(100)) if ledger.partition_of(name) != partition)
            faults.on(f"mark:{world.settings.ledger_topic}/{partition}", Unavailable("no leader"))
            asked = [ledger.barrier(TOPIC), ledger.barrier(TOPIC), ledger.barrier(other)]
            first, second, third = await asyncio.gather(*asked, return_exceptions=True)
            assert isinstance(first, Unavailable)
            assert isinstance(second, Unavailable) or second is None  # of the same write, or of the next
            assert third is None
            await ledger.record_status(TOPIC, Status(id="x", state="done"))
            await ledger.barrier(TOPIC)
            assert ledger.recorded_status("x") is not None


@timeless
async def test_one_partition_without_a_leader_holds_up_nobody_who_asks_about_another() -> None:
    async with World() as world:
        faults = Faults()
        async with following(FakeKafka(world.broker, world.settings, faults), world) as ledger:
            partition = ledger.partition_of(TOPIC)
            other = next(name for name in map(str, range(100)) if ledger.partition_of(name) != partition)
            standstill = faults.stand_still(f"mark:{world.settings.ledger_topic}/{partition}")
            waiting = asyncio.create_task(ledger.barrier(TOPIC))
            await standstill.begun.wait()
            async with asyncio.timeout(1):
                await ledger.barrier(other)
            assert not waiting.done()
            standstill.over.set()
            await waiting


@timeless
async def test_it_waits_for_an_open_transaction_as_its_commit_may_have_been_answered() -> None:
    async with World() as world:
        partition = world.ledger.partition_of(TOPIC)
        log = world.broker.topics[world.settings.ledger_topic].logs[partition]
        await FakeKafka(world.broker, world.settings).producer("another")
        transaction = world.broker.begin("another", 600.0)
        log.append([(0, *_done("x"), ())], transaction)
        waiting = asyncio.create_task(world.ledger.barrier(TOPIC))
        await asyncio.sleep(10)
        assert not waiting.done()
        world.broker.decide(transaction, commit=True)
        await waiting
        assert world.ledger.recorded_status("x") is not None
        # And not for ever: as long as a transaction may last.
        transaction = world.broker.begin("another", 600.0)
        log.append([(0, *_done("y"), ())], transaction)
        with pytest.raises(Unavailable, match="can't be read to its end"):
            await world.ledger.barrier(TOPIC)


@timeless
async def test_views_of_whatever_version_pass_over_marks_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    async with World() as world:
        await world.ledger.barrier_all()
        before = UNREADABLE._value.get()
        view, marks = LedgerView(), 0
        for log in world.broker.topics[world.settings.ledger_topic].logs:
            for record in log.records(0, log.end):
                assert (record.key or b"").startswith(b"barrier/")
                assert record.value is None  # to compaction a deletion: it goes by itself
                view.apply(record)
                marks += 1
        assert marks == ledger_width(world.settings.ledger_partitions)
        assert UNREADABLE._value.get() == before
        assert not caplog.records
        assert not vars(view)["_statuses"]


@timeless
async def test_each_process_has_one_key() -> None:
    async with World() as world, following(FakeKafka(world.broker, world.settings), world) as other:
        for _ in range(5):
            await world.ledger.barrier(TOPIC)
            await other.barrier(TOPIC)
        log = world.broker.topics[world.settings.ledger_topic].logs[world.ledger.partition_of(TOPIC)]
        assert len({record.key for record in log.records(0, log.end)}) == 2


# ---- the reader


@timeless
async def test_a_reader_that_asks_a_broker_that_is_cut_off_is_replaced_in_that_partition_only() -> None:
    async with World() as world:
        kafka = _Zombie(world.broker, world.settings)
        async with following(kafka, world) as ledger:
            partition = ledger.partition_of(TOPIC)
            await world.ledger.record_status(TOPIC, Status(id="x", state="done"))
            await ledger.barrier(TOPIC)
            kafka.cut()
            await asyncio.sleep(2)
            kafka.believed = False  # whoever connects now asks the leader
            await world.ledger.record_status(TOPIC, Status(id="y", state="done"))
            others = {p: part.tail for p, part in ledger._reader._parts.items() if p != partition}
            applied: list[bytes | None] = []

            def apply(record: Record) -> None:
                applied.append(record.key)
                ledger.apply(record)

            ledger._reader.apply = apply
            async with asyncio.timeout(20):
                await ledger.barrier(TOPIC)
            assert applied == [command_key("y").encode()]  # from where it stood: nothing is read again
            assert {p: part.tail for p, part in ledger._reader._parts.items() if p != partition} == others


class _SlowToOpen(FakeKafka):
    """Opens readers after longer than one that stands still is waited for."""

    opened = 0

    async def tail(self, topic: str, starts: Mapping[int, int]) -> FakeTail:
        if topic == self._settings.ledger_topic:
            self.opened += 1
            await asyncio.sleep(12 if self.opened > 1 else 0)
        return await super().tail(topic, starts)


@timeless
async def test_a_reader_that_takes_long_to_open_is_not_replaced_meanwhile() -> None:
    async with World(ledger_partitions=2) as world:
        kafka = _SlowToOpen(world.broker, world.settings)
        async with following(kafka, world) as ledger:
            ledger._reader.replace(range(2))  # one that had died, say
            await ledger.barrier("x")
            assert kafka.opened == 2


@timeless
async def test_an_offset_proves_nothing_in_a_ledger_that_was_made_again() -> None:
    async with World() as world:
        kafka = _Zombie(world.broker, world.settings)
        name = world.settings.ledger_topic
        async with following(kafka, world) as ledger:
            for id in range(5):
                await world.ledger.record_status(TOPIC, Status(id=f"x{id}", state="done"))
            await ledger.barrier(TOPIC)
            kafka.cut()
            world.broker.delete(name)
            world.broker.create(name, ledger_width(world.settings.ledger_partitions))
            kafka.believed = False
            # Our mark has offset 0 there, and is long behind us by that.
            with pytest.raises(Unavailable):
                await ledger.barrier(TOPIC)
            assert len(ledger.statuses()) == 5  # and what was known is not taken from an empty ledger


class _Noted(Ledger):
    """Says what the views hold that take its place."""

    became: Sequence[set[str]] = ()

    def become(self, other: LedgerView) -> None:
        self.became = [*self.became, {status.id for status in other.statuses()}]
        super().become(other)


@timeless
async def test_a_ledger_that_lost_its_end_is_read_again_beside_the_view_that_stands() -> None:
    async with World() as world, following(FakeKafka(world.broker, world.settings), world) as ledger:
        ledger.__class__ = _Noted
        assert isinstance(ledger, _Noted)
        log = world.broker.topics[world.settings.ledger_topic].logs[ledger.partition_of(TOPIC)]
        for id in ("a", "b", "c"):
            await world.ledger.record_status(TOPIC, Status(id=id, state="done"))
        await ledger.barrier(TOPIC)
        del log._entries[1:]
        barrier = asyncio.create_task(ledger.barrier(TOPIC))
        while not barrier.done():
            assert ledger.recorded_status("a") is not None
            await asyncio.sleep(0.01)
        await barrier
        assert ledger.became == [{"a"}]
        assert {status.id for status in ledger.statuses()} == {"a"}
        await ledger.record_status(TOPIC, Status(id="d", state="done"))  # it goes on from there
        await ledger.barrier(TOPIC)
        assert ledger.recorded_status("d") is not None
