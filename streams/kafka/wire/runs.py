"""What a drain reads, by the compiled extension: runs of many records that never become objects of Python."""

from collections.abc import Iterator, Sequence
from typing import Any

from streams.kafka.wire.codecs import MAX_UNPACKED_BYTES, unpacked_bytes
from streams.kafka.wire.records import (
    MAX_BATCH_RECORDS,
    LeanPartitionRecords,
    LenientRecords,
    ReadRecord,
    UndecodedName,
    is_unreadable,
)
from streams.native.extension import Native


class AsRuns:
    """In place of a consumer's deserializer of keys: it gets runs of records, and between them what is unreadable."""

    def __init__(self, native: Native) -> None:
        """Read by this extension."""
        self.native = native

    def __call__(self, key: bytes) -> bytes:
        return key


class RunPartitionRecords(LeanPartitionRecords):
    """The records of a fetch one by one, or as one run, with what is unreadable behind it."""

    _records: LenientRecords
    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[Any]:
        as_runs = self._key_deserializer
        if isinstance(as_runs, AsRuns):
            yield from self._runs(as_runs.native)
        else:
            yield from super()._unpack_records()

    def _runs(self, native: Native) -> Iterator[Any]:
        data, unpacked, bad = self._records.data, unpacked_bytes(), None
        fetch = native.Fetch(data, MAX_BATCH_RECORDS)
        while bad is None and unpacked_bytes() - unpacked < MAX_UNPACKED_BYTES:
            aborted, aborting = self._aborted_transactions, self._aborted_producers
            self.next_fetch_offset, stopped = fetch.read(self.next_fetch_offset, aborted, aborting)
            if stopped is None:
                break
            # One batch that is compressed; or the rest, from one on that is of another format or corrupt.
            self._records = LenientRecords(data[fetch.at : stopped] if stopped < len(data) else data)
            if stopped == len(data):
                self._records.skip_to(fetch.at)
            for record in super()._unpack_records():
                if record.value is None and is_unreadable(record):
                    bad = record
                    break
                fetch.add(record)
            fetch.go_to(stopped)
        if len(fetch):
            yield fetch.take(self._tp[0], self._tp[1], made_record)
        if bad is not None:
            yield bad


def made_record(
    topic: str,
    partition: int,
    offset: int,
    timestamp: int,
    timestamp_type: int,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[bytes, bytes]],
) -> ReadRecord:
    """One record of a run, whose headers have names as they were read."""
    key_size, value_size = (-1 if field is None else len(field) for field in (key, value))
    named = [(_name(name), content) for name, content in headers]
    return ReadRecord(
        topic, partition, offset, timestamp, timestamp_type, key, value, None, key_size, value_size, named
    )


def _name(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return UndecodedName(raw)
