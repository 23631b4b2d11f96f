"""The holder of a transactional id."""

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager

from streams.concurrency.ending import uncut
from streams.errors import Conflict, Fenced, OutcomeUnknown, Rejected, Unavailable, XferqError
from streams.ports import GroupOffsets
from streams.records import Batch, Header, Write
from streams.settings.settings import Settings
from tests.fakes.broker import Broker
from tests.fakes.faults import Faults
from tests.fakes.log import Transaction

_BATCH_OVERHEAD = 61
_RECORD_OVERHEAD = 21


class FakeBatch:
    """See `streams.records.Batch`."""

    def __init__(self, limit: int, compression: str) -> None:
        self.rows: list[tuple[int, bytes | None, bytes | None, Sequence[Header]]] = []
        self._limit = limit
        self._size = _BATCH_OVERHEAD
        self._compression = compression

    def append(
        self, *, timestamp: int | None, key: bytes | None, value: bytes | None, headers: Sequence[Header]
    ) -> object | None:
        size = _RECORD_OVERHEAD + len(key or b"") + len(value or b"")
        size += sum(10 + len(name.encode()) + len(content or b"") for name, content in headers)
        if self.rows and self._size + size > self._limit:
            return None
        self._size += size
        self.rows.append((0 if timestamp is None else timestamp, key, value, tuple(headers)))
        return size

    def size(self) -> int:
        return self._size

    def sent_bytes(self) -> int:
        """What of it goes out."""
        if self._compression == "none":
            return self._size
        return _BATCH_OVERHEAD + len(zlib.compress(b"".join(repr(row).encode() for row in self.rows)))


class FakeProducer:
    """See `streams.ports.Producer`. Good until its first error, as the real one."""

    def __init__(self, broker: Broker, settings: Settings, faults: Faults, transactional_id: str, epoch: int) -> None:
        self._broker = broker
        self._settings = settings
        self._faults = faults
        self._id = transactional_id
        self._epoch = epoch
        self._spent = False
        self._transaction: Transaction | None = None
        self._is_committing = False

    def batch(self, size_bytes: int | None = None, compression: str | None = None) -> Batch:
        return FakeBatch(size_bytes or self._settings.batch_bytes, compression or self._settings.compression)

    async def partitions(self, topics: Collection[str]) -> dict[str, int]:
        await self._faults.point("partitions")
        return {name: len(self._broker.topics[name].logs) for name in topics if name in self._broker.topics}

    async def transact(
        self,
        writes: Sequence[Write],
        offsets: GroupOffsets | None = None,
        before_commit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Points, in this order: `transact:<id>`, `.begun` (all but the last write are there), `.offsets`
        (the rest and the offsets, too), `.written` (all has been looked at), `.committed` (but no answer yet)."""
        await uncut(self._transact(writes, offsets, before_commit))

    async def send(self, writes: Sequence[Write]) -> None:
        """Points: `send:<id>`, before anything of it is there, and `.sent`."""
        await uncut(self._send(writes))

    async def _send(self, writes: Sequence[Write]) -> None:
        async with self._within(f"send:{self._id}") as transaction:
            self._write(writes, transaction)
            await self._faults.point(f"send:{self._id}.sent")

    @asynccontextmanager
    async def _within(self, name: str) -> AsyncIterator[Transaction]:
        """In the open transaction, or a new one."""
        if self._spent:
            raise AssertionError("a producer was used after its first error")
        self._spent = True  # until it has gone well
        await self._faults.point(name)
        self._check_epoch()
        if self._transaction is None:
            # As the broker says: not before the last one is over.
            while (last := self._broker.ids[self._id].transaction) is not None and last.missing:
                await self._faults.point(name, counted=False)
                self._check_epoch()
            self._transaction = self._broker.begin(self._id, self._settings.transaction_timeout_ms / 1000)
        transaction = self._transaction
        try:
            yield transaction
        except (Unavailable, Rejected, Conflict) as error:
            if self._is_committing:
                raise OutcomeUnknown(f"committing: {error}") from error
            self._abort(transaction)
            raise
        except Fenced:
            if transaction.state == "open":  # it was timed out
                self._broker.take_over(self._id)
            raise
        self._spent = False

    async def _transact(
        self,
        writes: Sequence[Write],
        offsets: GroupOffsets | None,
        before_commit: Callable[[], Awaitable[None]] | None,
    ) -> None:
        name = f"transact:{self._id}"
        async with self._within(name) as transaction:
            self._write(writes[:-1], transaction)
            await self._faults.point(f"{name}.begun")
            self._write(writes[-1:], transaction)
            if offsets is not None:
                self._check_epoch()
                group = self._broker.group(offsets.group)
                if group.kind != "consumer":
                    raise Unavailable(f"committing offsets of group {offsets.group}: it does not exist")
                group.commit_pending(
                    transaction,
                    {(offsets.topic, p): o for p, o in offsets.offsets.items()},
                    {(offsets.topic, p) for p in offsets.stamped},
                )
                await self._faults.point(f"{name}.offsets")
                there = {p: group.offset(offsets.topic, p) for p in offsets.offsets}
                read = None if offsets.expected is None else {p: o for p, o in offsets.expected.items() if o >= 0}
                if read is not None and read != {p: o for p, o in there.items() if o is not None}:
                    raise Conflict("the group has gone on")
            if before_commit is not None:
                await before_commit()
            self._is_committing = True
            await self._faults.point(f"{name}.written")
            self._check_epoch()
            self._broker.decide(transaction, commit=True)
            await self._faults.point(f"{name}.committed")
        self._transaction, self._is_committing = None, False

    def _write(self, writes: Sequence[Write], transaction: Transaction) -> None:
        """All that are accepted are there, also where others are turned down."""
        reasons = {}
        for write in writes:
            self._check_epoch()
            topic = self._broker.topics.get(write.topic)
            if topic is None or write.partition >= len(topic.logs):
                raise Unavailable(f"{write.topic}/{write.partition} has no leader", {write.topic})
            batch = write.batch
            if not isinstance(batch, FakeBatch):
                raise AssertionError("a batch of another producer")
            older, newer = topic.timestamp_limits
            now_ms = self._broker.now_ms()
            if batch.sent_bytes() > topic.max_message_bytes:
                reasons[(write.topic, write.partition)] = "too_large"
            elif not all(now_ms - older <= (at or now_ms) <= now_ms + newer for at, *_ in batch.rows):
                reasons[(write.topic, write.partition)] = "timestamp"
            else:
                rows = [(at or now_ms, *rest) for at, *rest in batch.rows]  # the broker's time, or the producer's
                topic.logs[write.partition].append(rows, transaction)
        if reasons:
            raise Rejected(reasons)

    def _check_epoch(self) -> None:
        if self._broker.ids[self._id].epoch != self._epoch:
            raise Fenced(f"{self._id} was taken over")

    def _abort(self, transaction: Transaction) -> None:
        if transaction.state == "open" and self._broker.ids[self._id].epoch == self._epoch:
            self._broker.decide(transaction, commit=False)

    async def close(self) -> None:
        try:
            await self._faults.point(f"close:{self._id}")
        except XferqError:  # closing raises nothing, whatever happens
            return
        if self._transaction is not None and not self._spent:
            self._abort(self._transaction)
