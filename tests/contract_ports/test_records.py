"""Our reading and building of record batches against aiokafka's own: the same records, the same bytes."""

import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.errors import CorruptRecordException
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.wire.batches import LARGE_BYTES, DrainBatch
from streams.kafka.wire.install import install
from streams.kafka.wire.records import LeanPartitionRecords, LenientRecords
from streams.kafka.wire.runs import RunPartitionRecords
from tests.engine.profile import PROPERTY

_WHERE = TopicPartition("queue.a", 3)
_CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_bytes = st.none() | st.binary(max_size=40)
_large = st.builds(bytes.__mul__, st.binary(min_size=1, max_size=3), st.sampled_from([LARGE_BYTES, 9_000]))
_record = st.fixed_dictionaries(
    {
        "timestamp": st.integers(0, 2**41),
        "key": _bytes,
        "value": _bytes | st.binary(min_size=3_000, max_size=3_000) | _large,
        "headers": st.lists(st.tuples(st.text(max_size=8), _bytes), max_size=4),
    }
)
_batches = st.lists(st.lists(_record, min_size=1, max_size=5), max_size=4)


def build(kind: type[BatchBuilder], records: list[dict[str, Any]], codec: int, size: int = 1 << 20) -> bytes:
    builder = kind(size, codec, is_transactional=0)
    for record in records:
        builder.append(**record)
    return bytes(builder._build())


def laid_out(batches: list[list[dict[str, Any]]], codec: int) -> bytes:
    """The batches as a broker keeps them: one after the other, each with its base offset."""
    data, offset = b"", 0
    for records in batches:
        data += offset.to_bytes(8, "big") + build(BatchBuilder, records, codec)[8:]
        offset += len(records)
    return data


def read(records: Any, kind: type[Any], start: int = 0) -> tuple[list[Any], int]:
    found = kind(_WHERE, records, None, start, None, None, True, READ_COMMITTED)
    return list(found), found.next_fetch_offset


def theirs() -> type[Any]:
    """aiokafka's class, whose place ours has taken."""
    (kind,) = (base for base in LeanPartitionRecords.__mro__[1:] if base.__name__ == "PartitionRecords")
    return kind


@PROPERTY
@given(batches=_batches, codec=st.sampled_from(list(_CODECS.values())), start=st.integers(0, 6))
def test_the_same_records_are_read(batches: list[list[dict[str, Any]]], codec: int, start: int) -> None:
    data = laid_out(batches, codec)
    ours, position = read(LenientRecords(data), LeanPartitionRecords, start)
    their, their_position = read(MemoryRecords(data), theirs(), start)
    assert position == their_position
    assert [one._asdict() | {"headers": tuple(one.headers)} for one in ours] == [asdict(one) for one in their]


@PROPERTY
@given(batches=_batches.filter(bool), at=st.integers(0, 2**20), bit=st.integers(0, 7))
def test_a_bit_that_has_changed_is_noticed(batches: list[list[dict[str, Any]]], at: int, bit: int) -> None:
    data = bytearray(laid_out(batches, 0))
    after_header = 21  # what comes before it is not under the checksum: aiokafka's does not see it either
    length = 12 + int.from_bytes(data[8:12], "big")
    data[after_header + at % (length - after_header)] ^= 1 << bit
    with pytest.raises(CorruptRecordException):
        read(LenientRecords(bytes(data)), LeanPartitionRecords)


@PROPERTY
@given(
    records=st.lists(_record, min_size=1, max_size=8),
    codec=st.sampled_from(list(_CODECS.values())),
    size=st.integers(1, 40_000),
)
def test_the_same_batch_is_built(records: list[dict[str, Any]], codec: int, size: int) -> None:
    assert build(DrainBatch, records, codec, size) == build(BatchBuilder, records, codec, size)


@pytest.mark.parametrize("value", [b"v", b"v" * LARGE_BYTES], ids=["small", "large"])
def test_a_batch_is_full_at_the_same_byte(value: bytes) -> None:
    records = [{"timestamp": 0, "key": None, "value": value, "headers": []}] * 2
    size = len(build(BatchBuilder, records, 0))
    lengths = [len(build(BatchBuilder, records, 0, limit)) for limit in range(size - 2, size + 3)]
    assert len({*lengths}) == 2
    assert [len(build(DrainBatch, records, 0, limit)) for limit in range(size - 2, size + 3)] == lengths


def test_every_consumer_reads_so() -> None:
    from aiokafka.consumer import fetcher

    install()
    assert fetcher.PartitionRecords is RunPartitionRecords
    assert fetcher.MemoryRecords is LenientRecords


BEYOND = """
import struct, sys
import google_crc32c
from aiokafka.errors import CorruptRecordException
from streams.kafka.wire.records import LenientRecords
name = b"\\x02\\xff\\x00"
beyond = b"\\x80\\x80\\x80\\x80\\x08"
record = b"\\0\\0\\0\\x01\\x01\\x04" + name + beyond
record = bytes([len(record) << 1]) + record
checked = struct.pack(">hiqqqhii", 0, 0, 0, 0, -1, -1, -1, 1) + record
batch = struct.pack(">qiibI", 0, len(checked) + 9, -1, 2, google_crc32c.value(checked)) + checked
try:
    list(LenientRecords(batch).next_batch())
except CorruptRecordException:
    print("corrupt")
"""


def test_a_length_beyond_the_batch_behind_a_name_that_is_not_utf_8() -> None:
    """aiokafka's reader of varints looks there: in memory that is not its own."""
    result = subprocess.run([sys.executable, "-c", BEYOND], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "corrupt\n"), result.stderr
