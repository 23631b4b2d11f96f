"""Header names that are not UTF-8: read without stopping, and written back byte for byte.

Kafka does not look at them, and a client in C may write what it likes. aiokafka decodes names strictly and for a
whole fetch, so that one such record would stop the drain of its partition for ever, and on the commands topic
end every worker. Here such a name becomes an `UndecodedName`; only batches that have one take the slow way.
"""

import struct
from typing import Any, SupportsIndex

import aiokafka.consumer.fetcher
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy, _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_LOG_OVERHEAD = 12


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
    """aiokafka's MemoryRecords, whose batches let any header name through."""

    __slots__ = ("_data", "_records")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._records = MemoryRecords(data)

    def size_in_bytes(self) -> int:
        """Of all of it."""
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        """Whether there is another whole batch."""
        return bool(self._records.has_next())

    def next_batch(self) -> "_LenientBatch | None":
        """The next batch, if there is one."""
        batch = self._records.next_batch()
        return None if batch is None else _LenientBatch(batch, self._data)


class _LenientBatch:
    """One batch; everything but iterating is the original's."""

    __slots__ = ("_batch", "_data")

    def __init__(self, batch: Any, data: bytes) -> None:
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Any:
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:
            return iter(self._read_again())

    def _read_again(self) -> list[Any]:
        at = 0
        while True:
            offset, length = struct.unpack_from(">qi", self._data, at)
            end = at + _LOG_OVERHEAD + length
            if offset == self._batch.base_offset:
                batch = _DefaultRecordBatchPy(self._data[at:end])
                batch._maybe_uncompress()
                batch._buffer = _LenientBytes(batch._buffer)
                return list(batch)
            at = end


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


class LenientBatchBuilder(BatchBuilder):  # type: ignore[misc]
    """aiokafka's BatchBuilder that writes an `UndecodedName` as the bytes that it was.

    aiokafka's compiled builder takes plain strings only. A batch that begins with such a record is built by its
    builder in Python; a batch that has begun without one is full when one comes.
    """

    def __init__(self, batch_size: int, compression_type: int, *, is_transactional: int) -> None:
        super().__init__(batch_size, compression_type, is_transactional=is_transactional)
        self._in_python = (batch_size, compression_type, is_transactional)

    def append(self, *, timestamp: int | None, key: bytes | None, value: bytes | None, headers: Any = ()) -> Any:
        """Add a record; None where it does not fit any more."""
        try:
            return super().append(timestamp=timestamp, key=key, value=value, headers=headers)
        except TypeError:
            if not any(isinstance(name, UndecodedName) for name, _ in headers):
                raise
        if self._relative_offset:
            self.close()
            return None
        size, compression, transactional = self._in_python
        self._builder = _DefaultRecordBatchBuilderPy(
            2,
            compression,
            is_transactional=transactional,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=0,
            batch_size=size,
        )
        return super().append(timestamp=timestamp, key=key, value=value, headers=headers)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._builder.set_producer_state(producer_id, producer_epoch, base_sequence)


aiokafka.consumer.fetcher.MemoryRecords = LenientRecords
