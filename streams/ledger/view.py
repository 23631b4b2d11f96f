"""What the ledger's records say, as a view in memory: claims, progress, heads, commands. No I/O. The keys are in
`streams.ledger.keys`; others, such as those of `streams.ledger.barrier`, are passed over.
"""

import logging
from collections.abc import Callable, Hashable, Iterator
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from streams.domain.claim import Claim, Head, Owned, Progress, Tally, Waiting
from streams.domain.counts import Counts
from streams.domain.selection import Chunk, Passed, Selection
from streams.domain.status import Status
from streams.domain.timestamp import InvalidTime, known_time
from streams.ledger.keys import HEADS, UNCONFIRMED
from streams.ledger.pending_records import PendingRecords, position_of
from streams.ledger.range_progress import PROGRESS_KINDS, RangeProgress
from streams.records import Record
from streams.telemetry.metrics import UNREADABLE

_Outer = TypeVar("_Outer", bound=Hashable)
_Inner = TypeVar("_Inner", bound=Hashable)
_Value = TypeVar("_Value")
_Said = TypeVar("_Said", bound=BaseModel)

_log = logging.getLogger(__name__)


class LedgerView:
    """All that was said so far, in the order in which `apply` was told."""

    def __init__(self) -> None:
        self._claims: dict[str, dict[str, Claim]] = {}
        self._progress = RangeProgress()
        self._heads: dict[str, dict[int, Head]] = {}
        self._statuses: dict[str, Status] = {}
        self._owners: dict[str, dict[str, Owned]] = {}
        """By id and nonce, in the ledger's order."""
        self._topics_of: dict[str, dict[str, bool]] = {}  # in the order of the claims
        self._tallies: dict[str, Tally] = {}
        self._selections: dict[str, Selection] = {}
        self._counts: dict[str, Counts] = {}
        self._waiting: dict[tuple[str, str], dict[str, Waiting]] = {}
        self._waiting_of: dict[str, dict[str, bool]] = {}  # the topics of those, by command
        self._recorded_ms: dict[str, int] = {}
        """By command, when its status was last written, by the broker's clock."""
        self._left: dict[tuple[str, int], dict[str, bool]] = {}
        """By queue partition, the commands whose range there is not drained."""
        self.pending = PendingRecords()
        self.unreadable: set[str] = set()
        """Queue topics with a claim that can't be understood, written by a later version perhaps."""
        self.on_left: Callable[[str, int, str], None] = lambda *_: None
        """Told of each range that is to be drained, by topic, partition and command."""
        self.on_drained: Callable[[str], None] = lambda _: None
        """Told of each command when all ranges of its claims are drained, of those that there are."""
        self.on_pending: Callable[[str], None] = lambda _: None
        """Told the name of commands of which one more is kept, or one less."""

    def claim(self, topic: str, id: str) -> Claim | None:
        """What command `id` claimed of the queue topic."""
        return self._claims.get(topic, {}).get(id)

    def claims(self, topic: str) -> list[Claim]:
        """All claims of the queue topic, in the ledger's order: that in which they were made, or were put back."""
        return list(self._claims.get(topic, {}).values())

    def claimed_topics(self) -> list[str]:
        """The queue topics with a claim or a head."""
        return list(self._claims.keys() | self._heads.keys())

    def progress(self, topic: str, partition: int, id: str) -> Progress | None:
        """How far the claim's range in that partition has been drained."""
        return self._progress.of(topic, partition, id, self.claim(topic, id))

    def has_earlier_progress(self, topic: str, partition: int, id: str) -> bool:
        """Whether an earlier version has written how far the range has been drained."""
        return self._progress.has_earlier(topic, partition, id)

    def heads(self, topic: str, topic_id: str) -> dict[int, int]:
        """The ends of the topic's last claims by partition; a topic that was deleted has none."""
        return {
            partition: head.offset
            for partition, head in self._heads.get(topic, {}).items()
            if head.topic_id == topic_id
        }

    def unfinished(self, topic: str, partition: int) -> list[Claim]:
        """The claims whose range in this partition is not drained, in the order of their offsets."""
        left = [self._claims[topic][id] for id in self._left.get((topic, partition), ())]
        return sorted(left, key=lambda claim: claim.ranges[partition])

    def left(self) -> list[tuple[str, int]]:
        """The queue partitions, by topic and number, of which ranges are not drained."""
        return list(self._left)

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

    def owner_of(self, id: str) -> str | None:
        """The hash of the content of the command whose id this is: the first that wanted it; None while it is free.

        As far as earlier versions go, who has written a status has not asked.
        """
        for owned in self._owners.get(id, {}).values():
            return owned.content
        status = self._statuses.get(id)
        return None if status is None else status.command

    def unused_ids(self) -> list[tuple[str, int]]:
        """Ids of which no status tells, with when they were wanted, in ms since the epoch."""
        return [
            (id, max(owned.at_ms for owned in owners.values()))
            for id, owners in self._owners.items()
            if id not in self._statuses
        ]

    def wanted(self, id: str) -> list[str]:
        """The nonces of all who wanted the id."""
        return list(self._owners.get(id, ()))

    def recorded_ms(self, id: str) -> int:
        """When that was written, in ms since the epoch, by the broker's clock; 0 for a status that there is not."""
        return self._recorded_ms.get(id, 0)

    def status(self, id: str) -> Status | None:
        """The command's status with the counts of the moment."""
        status = self._statuses.get(id)
        if status is None:
            return None
        claims = [self.claim(topic, id) for topic in self._waiting_of.get(id, ())]
        waits = [why for claim in claims if claim is not None for why in self._waits(claim)]
        return status.with_counts(self._counts.get(id), waits, self._tallies.get(id))

    def tally(self, id: str) -> Tally | None:
        """How many queues the transfer `id` has claimed; None until all of them are."""
        return self._tallies.get(id)

    def selection(self, id: str) -> Selection:
        """What the transfer `id` has selected, and which queues it has passed by."""
        return self._selections.get(id) or Selection()

    def counted_with_passed(self) -> list[tuple[str, str]]:
        """The transfers that are counted and of which queues passed by are still remembered, with when; RFC 3339."""
        counted = [id for id, selection in self._selections.items() if selection.passed and id in self._tallies]
        return [(id, self._tallies[id].at) for id in counted]

    def statuses(self) -> list[Status]:
        """All statuses as last written, newest first."""
        return sorted(self._statuses.values(), key=_age, reverse=True)

    def waiting(self, topic: str, id: str) -> dict[str, Waiting]:
        """What was said last of why the claim does not get on: by partition, or `HEADS`; perhaps out of date."""
        return self._waiting.get((topic, id), {})

    def _waits(self, claim: Claim) -> Iterator[str]:
        for where, wait in sorted(self.waiting(claim.topic, claim.id).items()):
            if where == HEADS and wait.why != UNCONFIRMED:
                yield f"the heads of {claim.topic}: {wait.why}"
            elif where.isdecimal() and int(where) in claim.ranges:
                step = self.progress(claim.topic, int(where), claim.id)
                offset = claim.ranges[int(where)][0] if step is None else step.offset
                if wait.offset == offset and not (step is not None and step.done):
                    yield f"{claim.topic}/{where}: {wait.why}"

    def become(self, other: "LedgerView") -> None:
        """Take over all that the other view holds, which is of no use afterwards."""
        told = {name: value for name, value in vars(self).items() if name.startswith("on_")}
        vars(self).update(vars(other) | told)
        for name in self.pending.names():
            self.on_pending(name)
        for (topic, partition), ids in self._left.items():
            for id in ids:
                self.on_left(topic, partition, id)

    def apply(self, record: Record) -> None:
        """Take in one record, of each partition in order; one that can't be understood is logged and counted."""
        value = record.value
        kind, _, rest = (record.key or b"").decode(errors="replace").partition("/")
        try:
            if kind == "claim":
                topic, id = rest.split("/")
                self._apply_claim(topic, id, _read(Claim, value))
            elif kind in PROGRESS_KINDS:
                topic, partition, id = rest.split("/")
                self._apply_progress(kind, topic, int(partition), id, _read(Progress, value))
            elif kind == "head":
                topic, partition = rest.split("/")
                _put(self._heads, topic, int(partition), _read(Head, value))
            elif kind == "waiting":
                topic, where, id = rest.split("/")
                _put(self._waiting, (topic, id), where, _read(Waiting, value))
                _put(self._waiting_of, id, topic, True if (topic, id) in self._waiting else None)
            elif kind == "pending":
                name, *numbers = rest.split("/")
                self.pending.put(name, position_of(numbers), value)
                self.on_pending(name)
            elif kind == "id":
                id, nonce = rest.split("/")
                owned = _read(Owned, value)
                _put(self._owners, id, nonce, owned and owned.written_at(record.timestamp))
            elif kind == "selection":
                _, id, nonce, number = rest.split("/")
                self._select(id, lambda selection: selection.put(nonce, int(number), _read(Chunk, value)))
            elif kind == "passed":
                topic, id = rest.split("/")
                self._select(id, lambda selection: selection.put_passed(topic, _read(Passed, value)))
            elif kind == "tally":
                _, id = rest.split("/")
                _set(self._tallies, id, _read(Tally, value))
                self._say_drained(id)
            elif kind == "command":
                _set(self._statuses, rest, _read(Status, value))
                _set(self._recorded_ms, rest, None if value is None else record.timestamp)
        except (ValidationError, ValueError) as error:
            if kind == "claim":
                self.unreadable.add(rest.partition("/")[0])
            UNREADABLE.inc()
            _log.error(
                "ledger.unreadable_record partition=%s offset=%s error=%s", record.partition, record.offset, error
            )

    def _apply_claim(self, topic: str, id: str, claim: Claim | None) -> None:
        counts = self._counts.setdefault(id, Counts())
        before = self.claim(topic, id)
        if before is not None:
            for partition in before.ranges:
                counts.replace(before, partition, self.progress(topic, partition, id), None)
            counts.remove(before)
        _put(self._claims, topic, id, claim)
        _put(self._topics_of, id, topic, None if claim is None else True)
        if claim is not None:
            counts.add(claim)
            for partition in claim.ranges:
                counts.replace(claim, partition, None, self.progress(topic, partition, id))
        if not counts.queues:
            del self._counts[id]
        for partition in {*(before.ranges if before else ()), *(claim.ranges if claim else ())}:
            self._mark_left(topic, partition, id)
        self._say_drained(id)  # where its progress was read before it, from another partition

    def _apply_progress(self, kind: str, topic: str, partition: int, id: str, step: Progress | None) -> None:
        before = self.progress(topic, partition, id)
        self._progress.put(kind, topic, partition, id, step)
        claim = self.claim(topic, id)
        if claim is not None:
            self._counts[id].replace(claim, partition, before, self.progress(topic, partition, id))
        self._mark_left(topic, partition, id)
        self._say_drained(id)

    def _select(self, id: str, change: Callable[[Selection], None]) -> None:
        selection = self._selections.setdefault(id, Selection())
        change(selection)
        if selection.is_empty:
            del self._selections[id]

    def _mark_left(self, topic: str, partition: int, id: str) -> None:
        claim = self.claim(topic, id)
        is_left = claim is not None and partition in claim.ranges and not self._is_done(claim, partition)
        if is_left and id not in self._left.get((topic, partition), ()):
            _put(self._left, (topic, partition), id, True)
            self.on_left(topic, partition, id)
        elif not is_left:
            _put(self._left, (topic, partition), id, None)

    def _say_drained(self, id: str) -> None:
        counts = self._counts.get(id)
        if counts is not None and counts.are_done:
            self.on_drained(id)


def _age(status: Status) -> tuple[float, str]:
    """By the moment, and not by its text: services write times in more than one way."""
    try:
        return known_time(status.requested_at or "").timestamp(), status.id
    except InvalidTime:
        return 0.0, status.id


def _read(model: type[_Said], value: bytes | None) -> _Said | None:
    """What a record says; None for one that removes."""
    return None if value is None else model.model_validate_json(value)


def _set(view: dict[_Inner, _Value], key: _Inner, value: _Value | None) -> None:
    """Set or, with None, remove `view[key]`."""
    if value is None:
        view.pop(key, None)
    else:
        view[key] = value


def _put(view: dict[_Outer, dict[_Inner, _Value]], outer: _Outer, inner: _Inner, value: _Value | None) -> None:
    """Set or, with None, remove `view[outer][inner]`; no empty dictionaries stay behind."""
    if value is not None:
        view.setdefault(outer, {})[inner] = value
    elif outer in view:
        view[outer].pop(inner, None)
        if not view[outer]:
            del view[outer]
