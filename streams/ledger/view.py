"""What the ledger's records say, as a view in memory: claims, progress, heads, commands. No I/O. The keys are in
`streams.ledger.keys`; it passes over others, such as those of `streams.ledger.barrier`.
"""

import logging
from collections.abc import Callable, Iterator
from functools import partial

from pydantic import ValidationError

from streams.domain.claim import Claim, Head, Progress, StallReason
from streams.domain.counts import Counts
from streams.domain.depth import Claimed, Claims
from streams.domain.status import Status
from streams.domain.transitions import can_be
from streams.ledger.command_records import CommandRecords
from streams.ledger.keys import HEADS, UNCONFIRMED
from streams.ledger.pending_records import PendingRecords, position_of
from streams.ledger.range_progress import PROGRESS_KINDS, RangeProgress
from streams.ledger.values import put, read
from streams.records import Record, TopicPartition
from streams.telemetry.metrics import UNREADABLE

_log = logging.getLogger(__name__)


class LedgerView(CommandRecords):
    """All that was said so far, in the order in which `apply` was told."""

    def __init__(self) -> None:
        super().__init__()
        self._claims: dict[str, dict[str, Claim]] = {}
        self._progress = RangeProgress()
        self._heads: dict[str, dict[int, Head]] = {}
        self._last_heads: dict[str, Head] = {}  # of those of a topic
        self._topics_of: dict[str, dict[str, bool]] = {}  # in the order of the claims
        self._waiting: dict[tuple[str, str], dict[str, StallReason]] = {}
        self._waiting_of: dict[str, dict[str, bool]] = {}  # the topics of those, by command
        self._left: dict[TopicPartition, dict[str, bool]] = {}
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

    def last_claim(self, topic: str, group: str) -> Claim | None:
        """The last claim of the queue topic that took something; where it is forgotten, what its head tells of it.

        `group` is the dispatchers' group where an earlier version has written the head.
        """
        head = self._last_heads.get(topic)
        if head is None:
            return None
        of_topic = [claim for claim in self._claims.get(topic, {}).values() if claim.topic_id == head.topic_id]
        return next((claim for claim in reversed(of_topic) if claim.ranges), Claim.of_head(topic, head, group))

    def claimed_topics(self) -> list[str]:
        """The queue topics with a claim or a head."""
        return list(self._claims.keys() | self._heads.keys())

    def progress(self, topic: str, partition: int, id: str) -> Progress | None:
        """How far the claim's range in that partition has been drained."""
        return self._progress.of(topic, partition, id, self.claim(topic, id))

    def undrained(self, claim: Claim, partition: int) -> tuple[int, int]:
        """What is left of the claim's range: from where its drain goes on, included, to its end, excluded."""
        start, end = claim.ranges[partition]
        step = self.progress(claim.topic, partition, claim.id)
        return start if step is None else step.offset, end

    def has_earlier_progress(self, topic: str, partition: int, id: str) -> bool:
        """Whether an earlier version has written how far the range has been drained."""
        return self._progress.has_earlier(topic, partition, id)

    def orphans(self) -> list[tuple[str, int, str]]:
        """The ranges, by topic, partition and command, that were drained and of which no claim is known."""
        return [(topic, p, id) for topic, p, id in self._progress.ranges() if self.claim(topic, id) is None]

    def orphan_waits(self) -> list[tuple[str, str]]:
        """By topic and command, what waits of claims that are not known."""
        return [(topic, id) for topic, id in self._waiting if self.claim(topic, id) is None]

    def heads(self, topic: str, topic_id: str) -> dict[int, int]:
        """The ends of the topic's last claims by partition; a topic that was deleted has none."""
        return {
            partition: head.offset
            for partition, head in self._heads.get(topic, {}).items()
            if head.topic_id == topic_id
        }

    def claimed(self, topic: str, topic_id: str) -> Claims:
        """What of the topic is not in the queue any more, and what of that is not drained."""
        undrained: dict[int, list[tuple[int, int]]] = {}
        for claim in self.claims(topic):
            is_over = claim.topic_id != topic_id or claim.id in self._outcomes
            for partition in () if is_over else self.unfinished_partitions(claim):
                undrained.setdefault(partition, []).append(self.undrained(claim, partition))
        return Claims(self.heads(topic, topic_id), undrained)

    def all_claimed(self) -> Claimed:
        """The same for all topics."""
        return {topic: partial(self.claimed, topic) for topic in self.claimed_topics()}

    def unfinished(self, topic: str, partition: int) -> list[Claim]:
        """The claims whose range in this partition is to be drained here, in the order of their offsets.

        Not what needs a worker that can do more, nor what was claimed behind that.
        """
        return [claim for claim, alone in self._in_order(topic, partition) if alone is None]

    def left_alone_in(self, topic: str, partition: int) -> list[tuple[Claim, str]]:
        """The others, each with the command that needs such a worker: the claim's own, or one before it."""
        return [(claim, alone) for claim, alone in self._in_order(topic, partition) if alone is not None]

    def _in_order(self, topic: str, partition: int) -> Iterator[tuple[Claim, str | None]]:
        # Whose command has ended, is drained: a view that has stood still for long may have missed its removal.
        ids = [id for id in self._left.get((topic, partition), ()) if id not in self._outcomes]
        alone: dict[str, str] = {}  # what was claimed behind it of the same topic must not overtake it
        for claim in sorted((self._claims[topic][id] for id in ids), key=lambda claim: claim.ranges[partition]):
            if self.lacking(claim.id):
                alone.setdefault(claim.topic_id, claim.id)
            yield claim, alone.get(claim.topic_id)

    def left(self) -> list[TopicPartition]:
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

    def status(self, id: str) -> Status | None:
        """The command's status with the counts of the moment."""
        status = self.recorded_status(id)
        if status is None or id in self._outcomes:
            return status
        control = self._controls.get(id)
        if control is not None and control.action == "withdraw" and can_be(self.state(id), "withdrawn"):
            status = status.model_copy(update={"detail": "to be withdrawn, at its turn"})
        claims = [self.claim(topic, id) for topic in self._waiting_of.get(id, ())]
        waits = [why for claim in claims if claim is not None for why in self._waits(claim)]
        return status.with_counts(self._counts.get(id), waits, self._tallies.get(id))

    def waiting(self, topic: str, id: str) -> dict[str, StallReason]:
        """What was said last of why the claim does not get on: by partition, or `HEADS`; perhaps out of date."""
        return self._waiting.get((topic, id), {})

    def _waits(self, claim: Claim) -> Iterator[str]:
        for where, wait in sorted(self.waiting(claim.topic, claim.id).items()):
            if where == HEADS and wait.why != UNCONFIRMED:
                yield f"the heads of {claim.topic}: {wait.why}"
            elif where.isdecimal() and int(where) in claim.ranges:
                goes_on_at, _ = self.undrained(claim, int(where))
                if wait.offset == goes_on_at and not self._is_done(claim, int(where)):
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
                self._apply_claim(topic, id, read(Claim, value))
            elif kind in PROGRESS_KINDS:
                topic, partition, id = rest.split("/")
                self._apply_progress(kind, topic, int(partition), id, read(Progress, value))
            elif kind == "head":
                topic, partition = rest.split("/")
                head = read(Head, value)
                put(self._heads, topic, int(partition), head)
                if head is not None:
                    self._last_heads[topic] = head
            elif kind == "waiting":
                topic, where, id = rest.split("/")
                put(self._waiting, (topic, id), where, read(StallReason, value))
                put(self._waiting_of, id, topic, True if (topic, id) in self._waiting else None)
            elif kind == "pending":
                name, *numbers = rest.split("/")
                self.pending.put(name, position_of(numbers), value)
                self.on_pending(name)
            else:
                self._apply_to_command(kind, rest.split("/"), value, record.timestamp)
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
        put(self._claims, topic, id, claim)
        put(self._topics_of, id, topic, None if claim is None else True)
        put(self._needs, id, topic, (claim and claim.needs) or None)
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

    def _mark_left(self, topic: str, partition: int, id: str) -> None:
        claim = self.claim(topic, id)
        is_left = claim is not None and partition in claim.ranges and not self._is_done(claim, partition)
        if is_left and id not in self._left.get((topic, partition), ()):
            put(self._left, (topic, partition), id, True)
            self.on_left(topic, partition, id)
        elif not is_left:
            put(self._left, (topic, partition), id, None)

    def _say_able(self, id: str) -> None:
        if not self.lacking(id):
            for claim in self.claims_of(id):
                for partition in self.unfinished_partitions(claim):
                    self.on_left(claim.topic, partition, id)

    def _say_drained(self, id: str) -> None:
        counts = self._counts.get(id)
        if counts is not None and counts.are_done:
            self.on_drained(id)
