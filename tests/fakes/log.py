"""One partition's log: offsets, open transactions, markers."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from streams.records import Header


@dataclass(frozen=True, slots=True)
class FakeRecord:
    """See `streams.records.Record`."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]


@dataclass(eq=False, slots=True)
class Transaction:
    """One transaction; decided first, over once every log and group has its marker."""

    state: Literal["open", "committed", "aborted"] = "open"
    missing: set[object] = field(default_factory=set)
    """The logs and groups that are part of it and have no marker yet."""


@dataclass(frozen=True, slots=True)
class _Entry:
    record: FakeRecord | None
    """None for a marker."""
    transaction: Transaction | None


class Changes:
    """Lets many wait for the next change of something."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """It has changed."""
        for future in self._waiting:
            _end(future)
        self._waiting.clear()

    async def wait(self, within_s: float) -> None:
        """Wait for it, but not longer."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        timer = loop.call_later(within_s, _end, future)
        self._waiting.add(future)
        try:
            await future
        finally:
            timer.cancel()
            self._waiting.discard(future)


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class PartitionLog:
    """Entries at offsets from 0 on. What was freed stays here for the tests to look at."""

    def __init__(self, topic: str, partition: int, changes: Changes) -> None:
        self.topic = topic
        self._changes = changes
        self.partition = partition
        self.start = 0
        self._entries: list[_Entry] = []
        self._open: dict[Transaction, int] = {}

    @property
    def end(self) -> int:
        """The high watermark."""
        return len(self._entries)

    @property
    def stable_end(self) -> int:
        """The last stable offset: the first one of the earliest transaction without a marker here."""
        return min(self._open.values()) if self._open else self.end

    def append(
        self,
        rows: Sequence[tuple[int, bytes | None, bytes | None, Sequence[Header]]],
        transaction: Transaction | None = None,
    ) -> None:
        """Write rows of timestamp, key, value and headers."""
        if transaction is not None and transaction not in self._open:
            self._open[transaction] = self.end
            transaction.missing.add(self)
        for timestamp, key, value, headers in rows:
            record = FakeRecord(self.partition, self.end, timestamp, key, value, tuple(headers))
            self._entries.append(_Entry(record, transaction))
        self._changes.notify()

    def complete(self, transaction: Transaction) -> None:
        """Write the marker of a transaction that was decided."""
        self._entries.append(_Entry(None, transaction))
        del self._open[transaction]
        self._changes.notify()

    def records(self, start: int, end: int) -> Iterator[FakeRecord]:
        """Committed records from `start` up to `end` or the last stable offset (both excluded)."""
        for entry in self._entries[start : min(end, self.stable_end)]:
            if entry.record is not None and (entry.transaction is None or entry.transaction.state == "committed"):
                yield entry.record

    def decided(self, start: int, end: int) -> Iterator[FakeRecord]:
        """Records that are committed or will be seen as such, with or without a marker, for the tests."""
        for entry in self._entries[start:end]:
            if entry.record is not None and (entry.transaction is None or entry.transaction.state == "committed"):
                yield entry.record

    def all_records(self) -> Iterator[FakeRecord]:
        """All of those, what was freed since included."""
        return self.decided(0, self.end)
