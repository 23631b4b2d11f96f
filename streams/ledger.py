"""The ledger: the one truth about claims, progress, heads and commands, as a view of a compacted topic.

What its records say is in `streams.ledger_view`. All that belongs to one queue lies in one ledger partition, by a hash
of the queue's topic that never changes.
Every process that needs the ledger follows all of it and keeps it in memory.
"""

import asyncio
import logging
import time
import zlib
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

from streams.domain.status import Status
from streams.errors import Refused, Unavailable, XferqError
from streams.ledger_view import LedgerView, command_key
from streams.metrics import LEDGER_LAG, OPEN_SECONDS
from streams.ports import Kafka, Producer, Tail, Write
from streams.rounds import Rounds
from streams.settings import Settings
from streams.undecided import Undecided

_log = logging.getLogger(__name__)
_POLL_S = 0.002
_BATCH_BYTES = 900_000
"""Under Kafka's default limit of a record batch, 1 MiB."""


class Ledger(LedgerView):
    """A view of the ledger that follows it. `start` it, and `barrier` before trusting an absence."""

    def __init__(self, kafka: Kafka, settings: Settings) -> None:
        super().__init__()
        self._kafka = kafka
        self._settings = settings
        self._tail: Tail | None = None
        self._following: asyncio.Task[None] | None = None
        self._renew = False
        self._stuck: tuple[dict[int, int], float] | None = None
        self._undecided = Undecided[int]()
        self._barriers = Rounds(self._barrier_all)

    async def start(self) -> None:
        """Begin to follow; returns once all that was committed before is known.

        Not up to the high watermark, where a worker that died may have left a transaction open: what ends it before
        its time-out is only the work that begins after this.

        Raises:
            Unavailable: it could not be read to its end; call again.
        """
        if self._following is None:
            self._following = asyncio.create_task(self._follow())
        partitions = range(self._settings.ledger_partitions)
        await self._reach(await self._kafka.stable_ends(self._settings.ledger_topic, partitions))

    async def look(self) -> None:
        """See that Kafka answers and that the view follows; a reader that stands still is replaced.

        To be called every few seconds. A library's reader may die, or wait for ever, without a word: it has then
        not come up to what was committed, look after look, although Kafka says that there is more.

        Raises:
            Unavailable: Kafka does not answer, or the view does not follow.
        """
        partitions = range(self._settings.ledger_partitions)
        ends = await self._kafka.stable_ends(self._settings.ledger_topic, partitions)
        OPEN_SECONDS.labels(where="ledger").set(self._undecided.look(ends, await self._written(partitions)))
        if self._tail is None:
            raise Unavailable("reading the ledger: it is being opened")
        positions = {partition: await self._tail.position(partition) for partition in partitions}
        behind = {partition: at for partition, at in positions.items() if at < ends[partition]}
        LEDGER_LAG.set(sum(ends[partition] - at for partition, at in behind.items()))
        now = time.monotonic()
        if not behind:
            self._stuck = None
        elif self._stuck is None or _moved(self._stuck[0], behind):
            self._stuck = behind, now
        elif now - self._stuck[1] > self._settings.request_timeout_ms / 1000:
            self._stuck, self._renew = None, True
            raise Unavailable("reading the ledger: nothing comes, though there is more")

    async def stop(self) -> None:
        """Stop following."""
        await self._barriers.stop()
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
        if self._tail is not None:
            await self._tail.close()

    # ---- reading

    def partition_of(self, name: str) -> int:
        """The ledger partition for a queue's topic (or for the id of a command that names no queue)."""
        return zlib.crc32(name.encode()) % self._settings.ledger_partitions

    async def barrier(self, name: str) -> None:
        """Wait until all that was written to the ledger partition of `name` before this call is known.

        Up to the high watermark, not to the last stable offset: a transaction's marker may come after the
        answer to its commit, and what it wrote lies beyond the last stable offset until then.

        Raises:
            Unavailable: it took too long.
        """
        await self._reach(await self._written([self.partition_of(name)]))

    async def barrier_all(self) -> None:
        """The same for all of the ledger; those who ask at once wait together, for as many requests as one needs."""
        await self._barriers.answer(self._settings.ledger_topic)

    async def _barrier_all(self, asked: Collection[str]) -> dict[str, Exception | None]:
        await self._reach(await self._written(range(self._settings.ledger_partitions)))
        return dict.fromkeys(asked)

    async def _written(self, partitions: Iterable[int]) -> dict[int, int]:
        return await self._kafka.high_watermarks(self._settings.ledger_topic, partitions)

    async def _reach(self, marks: Mapping[int, int]) -> None:
        try:
            # A transaction left open by a crash ends at its time-out, for which the broker looks every 10 s.
            async with asyncio.timeout((self._settings.transaction_timeout_ms + 15_000) / 1000):
                for partition, mark in marks.items():
                    while self._tail is None or await self._tail.position(partition) < mark:  # noqa: ASYNC110
                        await asyncio.sleep(_POLL_S)
        except TimeoutError:
            # Perhaps the reader itself has died, which a library's task may do without a word.
            self._renew = True
            raise Unavailable("reading the ledger: it can't be read to its end") from None

    # ---- writing

    def write(self, producer: Producer, name: str, values: Iterable[tuple[str, bytes | None]]) -> Write:
        """Ledger records as part of a transaction, in the partition of `name`; a null removes.

        Raises:
            Refused: they don't fit into one batch.
        """
        batch = producer.batch(_BATCH_BYTES)
        for key, value in values:
            if batch.append(timestamp=None, key=key.encode(), value=value, headers=[]) is None:
                raise Refused(f"{name} has more partitions than one claim can take")
        return Write(self._settings.ledger_topic, self.partition_of(name), batch)

    async def record_status(self, name: str, status: Status) -> None:
        """Write a status outside any transaction, durably before this returns."""
        await self.record(name, [(command_key(status.id), status.to_bytes())])

    async def record(self, name: str, values: Iterable[tuple[str, bytes | None]]) -> None:
        """Write ledger records outside any transaction, in the partition of `name`; a null removes."""
        await self._kafka.publish(
            self._settings.ledger_topic,
            [(key.encode(), value) for key, value in values],
            partition=self.partition_of(name),
        )

    # ---- following

    async def _follow(self) -> None:
        while True:
            try:
                if self._renew and self._tail is not None:
                    # From the beginning again; until it has caught up no barrier lets anybody through.
                    spent, self._tail = self._tail, None
                    await spent.close()
                if self._tail is None:
                    self._tail = await self._kafka.tail(self._settings.ledger_topic, self._settings.ledger_partitions)
                    self._renew = False
                # No await between the end of `read` and the last `apply`: whoever sees the tail's position
                # move on sees the records applied as well.
                for record in await self._tail.read(timeout_ms=1_000):
                    self.apply(record)
            except XferqError as error:
                _log.warning("ledger.unreadable error=%s", error)
                self._renew = True
                await asyncio.sleep(0.5)


def _moved(before: dict[int, int], now: dict[int, int]) -> bool:
    """Whether any partition that is behind has come further, or has caught up."""
    return any(now.get(partition, at + 1) > at for partition, at in before.items())
