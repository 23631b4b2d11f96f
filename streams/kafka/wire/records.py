"""Records as others may have written them: header names that are not UTF-8, and batches that unpack to gigabytes.

Kafka does not look at them, and a client in C may write what it likes. aiokafka decodes names strictly and for a
whole fetch, so that one such record would stop the drain of its partition for ever, and on the commands topic
end every worker. Here such a name becomes an `UndecodedName`; only batches that have one take the slow way.

aiokafka unpacks all that one fetch has brought at once. Here a fetch ends early where it unpacks to much, and a
batch that alone is too large becomes one record without a value, at the batch's last offset (`is_unreadable`).

Kafka looks neither at the offsets within a batch that is not compressed, nor at the bits of a record's attributes, and
its sums of times go round at 64 bits. aiokafka believes the offsets, so that what lies behind would be skipped, and
takes the bits for a longer number, so that a record vanishes. Such a batch is read here, byte by byte, and its records
are counted, as Kafka has counted them.

And every record costs less: its batch's checksum is taken by the processor (aiokafka's is a table in software), and
it becomes a named tuple at a third of the time of aiokafka's dataclass.
"""

import logging
import struct
from collections.abc import Callable, Sequence
from itertools import count
from operator import lt
from typing import Any, NamedTuple, SupportsIndex

import google_crc32c
from aiokafka import TopicPartition
from aiokafka import errors as aio
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint_py

from streams.kafka.unopened import UnopenedBatch
from streams.kafka.wire.codecs import MAX_UNPACKED_BYTES, TooLarge, unpacked_bytes
from streams.records import Header, Record
from streams.unopened import Unopened

MAX_BATCH_RECORDS = 100_000
"""The most records in one batch (inclusive): each takes half a kilobyte of memory, however small it is."""

_LOG_OVERHEAD = 12
_ATTRIBUTES_AT = 21
"""Where in a batch begins what its checksum is of."""
_head = struct.Struct(">qi").unpack_from  # base offset, bytes that follow
_MAGIC = 2
"""Of the batches of Kafka 0.11 and later."""
_HALF = 2**63
"""Times are numbers of 64 bits."""
_UNREADABLE = "too large to be unpacked"
_log = logging.getLogger(__name__)


class UndecodedName(str):
    """A header's name that is not UTF-8: shown with escapes, encoded as the bytes that it was."""

    __slots__ = ("raw",)
    raw: bytes

    def __new__(cls, raw: bytes) -> "UndecodedName":
        """The name of these bytes."""
        name = super().__new__(cls, raw.decode(errors="backslashreplace"))
        name.raw = raw
        return name

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """The bytes that were read."""
        return self.raw


class LenientRecords:
    """aiokafka's MemoryRecords: its batches let any header name through, and it ends where it has unpacked much."""

    __slots__ = ("_at", "_bytes_left", "_data", "_records", "_records_left")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._records = MemoryRecords(data)
        self._bytes_left = MAX_UNPACKED_BYTES
        self._records_left = MAX_BATCH_RECORDS

    @property
    def data(self) -> bytes:
        """All of it, as it came."""
        return self._data

    def size_in_bytes(self) -> int:
        """Of all of it."""
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        """Whether there is another whole batch, and this fetch has not brought enough already."""
        return self._bytes_left > 0 and self._records_left > 0 and bool(self._records.has_next())

    def next_batch(self) -> "_LenientBatch | None":
        """The next batch, if there is one."""
        batch = self._records.next_batch()
        if batch is None:
            return None
        start, self._at = self._at, self._at + _LOG_OVERHEAD + _head(self._data, self._at)[1]
        return _LenientBatch(batch, self._data, start, self._at, self._count)

    def skip_to(self, at: int) -> None:
        """Go on with the batch that begins there."""
        while self._at < at and self.next_batch() is not None:
            pass

    def _count(self, size: int, records: int) -> None:
        self._bytes_left -= size
        self._records_left -= records


class _LenientBatch:
    """One batch; everything but iterating is the original's."""

    __slots__ = ("_batch", "_count", "_data", "_end", "_start")

    def __init__(self, batch: Any, data: bytes, start: int, end: int, count: Callable[[int, int], None]) -> None:
        self._batch = batch
        self._data = data
        self._start = start
        self._end = end
        self._count = count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def validate_crc(self) -> bool:
        """Whether the batch is as it was written."""
        if self._batch.magic < _MAGIC:
            return bool(self._batch.validate_crc())
        crc: int = google_crc32c.value(self._data[self._start + _ATTRIBUTES_AT : self._end])
        return crc == int(self._batch.crc)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Any:
        before = unpacked_bytes()
        try:
            records = self._read()
        except TooLarge:
            _log.error(
                "records.too_large offset=%d end=%d: a batch of more than %d bytes unpacked, or %d records",
                self._batch.base_offset, self._batch.next_offset, MAX_UNPACKED_BYTES, MAX_BATCH_RECORDS,
            )  # fmt: skip
            records = [_UnreadableBatch(self._batch, self._data[self._start : self._end])]
            self._count(MAX_UNPACKED_BYTES, 0)  # of many such in one fetch, each costs as much as all may
        self._count(unpacked_bytes() - before, len(records))
        return iter(records)

    def _read(self) -> list[Any]:
        if self._batch.last_offset_delta >= MAX_BATCH_RECORDS:
            raise TooLarge
        try:
            records = list(self._batch)
        except (UnicodeDecodeError, aio.CorruptRecordException):
            if self._batch.magic != _MAGIC:
                raise
            return self._read_again()
        return records if self._is_in_order(records) else self._read_again()

    def _read_again(self) -> list[Any]:
        batch = _CheckedBatch(self._data[self._start : self._end])
        batch._maybe_uncompress()
        batch._buffer = _LenientBytes(batch._buffer)
        records = list(batch)
        if self._is_in_order(records):
            return records
        first = self._batch.base_offset
        return [record._replace(offset=first + number) for number, record in enumerate(records)]

    def _is_in_order(self, records: Sequence[Any]) -> bool:
        """Whether each record's offset is above that of the one before, and all of them are the batch's."""
        batch = self._batch
        offsets = [batch.base_offset - 1, *(record.offset for record in records), batch.next_offset]
        return batch.magic != _MAGIC or all(map(lt, offsets, offsets[1:]))


class _Raw(NamedTuple):
    """A batch as it lies in the log, and the offset of its first record."""

    base_offset: int
    batch: bytes


class _UnreadableBatch:
    """What stands for all records of a batch that is too large: the last one, without anything in it."""

    key = value = checksum = None

    def __init__(self, batch: Any, raw: bytes) -> None:
        self.headers = ((_UNREADABLE, _Raw(batch.base_offset, raw) if batch.magic == _MAGIC else None),)
        self.offset = batch.next_offset - 1
        self.timestamp = batch.max_timestamp
        self.timestamp_type = batch.timestamp_type


def is_unreadable(record: Record) -> bool:
    """Whether this stands for a batch that was too large to be unpacked."""
    return record.value is None and len(record.headers) == 1 and record.headers[0][0] is _UNREADABLE


def unopened(record: Record, start: int) -> Unopened | None:
    """The batch that such a record stands for, whole; None where it begins before `start`, or is of an old format."""
    raw: Any = record.headers[0][1]
    if raw is None or raw.base_offset < start:
        return None
    batch = UnopenedBatch(raw.batch)
    return Unopened(record.partition, record.offset, record.timestamp, batch.record_count(), batch)


class _CheckedRecord(NamedTuple):
    """What `_CheckedBatch` reads."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]
    checksum: None = None


class _CheckedBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    """A batch whose lengths may be anything: the compiled reader of them does not stop at the end of the memory."""

    def _read_msg(self) -> _CheckedRecord:
        numbers = count()

        def decode(buffer: bytearray, at: int) -> tuple[int, int]:
            # Behind the length are the attributes, which aiokafka takes for a number: they are one byte.
            return (buffer[at], at + 1) if next(numbers) == 1 else decode_varint_py(buffer, at)

        record = super()._read_msg(decode)
        timestamp = (record.timestamp + _HALF) % (2 * _HALF) - _HALF
        return _CheckedRecord(record.offset, timestamp, record.timestamp_type, record.key, record.value, record.headers)


class _LenientBytes(bytearray):
    """Bytes whose slices decode to an `UndecodedName` where they are not UTF-8."""

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        found = super().__getitem__(index)
        return _LenientBytes(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        try:
            return super().decode(encoding, errors)
        except UnicodeDecodeError:
            return UndecodedName(bytes(self))


class ReadRecord(NamedTuple):
    """A record as read, with the fields of aiokafka's ConsumerRecord."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    checksum: int | None
    serialized_key_size: int
    serialized_value_size: int
    headers: Sequence[Header]


class LeanPartitionRecords(PartitionRecords):  # type: ignore[misc]
    """aiokafka's, with a `ReadRecord` for each record; for consumers without deserializers."""

    def _consumer_record(self, where: TopicPartition, record: Any) -> ReadRecord:
        key, value = record.key, record.value
        return ReadRecord(
            where[0],
            where[1],
            record.offset,
            record.timestamp,
            record.timestamp_type,
            key,
            value,
            record.checksum,
            -1 if key is None else len(key),
            -1 if value is None else len(value),
            record.headers,
        )
