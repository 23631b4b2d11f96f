"""A transaction takes in several reads, up to its limits; what was gathered before a failing read is not held back."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from streams.domain.topic import topic_of
from streams.drain import range_drain
from streams.drain.mover import Done, RecordMover
from streams.errors import Unreadable
from streams.records import Record
from streams.unopened import Unopened
from tests.engine.checker import Checker
from tests.engine.test_returned import messages, refuse_topics
from tests.engine.world import XFER_QUEUE, World, envelope
from tests.fakes.clock import JumpingLoop, timeless
from tests.fakes.faults import Faults
from tests.fakes.producer import FakeBatch
from tests.fakes.reader import FakeReader

TOPIC = topic_of(XFER_QUEUE)
Read = Callable[[FakeReader], Any]


def offsets_committed(world: World) -> list[int]:
    """Where the progress of the range stood, transaction by transaction."""
    ledger = world.broker.topics[world.settings.ledger_topic]
    steps = [record for log in ledger.logs for record in log.records(log.start, log.end)]
    return [json.loads(step.value)["offset"] for step in steps if (step.key or b"").startswith(b"drained/")]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"transaction_messages": 100}, [20]),
        ({"transaction_messages": 10}, [10, 20]),
        ({"transaction_messages": 6}, [6, 12, 18, 20]),
        ({"transaction_messages": 100, "transaction_bytes": 3_000}, [8, 16, 20]),  # two reads of four, with their log
        ({"transaction_messages": 100, "drain_bytes": 1}, [20]),  # sent in parts
    ],
)
@timeless
async def test_reads_are_gathered_up_to_the_limits(limits: dict[str, int], expected: list[int]) -> None:
    async with World(partitions=1, **limits) as world:
        world.inject(20, value=b"x" * 20)
        world.worker()
        world.cancel()
        await world.ended("c1")
        assert offsets_committed(world) == expected
        Checker(world).check()


@timeless
async def test_what_was_gathered_is_committed_where_the_next_read_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = True
    read: Read = FakeReader.read

    async def failing(self: FakeReader) -> Sequence[Record]:
        if self._topic == TOPIC and self.position >= 8 and fails:
            raise Unreadable("a batch that would unpack to gigabytes")
        return await read(self)  # type: ignore[no-any-return]

    monkeypatch.setattr(FakeReader, "read", failing)
    async with World(partitions=1, transaction_messages=100) as world:
        world.inject(20)
        world.worker()
        world.cancel()
        await asyncio.sleep(20)
        assert offsets_committed(world) == [8]
        fails = False
        assert (await world.ended("c1")).restored == 20
        Checker(world).check()


@timeless
async def test_what_was_gathered_is_committed_where_a_batch_can_t_be_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is turned down together with that in the first attempt, but not in the next one."""
    read: Read = FakeReader.read
    whole = FakeBatch(1, "none")
    whole.append(timestamp=1_000, key=b"k", value=b"x" * 5_000, headers=[])

    async def bomb(self: FakeReader) -> Sequence[Record]:
        if self._topic == TOPIC and self.position >= 8:
            self._position = 20
            return [Unopened(0, 19, 1_000, 12, whole)]
        return await read(self)  # type: ignore[no-any-return]

    monkeypatch.setattr(FakeReader, "read", bomb)
    async with World(partitions=1, transaction_messages=100) as world:
        world.inject(20)
        world.broker.topics[TOPIC].max_message_bytes = 2_000
        world.worker()
        world.cancel()
        await asyncio.sleep(20)
        assert offsets_committed(world) == [8]
        assert "is larger than the topic takes now" in str(world.ledger.status("c1"))


@timeless
async def test_what_comes_slowly_does_not_wait_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    read: Read = FakeReader.read

    async def slow(self: FakeReader) -> Sequence[Record]:
        if self._topic == TOPIC:
            await asyncio.sleep(0.6)
        return await read(self)  # type: ignore[no-any-return]

    monkeypatch.setattr(FakeReader, "read", slow)
    async with World(partitions=1, transaction_messages=100) as world:
        world.inject(24)
        world.worker()
        world.cancel()
        await world.ended("c1")
        assert offsets_committed(world) == [12, 24]
        Checker(world).check()


@pytest.mark.parametrize("at_a_time", [1, 3, 256])
@timeless
async def test_calls_of_the_mover_are_one_build(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many records each takes: what waits for its destination waits for all of them, and so does the tail."""
    monkeypatch.setattr(range_drain, "_SLICE", at_a_time)
    homes = ["a.example", "forbidden.example", "b.example", None, "a.example"] * 4
    async with World(partitions=1, transaction_messages=100) as world:
        refuse_topics(world, "forbidden")
        for home in homes:
            made = envelope(XFER_QUEUE, saved=None if home is None else {"queue": home})
            world.inject(1, headers=lambda _, made=made: [("envelope", made)])  # type: ignore[misc]
        world.worker(at_a_time=100)
        world.cancel()
        status = await world.ended("c1")
        assert (status.total, status.restored, status.returned) == (20, 12, 8)
        assert status.returned_reasons == {"destination_unavailable": 4, "no_saved_info": 4}
        assert offsets_committed(world) == [20]
        back = [record.key for record in messages(world, XFER_QUEUE) if record.offset >= 20]
        expected = [b"m%d" % (number + 1) for number, home in enumerate(homes) if home in (None, "forbidden.example")]
        assert back == expected
        for queue in ("a.example", "b.example"):
            there = [record.key for record in messages(world, queue)]
            assert there == [b"m%d" % (number + 1) for number, home in enumerate(homes) if home == queue]
        Checker(world).check()


@timeless
async def test_a_call_of_the_mover_that_took_long_is_followed_by_one_of_half_the_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    move = RecordMover.move
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)

    def slow(self: RecordMover, records: Sequence[Record], *others: Any) -> Done:
        sizes.append(len(records))
        if len(records) > 8:
            loop.now_s += 0.02
        return move(self, records, *others)

    monkeypatch.setattr(range_drain, "_SLICE", 16)
    monkeypatch.setattr(RecordMover, "move", slow)
    async with World(partitions=1, transaction_messages=100) as world:
        world.inject(60)
        world.worker(at_a_time=100)
        world.cancel()
        assert (await world.ended("c1")).restored == 60
        assert sizes == [16, 8, 16, 8, 12]
        assert offsets_committed(world) == [60]


@pytest.mark.parametrize(
    ("home", "is_there", "expected"),
    [
        ("b.example", True, [12]),
        ("b.example", False, [5, 12]),  # it is created between two transactions
        ("forbidden.example", False, [5, 12]),  # that nobody may create it is known then
    ],
)
@timeless
async def test_a_destination_that_is_new_in_the_middle(home: str, is_there: bool, expected: list[int]) -> None:
    """Nothing is created while a transaction is open; the order within each queue is that of before."""
    homes = ["a.example"] * 12
    homes[5] = homes[7] = homes[10] = home
    async with World(partitions=1, transaction_messages=100, drain_bytes=1) as world:
        refuse_topics(world, "forbidden")
        if is_there:
            world.queue(home)
        for name in homes:
            made = envelope(XFER_QUEUE, saved={"queue": name})
            world.inject(1, headers=lambda _, made=made: [("envelope", made)])  # type: ignore[misc]
        worker = world.worker()
        world.cancel()
        status = await world.ended("c1")
        assert (status.total, status.returned) == (12, 3 if home == "forbidden.example" else 0)
        assert offsets_committed(world) == expected
        assert any(point.startswith("send:") for point in worker.faults.passed)
        for queue in {*homes} - {"forbidden.example"}:
            there = [record.key for record in messages(world, queue)]
            assert there == [b"m%d" % (number + 1) for number, name in enumerate(homes) if name == queue]
        Checker(world).check()


@timeless
async def test_what_was_sent_in_part_is_aborted_where_the_partition_is_taken_away() -> None:
    async with World(partitions=1, transaction_messages=100, drain_bytes=1) as world:
        world.inject(40)
        faults = Faults()
        pause = faults.stand_still("send:xferq.drain", after=2)
        worker = world.worker(faults)
        world.cancel()
        await pause.begun.wait()
        worker.engine.take_shares(worker.engine.shares, ())
        pause.over.set()
        await asyncio.sleep(2)
        assert offsets_committed(world) == []
        transaction = world.broker.ids[f"xferq.drain.{TOPIC}.0"].transaction
        assert transaction is not None
        assert transaction.state == "aborted"
        world.worker()
        assert (await world.ended("c1")).restored == 40
        Checker(world).check()
