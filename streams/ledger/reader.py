"""Reads the ledger: every partition from where it stands, and goes on after every error of Kafka's.

A library's reader may die, or wait for ever, without a word; or it asks a broker that is not the leader any more, and
does not know it. Then another reader takes over the partitions that stand still, and no others.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass

from streams.concurrency.ending import Background
from streams.errors import OutOfRange, Unavailable, XferqError
from streams.ledger.barrier import Marks
from streams.ports import Log
from streams.records import Record, Tail

_log = logging.getLogger(__name__)
_POLL_S = 0.002
_RETRY_S = 0.5
_STILL_S = 5.0
"""So long an acknowledged mark may be on its way: then another reader goes on in that partition."""
_MOST_POLLS = 8
"""So many readers in a row have to say that a log does not hold where we stand, before that is believed."""


class _Part:
    """Some partitions that are read over one connection."""

    def __init__(self, partitions: Iterable[int]) -> None:
        self.partitions = set(partitions)
        self.tail: Tail | None = None
        self.failures = 0


@dataclass(slots=True)
class _Awaited:
    """The latest mark that a caller waits for; where the reader stood at `since`."""

    latest: int
    at: int
    since: float


class LedgerReader:
    """Tells `apply` each record once, those of a partition in their order.

    A partition never goes back: where its log does not hold any more what comes next, it stands still, and is `lost`.
    """

    def __init__(
        self,
        kafka: Log,
        topic: str,
        partitions: int,
        marks: Marks,
        apply: Callable[[Record], None],
        on_lost: Callable[[], None],
    ) -> None:
        self.apply = apply
        self._on_lost = on_lost
        self.lost: set[int] = set()
        """Partitions whose log does not hold where we stand: freed, truncated, or made again."""
        self._kafka = kafka
        self._topic = topic
        self._count = partitions
        self._marks = marks
        self._parts: dict[int, _Part] = {}
        self._next: dict[int, int] = {}
        """By partition: all below it was applied, or is no record."""
        self._delivered: dict[int, int] = defaultdict(int)
        self.marked_ms: dict[int, int] = defaultdict(int)
        """By partition, when the last of our marks was written, by the broker's clock."""
        self._awaited: dict[int, _Awaited] = {}
        """By partition, where a caller waits for a mark."""
        self._news = asyncio.Event()
        self._reading = Background()

    def start(self) -> None:
        """Begin, at the beginning of each partition."""
        if not self._parts:
            self._read(range(self._count))

    async def stop(self) -> None:
        """Stop reading."""
        await self._reading.stop()
        self._say_news()

    # ---- what is known

    @property
    def is_open(self) -> bool:
        """Whether all partitions are being read."""
        return len(self._next) == self._count and all(part.tail is not None for part in self._parts.values())

    async def positions(self, partitions: Iterable[int]) -> dict[int, int]:
        """The next offsets to read: all below them was applied, or is no record; 0 before anything is known."""
        found = {partition: self._next.get(partition, 0) for partition in partitions}
        for part in {id(part): part for part in map(self._parts.__getitem__, found)}.values():
            if part.tail is not None:
                found |= await part.tail.positions(part.partitions & found.keys())
        return found

    async def reach(self, partition: int, offset: int) -> None:
        """Wait until it stands at the offset."""
        while (await self.positions([partition]))[partition] < offset:  # noqa: ASYNC110 - also over what is no record
            await asyncio.sleep(_POLL_S)

    def has_delivered(self, partition: int, number: int) -> bool:
        """Whether the mark of this number has been read, or a later one."""
        return self._delivered[partition] >= number

    async def look_for(self, partition: int, number: int) -> None:
        """Wait for news of a mark that has been acknowledged; returns after some seconds without any as well."""
        if partition not in self._awaited:
            self._await(partition, number)
        self._awaited[partition].latest = max(self._awaited[partition].latest, number)
        self._replace_still()
        with suppress(TimeoutError):
            async with asyncio.timeout(_STILL_S / 2):
                await self._news.wait()

    def _await(self, partition: int, number: int) -> None:
        self._awaited[partition] = _Awaited(number, self._next.get(partition, 0), time.monotonic())

    def is_ahead_of(self, other: "LedgerReader") -> bool:
        """Whether this has read all that the other one has, but for what that one has lost."""
        return all(self._next.get(p, 0) >= at for p, at in other._next.items() if p not in other.lost)

    # ---- reading

    def replace(self, partitions: Collection[int]) -> None:
        """Let another reader read these partitions, from where they stand; the others are not touched."""
        partitions = set(partitions) - self.lost
        if partitions:
            self._leave(partitions)
            self._read(partitions)

    def _replace_still(self) -> None:
        """Replace each reader that should have read a mark, as it is acknowledged, and has read nothing for a while.

        That may be the work of an open transaction as well. Where it is, this does no harm.
        """
        still = set()
        for partition, awaited in self._awaited.items():
            if self._parts[partition].tail is None:
                # It is being opened, which ends in a bounded time: its patience begins only then. A reader that takes
                # longer to open than that would be replaced again and again, and none would ever read.
                self._await(partition, awaited.latest)
            elif time.monotonic() - awaited.since >= _STILL_S and partition not in self.lost:
                if awaited.at == self._next.get(partition, 0):
                    still.add(partition)
                self._await(partition, awaited.latest)
        if still:
            _log.warning("ledger.replaced partitions=%s error='what is there does not come'", sorted(still))
            self.replace(still)

    def _leave(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            part = self._parts[partition]
            part.partitions.discard(partition)
            if part.tail is not None:
                part.tail.leave(partition)

    def _read(self, partitions: Iterable[int]) -> None:
        part = _Part(partitions)
        self._parts |= dict.fromkeys(part.partitions, part)
        self._reading.begin(self._follow(part))

    async def _follow(self, part: _Part) -> None:
        while part.partitions:
            try:
                await self._follow_until_error(part)
            except OutOfRange as error:
                await self._on_missing(part, error)
            except XferqError as error:
                _log.warning("ledger.unreadable error=%s", error)
                await asyncio.sleep(_RETRY_S)
            except Exception:  # noqa: BLE001 - a bug, xferq's or a library's, must not end the reading without a word
                _log.exception("ledger.failed partitions=%s", sorted(part.partitions))
                await asyncio.sleep(_RETRY_S)

    async def _follow_until_error(self, part: _Part) -> None:
        unknown = part.partitions - self._next.keys()
        if unknown:
            self._next |= await self._kafka.log_starts(self._topic, unknown)
        tail = await self._kafka.tail(self._topic, {p: self._next[p] for p in part.partitions})
        part.tail = tail
        try:
            while part.partitions:
                # No await between the end of `read` and the last `apply`: a caller that sees the tail's position
                # move on sees the records applied as well.
                for record in await tail.read(timeout_ms=1_000):
                    self._take(part, record)
                for partition, at in (await tail.positions(list(part.partitions))).items():
                    self._next[partition] = max(self._next[partition], at)
        finally:
            part.tail = None
            await tail.close()

    def _take(self, part: _Part, record: Record) -> None:
        partition = record.partition
        if partition not in part.partitions or record.offset < self._next[partition]:
            return  # another reader's by now, or read by the one before this
        part.failures = 0
        number = self._marks.number_of(record)
        if number is None:
            self.apply(record)
        self._next[partition] = record.offset + 1  # only now: what could not be applied was not read
        if number is None:
            return
        self._delivered[partition] = max(self._delivered[partition], number)
        self.marked_ms[partition] = record.timestamp
        awaited = self._awaited.pop(partition, None)
        if awaited is not None and awaited.latest > number:
            self._await(partition, awaited.latest)
        self._say_news()

    def _say_news(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _on_missing(self, part: _Part, error: OutOfRange) -> None:
        """Some logs don't hold where we stand: so says one broker, perhaps one that has missed the last of them."""
        missing = error.partitions & part.partitions
        if missing != part.partitions:
            self.replace(missing)
            return
        part.failures += 1
        _log.warning("ledger.out_of_range partitions=%s error=%s", sorted(missing), error)
        if part.failures >= _MOST_POLLS:
            self.lost |= part.partitions
            part.partitions.clear()
            self._on_lost()
            return
        await asyncio.sleep(_RETRY_S)


async def read_again(
    reader: LedgerReader, new: LedgerReader, marks: Marks, partitions: Iterable[int], within_s: float
) -> None:
    """Let `new` read all of the ledger, until it knows all that `reader` does and all that was written before this.

    Raises:
        Unavailable: it can't be read to its end.
    """
    new.start()
    wanted = list(partitions)
    try:
        async with asyncio.timeout(within_s):
            numbers = await asyncio.gather(*(marks.write(partition) for partition in wanted))
            for partition, number in zip(wanted, numbers, strict=True):
                while not new.has_delivered(partition, number):
                    await new.look_for(partition, number)
            while not new.is_ahead_of(reader):  # noqa: ASYNC110 - both move on as they like
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise Unavailable("reading the ledger again: it can't be read to its end") from None
