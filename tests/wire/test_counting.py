"""Messages are counted by the heads of batches, however Kafka cuts what it answers; and within bounds."""

import asyncio
import struct
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors as aio
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.depth import Span
from streams.kafka.counting import MessageCounter
from streams.kafka.wire.batches import PieceBuilder
from streams.kafka.wire.committed import Uncountable, count_committed
from tests.fakes.clock import timeless

_CONTROL = 0x20
_LIMIT = 1 << 30


def batch(
    base: int, offsets: Sequence[int], last: int, *, producer: int = -1, control: bool = False, codec: int = 0
) -> bytes:
    """A batch as it lies in the log: from `base` to `last`, with records at these offsets only."""
    builder = PieceBuilder(_LIMIT, codec, producer >= 0)
    builder.set_producer_state(producer, 0, 0)
    for offset in offsets:
        builder.append(offset - base, 1, b"k", b"v" * 20, ())
    raw = bytearray(bytes(builder.build()))
    struct.pack_into(">q", raw, 0, base)
    (attributes,) = struct.unpack_from(">h", raw, 21)
    struct.pack_into(">hi", raw, 21, attributes | (_CONTROL if control else 0), last - base)
    return bytes(raw)


class Log:
    """One partition, and which of its offsets are committed messages."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, bytes]] = []
        """Each with its last offset."""
        self.messages: set[int] = set()
        self.aborted: list[tuple[int, int, int]] = []
        """Producer, first and last offset."""
        self.end = 0
        self._open: dict[int, tuple[int, set[int]]] = {}

    @property
    def stable(self) -> int:
        return min((first for first, _ in self._open.values()), default=self.end)

    def write(self, kept: Sequence[bool], producer: int = -1, codec: int = 0) -> None:
        base, last = self.end, self.end + len(kept) - 1
        offsets = [base + number for number, is_kept in enumerate(kept) if is_kept]
        self.batches.append((last, batch(base, offsets, last, producer=producer, codec=codec)))
        self.end = last + 1
        if producer < 0:
            self.messages |= set(offsets)
        else:
            self._open.setdefault(producer, (base, set()))[1].update(offsets)

    def decide(self, producer: int, commit: bool) -> None:
        first, offsets = self._open.pop(producer, (None, set()))
        if first is None:
            return
        if commit:
            self.messages |= offsets
        else:
            self.aborted.append((producer, first, self.end))
        self.batches.append((self.end, batch(self.end, [self.end], self.end, producer=producer, control=True)))
        self.end += 1

    def fetch(self, position: int, size: int, *, is_first: bool = True) -> tuple[bytes, list[tuple[int, int]]]:
        """What Kafka answers: whole batches from that offset, the last one perhaps cut off, but not the very first."""
        found = [raw for last, raw in self.batches if last >= position and last < self.stable]
        if not found or (not is_first and size < len(found[0])):
            return b"", []
        raw = b"".join(found)[: max(size, len(found[0]))]
        return raw, [(producer, first) for producer, first, last in self.aborted if last >= position]


kept = st.lists(st.booleans(), min_size=1, max_size=5)
steps = st.one_of(
    st.tuples(st.just("write"), kept, st.integers(-1, 2), st.sampled_from((0, 1, 3, 4))),
    st.tuples(st.just("decide"), st.integers(0, 2), st.booleans()),
)


def a_log(steps: Iterable[tuple[Any, ...]]) -> Log:
    log = Log()
    for step, *arguments in steps:
        getattr(log, step)(*arguments)
    return log


@given(st.lists(steps, max_size=20), st.data())
def test_what_is_committed_and_still_there_is_counted(steps: list[tuple[Any, ...]], data: st.DataObject) -> None:
    log = a_log(steps)
    start = data.draw(st.integers(0, log.stable))
    count, position = 0, start
    while position < log.stable:
        raw, aborted = log.fetch(position, data.draw(st.integers(1, 400)))
        before = position
        more, position = count_committed(raw, aborted, position, log.stable)
        count += more
        assert position > before
    assert count == len([offset for offset in log.messages if start <= offset < log.stable])


@pytest.mark.parametrize("raw", [batch(0, [0], 0)[:16] + b"\x01" + batch(0, [0], 0)[17:], batch(0, [0, 1, 5], 9)[:-3]])
def test_what_can_not_be_told_is_not_guessed(raw: bytes) -> None:
    """A batch of an old format; and one of records that can't be read, of which some lie below the start."""
    if len(raw) > 90:
        raw = raw + b"\xff" * 3
    with pytest.raises(Uncountable):
        count_committed(raw, [], 1 if raw[16] == 2 else 0, 10)


# ---- within bounds


class Node:
    """Stands where aiokafka's client does, and a broker behind it."""

    def __init__(self, logs: dict[str, Log]) -> None:
        self.logs = logs
        self.asked: list[int] = []
        self.bytes = 0
        self.error: Callable[[str], type[aio.KafkaError] | None] = lambda _: None

    async def raw(self) -> "Node":
        return self

    async def send(self, node: int, request: Any, group: object) -> Any:
        left, is_first, topics, count = request._max_bytes, True, [], 0
        for topic, partitions in request.topics:
            for partition, position, limit in partitions:
                count += 1
                error = self.error(topic)
                raw, aborted = self.logs[topic].fetch(position, min(left, limit), is_first=is_first)
                raw, aborted = (b"", []) if error or (not is_first and left <= 0) else (raw, aborted)
                is_first = is_first and not raw
                left -= len(raw)
                self.bytes += len(raw)
                stable = self.logs[topic].stable
                code = 0 if error is None else error.errno
                topics.append((topic, [(partition, code, stable, stable, 0, aborted, -1, raw)]))
        self.asked.append(count)
        return SimpleNamespace(topics=topics)


def whole(logs: dict[str, Log]) -> list[list[Span]]:
    return [[Span(topic, 0, 0, log.stable)] for topic, log in logs.items()]


async def count(counter: MessageCounter, logs: dict[str, Log], *, of: str = "") -> dict[str, int]:
    leaders = {(topic, 0): 1 for topic in logs}
    found = await counter.count(whole(logs), dict.fromkeys(logs, f"id{of}"), leaders)
    return {span.topic: number for span, number in found.items()}


@timeless
async def test_ten_thousand_queues_are_counted_in_few_requests_and_each_once() -> None:
    logs = {f"queue.{number}": a_log([("write", [True] * (number % 3 + 1), -1, 0)]) for number in range(10_000)}
    node = Node(logs)
    counter = MessageCounter(node)  # type: ignore[arg-type]
    wanted = {topic: len(log.messages) for topic, log in logs.items()}
    assert await count(counter, logs) == wanted
    assert len(node.asked) == 40
    assert max(node.asked) == 250
    assert await count(counter, logs) == wanted
    assert len(node.asked) == 40  # they are as they were
    logs["queue.7"].write([True])
    assert (await count(counter, logs))["queue.7"] == wanted["queue.7"] + 1
    assert node.asked[40:] == [1]
    assert await count(counter, logs, of="others") == wanted | {"queue.7": wanted["queue.7"] + 1}
    assert len(node.asked) == 81  # topics of these names that were made again


@timeless
async def test_no_more_than_64_mib_are_read_and_the_shortest_first() -> None:
    logs = {}
    for number in range(100):
        log = logs[f"queue.{number:02}"] = Log()
        raw = batch(0, [0], 0)
        for _ in range(2 if number < 10 else 3):
            padded = bytearray(raw + b"x" * 600_000)
            struct.pack_into(">qi", padded, 0, log.end, len(padded) - 12)
            log.batches.append((log.end, bytes(padded)))
            log.messages.add(log.end)
            log.end += 1
    node = Node(logs)
    found = await count(MessageCounter(node), logs)  # type: ignore[arg-type]
    assert {f"queue.{number:02}" for number in range(10)} <= found.keys()
    assert all(found[topic] == len(logs[topic].messages) for topic in found)
    assert 20 < len(found) < 60
    assert node.bytes <= (64 << 20) + (1 << 20)


@timeless
async def test_what_is_longer_than_it_may_be_is_not_read_again_from_the_same_place() -> None:
    long = Log()
    for _ in range(1_100):
        raw = bytearray(batch(0, [0], 0) + b"x" * 2_000)
        struct.pack_into(">qi", raw, 0, long.end, len(raw) - 12)
        long.batches.append((long.end, bytes(raw)))
        long.end += 1
    longer = a_log([("write", [True], -1, 0)] * 20_000)
    node = Node({"long": long, "longer": longer})
    counter = MessageCounter(node)  # type: ignore[arg-type]
    assert await count(counter, node.logs) == {}
    assert 0 < node.bytes < (1 << 20) + (1 << 20)
    asked = len(node.asked)
    long.write([True])
    assert await count(counter, node.logs) == {}
    assert len(node.asked) == asked


@timeless
async def test_what_does_not_answer_in_a_second_is_not_counted() -> None:
    class Slow(Node):
        async def send(self, node: int, request: Any, group: object) -> Any:
            await asyncio.sleep(60)

    logs = {"queue.a": a_log([("write", [True], -1, 0)])}
    assert await count(MessageCounter(Slow(logs)), logs) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error", [aio.NotLeaderForPartitionError, aio.OffsetOutOfRangeError, aio.TopicAuthorizationFailedError]
)
@timeless
async def test_a_partition_with_an_error_leaves_out_its_queue_alone(error: type[aio.KafkaError]) -> None:
    logs = {name: a_log([("write", [True], -1, 0)]) for name in ("queue.a", "queue.b")}
    node = Node(logs)
    node.error = lambda topic: error if topic == "queue.a" else None
    assert await count(MessageCounter(node), logs) == {"queue.b": 1}  # type: ignore[arg-type]


@timeless
async def test_what_commands_hold_of_a_partition_is_counted_beside_its_queue() -> None:
    """Kafka takes each partition once in a request."""
    log = a_log([("write", [True, True, True], -1, 0), ("write", [True], 1, 0), ("decide", 1, True)])
    counter = MessageCounter(Node({"queue.a": log}))  # type: ignore[arg-type]
    held, content = Span("queue.a", 0, 1, 3), Span("queue.a", 0, 3, 5)
    assert await counter.count([[content], [held]], {}, {("queue.a", 0): 1}) == {content: 1, held: 2}
