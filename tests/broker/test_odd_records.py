"""Batches that Kafka takes and no library writes: offsets out of order, attributes of a record, times that go round."""

import asyncio
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import google_crc32c
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED

from streams.broker import EmbeddedBroker
from streams.kafka.cluster import Cluster
from streams.kafka.topics import Topics
from streams.kafka.wire.batches import LARGE_BYTES, DrainBatch
from streams.kafka.wire.records import LenientRecords
from streams.kafka.wire.runs import AsRuns, RunPartitionRecords
from streams.native.extension import native_of
from streams.records import Record
from streams.settings.settings import Settings
from tests.native.extension import needs_native
from tests.support.names import own_name, remove_topics
from tests.support.patience import WAIT_S

pytestmark = pytest.mark.nodes
_head = struct.Struct(">qiibIhiqqqhii")
_NOW = int(time.time() * 1000)
Wish = Literal["yes", "no"]
WISHES = (pytest.param("yes", marks=needs_native), "no")


def number(value: int) -> bytes:
    """As a varint of at most 64 bits, zigzag."""
    left, found = (value << 1 ^ value >> 63) & (2**64 - 1), b""
    while left > 0x7F:
        left, found = left >> 7, found + bytes([left & 0x7F | 0x80])
    return found + bytes([left])


def record(value: bytes, delta: int, *, since: int = 0, attributes: int = 0, name: bytes = b"h") -> bytes:
    body = bytes([attributes]) + number(since) + number(delta)
    for field in (b"k", value):
        body += number(len(field)) + field
    body += number(1) + number(len(name)) + name + number(-1)
    return number(len(body)) + body


def batch(*records: bytes, base: int = 0, first_ms: int = _NOW) -> bytes:
    body = b"".join(records)
    count = len(records)
    raw = bytearray(
        _head.pack(base, 49 + len(body), -1, 2, 0, 0, count - 1, first_ms, first_ms, -1, -1, -1, count) + body
    )
    struct.pack_into(">I", raw, 17, google_crc32c.value(bytes(raw[21:])))
    return bytes(raw)


ODD: Mapping[str, Sequence[bytes]] = {
    "far": [record(b"1", 0), record(b"2", 500), record(b"3", 2**31 - 1)],
    "below": [record(b"1", -5), record(b"2", -5), record(b"3", -(2**31))],
    "backwards": [record(b"1", 2), record(b"2", 1), record(b"3", 0)],
    "alike": [record(b"1", 1), record(b"2", 1), record(b"3", 1)],
    "attributes": [record(b"1", 0, attributes=0x80), record(b"2", 1, attributes=0xFF), record(b"3", 2)],
    "name": [record(b"1", 0, attributes=0x80, name=b"\xff"), record(b"2", 7, name=b"\xfe"), record(b"3", 2)],
}
ROUND = {"first_ms": -(2**63), "since": _NOW - 2**63}
"""The sum is now, at 64 bits."""


def batches() -> list[bytes]:
    """All of them, each with a usual one behind it."""
    found: list[bytes] = []
    base = 0
    for odd in ODD.values():
        found += (batch(*odd, base=base), batch(record(b"u", 0), record(b"v", 1), base=base + 3))
        base += 5
    for name in (b"h", b"\xff"):
        found.append(batch(record(b"r", 0, since=ROUND["since"], name=name), base=base, first_ms=ROUND["first_ms"]))
        base += 1
    return found


VALUES = b"123uv" * len(ODD) + b"rr"


def require_all(records: Sequence[Record], start: int = 0) -> None:
    assert b"".join(one.value or b"" for one in records) == VALUES[start:]
    assert [one.offset for one in records] == list(range(start, len(VALUES)))
    assert {(one.key, one.timestamp) for one in records} == {(b"k", _NOW)}


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("start", [0, 1, 7, 21])
def test_none_is_left_out_and_none_is_beyond_its_batch(wish: Wish, start: int) -> None:
    native = native_of(Settings(native=wish))
    as_runs = None if native is None else AsRuns(native)
    # A fetch begins with the batch that the offset is in.
    first = max(n for n, raw in enumerate(batches()) if int.from_bytes(raw[:8], "big") <= start)
    records = LenientRecords(b"".join(batches()[first:]))
    parts = RunPartitionRecords(TopicPartition("queue.a", 0), records, [], start, as_runs, None, True, READ_COMMITTED)
    items = list(parts)
    require_all([*items[0]] if native else items, start)
    assert parts.next_fetch_offset == len(VALUES)


async def test_kafka_takes_them_and_a_drain_s_reader_gives_all(broker: EmbeddedBroker) -> None:
    topic = own_name("odd")
    settings: dict[str, Any] = {"bootstrap_servers": broker.bootstrap_servers}
    async with Cluster(Settings(**settings)) as kafka:
        await Topics(kafka.connection).create({topic: 1}, {}, 1)
        while await kafka.topic(topic) is None:
            await asyncio.sleep(0.02)
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers)
        await producer.start()
        try:
            for raw in batches():
                one = producer.create_batch()
                one.append(key=None, value=b"", timestamp=None)
                one._build()
                one._buffer = bytes(8) + raw[8:]
                await (await producer.send_batch(one, topic, partition=0))
        finally:
            await producer.stop()
        assert await kafka.high_watermarks(topic, [0]) == {0: len(VALUES)}
        reader = await kafka.reader(topic, 0, 0, len(VALUES))
        records: list[Record] = []
        try:
            async with asyncio.timeout(WAIT_S):
                while reader.position < len(VALUES):
                    records += await reader.read()
        finally:
            await reader.close()
        require_all(records)
    remove_topics(broker.bootstrap_servers, topic)


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("value", [b"v", b"v" * LARGE_BYTES], ids=len)
def test_times_that_are_far_apart_are_written_as_they_are(wish: Wish, value: bytes) -> None:
    times = [_NOW - 2**63 + 1, _NOW + 3_600_000]
    native = native_of(Settings(native=wish))
    made: Any = DrainBatch(1 << 20, 0, is_transactional=1) if native is None else native.Batch(1 << 20, 0, None)
    for timestamp in times:
        assert made.append(timestamp=timestamp, key=b"k", value=value, headers=[("h", b"")]) is not None
    found = LenientRecords(bytes(made._build())).next_batch()
    assert found is not None
    assert [one.timestamp for one in found] == times
