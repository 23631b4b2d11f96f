"""The ledger: the one truth about claims, progress, heads and commands, as a view of a compacted topic.

Keys: `claim/<topic>/<id>`, `progress/<topic>/<partition>/<id>`, `head/<topic>/<partition>`, `command/<id>`,
`tally/<topic>/<id>`, and `waiting/<topic>/<partition or "heads">/<id>`, which nothing but the status rests on.
All that belongs to one queue lies in one ledger partition, by a hash of the queue's topic that never changes.
Every process that needs the ledger follows all of it and keeps it in memory.
"""

import asyncio
import logging
import time
import zlib
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TypeVar

from pydantic import ValidationError

from streams.domain.claim import Claim, Head, Progress, Tally, Waiting
from streams.domain.status import Status
from streams.domain.timestamp import InvalidTime, known_time
from streams.errors import Refused, Unavailable, XferqError
from streams.metrics import LEDGER_LAG, OPEN_SECONDS, UNREADABLE
from streams.ports import Kafka, Producer, Record, Tail, Write
from streams.rounds import Rounds
from streams.settings import Settings
from streams.undecided import Undecided

_Outer = TypeVar("_Outer", bound=Hashable)
_Inner = TypeVar("_Inner", bound=Hashable)
_Value = TypeVar("_Value")

_log = logging.getLogger(__name__)
_POLL_S = 0.002
HEADS = "heads"
_BATCH_BYTES = 900_000
"""Under Kafka's default limit of a record batch, 1 MiB."""


class Ledger:
    """A view of the ledger that follows it. `start` it, and `barrier` before trusting an absence."""

    def __init__(self, kafka: Kafka, settings: Settings) -> None:
        self._kafka = kafka
        self._settings = settings
        self._tail: Tail | None = None
        self._following: asyncio.Task[None] | None = None
        self._claims: dict[str, dict[str, Claim]] = {}
        self._progress: dict[tuple[str, int], dict[str, Progress]] = {}
        self._heads: dict[str, dict[int, Head]] = {}
        self._statuses: dict[str, Status] = {}
        self._topics_of: dict[str, dict[str, None]] = {}  # in the order of the claims
        self._tallies: dict[str, Tally] = {}
        self._waiting: dict[tuple[str, str], dict[str, Waiting]] = {}
        self._renew = False
        self._stuck: tuple[dict[int, int], float] | None = None
        self._undecided = Undecided[int]()
        self._barriers = Rounds(self._barrier_all)
        self.unreadable: set[str] = set()
        """Queue topics with a claim that can't be understood, written by a later version perhaps."""

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

    def claim(self, topic: str, id: str) -> Claim | None:
        """What command `id` claimed of the queue topic."""
        return self._claims.get(topic, {}).get(id)

    def claims(self, topic: str) -> list[Claim]:
        """All claims of the queue topic."""
        return list(self._claims.get(topic, {}).values())

    def claimed_topics(self) -> list[str]:
        """The queue topics with a claim or a head."""
        return list(self._claims.keys() | self._heads.keys())

    def progress(self, topic: str, partition: int, id: str) -> Progress | None:
        """How far the claim's range in that partition has been drained."""
        return self._progress.get((topic, partition), {}).get(id)

    def heads(self, topic: str, topic_id: str) -> dict[int, int]:
        """The ends of the topic's last claims by partition; a topic that was deleted has none."""
        return {
            partition: head.offset
            for partition, head in self._heads.get(topic, {}).items()
            if head.topic_id == topic_id
        }

    def unfinished(self, topic: str, partition: int) -> list[Claim]:
        """The claims whose range in this partition is not drained, in the order of their offsets."""
        left = [
            claim
            for claim in self._claims.get(topic, {}).values()
            if partition in claim.ranges and not self._is_done(claim, partition)
        ]
        return sorted(left, key=lambda claim: claim.ranges[partition])

    def is_finished(self, claim: Claim) -> bool:
        """Whether all ranges of the claim are drained."""
        return all(self._is_done(claim, partition) for partition in claim.ranges)

    def unfinished_partitions(self, claim: Claim) -> list[int]:
        """The partitions in which the claim's range is not drained."""
        return [partition for partition in claim.ranges if not self._is_done(claim, partition)]

    def _is_done(self, claim: Claim, partition: int) -> bool:
        progress = self.progress(claim.topic, partition, claim.id)
        return progress is not None and progress.done

    def claims_of(self, id: str) -> list[Claim]:
        """The claims of command `id`, one per queue, in the order in which they were made."""
        return [self._claims[topic][id] for topic in self._topics_of.get(id, ())]

    def recorded_status(self, id: str) -> Status | None:
        """The status as it was last written."""
        return self._statuses.get(id)

    def status(self, id: str) -> Status | None:
        """The command's status with the counts of the moment."""
        status = self._statuses.get(id)
        if status is None:
            return None
        waits = [why for claim in self.claims_of(id) for why in self._waits(claim)]
        return status.with_progress([*self._parts(id)], waits, self._tallies.get(id))

    def tally(self, id: str) -> Tally | None:
        """How many queues the transfer `id` has claimed; None until all of them are."""
        return self._tallies.get(id)

    def statuses(self) -> list[Status]:
        """All statuses as last written, newest first."""
        return sorted(self._statuses.values(), key=_age, reverse=True)

    def waiting(self, topic: str, id: str) -> dict[str, Waiting]:
        """What was said last of why the claim does not get on: by partition, or `HEADS`; perhaps out of date."""
        return self._waiting.get((topic, id), {})

    def _waits(self, claim: Claim) -> Iterator[str]:
        for where, wait in sorted(self.waiting(claim.topic, claim.id).items()):
            if where == HEADS:
                yield f"the heads of {claim.topic}: {wait.why}"
            elif where.isdecimal() and int(where) in claim.ranges:
                step = self.progress(claim.topic, int(where), claim.id)
                offset = claim.ranges[int(where)][0] if step is None else step.offset
                if wait.offset == offset and not (step is not None and step.done):
                    yield f"{claim.topic}/{where}: {wait.why}"

    def _parts(self, id: str) -> Iterator[tuple[Claim, dict[int, Progress]]]:
        for claim in self.claims_of(id):
            steps = {partition: self.progress(claim.topic, partition, id) for partition in claim.ranges}
            yield claim, {partition: step for partition, step in steps.items() if step is not None}

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
                # No await between the end of `read` and the last `_apply`: whoever sees the tail's position
                # move on sees the records applied as well.
                for record in await self._tail.read(timeout_ms=1_000):
                    self._apply(record)
            except XferqError as error:
                _log.warning("ledger.unreadable error=%s", error)
                self._renew = True
                await asyncio.sleep(0.5)

    def _apply(self, record: Record) -> None:
        value = record.value
        kind, _, rest = (record.key or b"").decode(errors="replace").partition("/")
        try:
            if kind == "claim":
                topic, id = rest.split("/")
                self._apply_claim(topic, id, None if value is None else Claim.model_validate_json(value))
            elif kind == "progress":
                topic, partition, id = rest.split("/")
                step = None if value is None else Progress.model_validate_json(value)
                _put(self._progress, (topic, int(partition)), id, step)
            elif kind == "head":
                topic, partition = rest.split("/")
                _put(self._heads, topic, int(partition), None if value is None else Head.model_validate_json(value))
            elif kind == "waiting":
                topic, where, id = rest.split("/")
                wait = None if value is None else Waiting.model_validate_json(value)
                _put(self._waiting, (topic, id), where, wait)
            elif kind == "tally":
                _, id = rest.split("/")
                if value is None:
                    self._tallies.pop(id, None)
                else:
                    self._tallies[id] = Tally.model_validate_json(value)
            elif kind == "command" and value is None:
                self._statuses.pop(rest, None)
            elif kind == "command" and value is not None:
                self._statuses[rest] = Status.model_validate_json(value)
        except (ValidationError, ValueError) as error:
            if kind == "claim":
                self.unreadable.add(rest.partition("/")[0])
            UNREADABLE.inc()
            _log.error(
                "ledger.unreadable_record partition=%s offset=%s error=%s", record.partition, record.offset, error
            )

    def _apply_claim(self, topic: str, id: str, claim: Claim | None) -> None:
        _put(self._claims, topic, id, claim)
        if claim is not None:
            self._topics_of.setdefault(id, {})[topic] = None
        elif id in self._topics_of:
            self._topics_of[id].pop(topic, None)
            if not self._topics_of[id]:
                del self._topics_of[id]


def claim_key(topic: str, id: str) -> str:
    """The ledger key of a claim."""
    return f"claim/{topic}/{id}"


def progress_key(topic: str, partition: int, id: str) -> str:
    """The ledger key of one range's progress."""
    return f"progress/{topic}/{partition}/{id}"


def head_key(topic: str, partition: int) -> str:
    """The ledger key of a head."""
    return f"head/{topic}/{partition}"


def waiting_key(topic: str, where: int | str, id: str) -> str:
    """The ledger key of why a claim does not get on: with one partition, or with its `HEADS`."""
    return f"waiting/{topic}/{where}/{id}"


def tally_key(topic: str, id: str) -> str:
    """The ledger key of how many queues a transfer has claimed; `topic` is that of the xfer queue."""
    return f"tally/{topic}/{id}"


def command_key(id: str) -> str:
    """The ledger key of a command's status."""
    return f"command/{id}"


def _age(status: Status) -> tuple[float, str]:
    """By the moment, and not by its text: services write times in more than one way."""
    try:
        return known_time(status.requested_at or "").timestamp(), status.id
    except InvalidTime:
        return 0.0, status.id


def _moved(before: dict[int, int], now: dict[int, int]) -> bool:
    """Whether any partition that is behind has come further, or has caught up."""
    return any(now.get(partition, at + 1) > at for partition, at in before.items())


def _put(view: dict[_Outer, dict[_Inner, _Value]], outer: _Outer, inner: _Inner, value: _Value | None) -> None:
    """Set or, with None, remove `view[outer][inner]`; no empty dictionaries stay behind."""
    if value is not None:
        view.setdefault(outer, {})[inner] = value
    elif outer in view:
        view[outer].pop(inner, None)
        if not view[outer]:
            del view[outer]
