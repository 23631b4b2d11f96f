"""What the ledger remembers of a claim: the ranges taken, how far each has been drained, and the heads."""

from datetime import datetime
from typing import Annotated, Literal, Self

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from streams.domain.timestamp import parse_time
from streams.domain.trace import parse_trace

Kind = Literal["xfer.cancel", "xfer.start"]
"""What is done to the messages of a claim: restored, or saved. Of the types of commands, those that claim."""

# Whatever stands there: it makes no claim unreadable.
_TextIfAny = Annotated[str | None, BeforeValidator(lambda value: value if isinstance(value, str) else None)]


class LedgerValue(BaseModel):
    """What stands in the ledger under some key; fields of later versions are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def to_bytes(self) -> bytes:
        """As JSON."""
        return self.model_dump_json(exclude_none=True).encode()


class Claim(LedgerValue):
    """A snapshot of one queue, taken for one command.

    `ranges` are offsets by partition, from the first one included to the last one excluded; partitions that
    had nothing are left out. `topic_id` tells the topic from a later one of the same name. `traceparent` and
    `tracestate` are there only where the claim was traced: the drain of a range of it goes on with that trace.
    """

    id: str
    kind: Kind
    topic: str
    topic_id: str
    queue: str
    xfer_queue: str
    reason: str
    group: str
    ranges: dict[int, tuple[int, int]]
    claimed_at: str
    needs: tuple[str, ...] = ()
    """What a worker has to be able to do, to drain it (`streams.domain.abilities`)."""
    traceparent: _TextIfAny = None
    tracestate: _TextIfAny = None

    @classmethod
    def of_head(cls, topic: str, head: "Head", group: str) -> "Claim":
        """What is left of claims that are forgotten: the last one's head, without ranges.

        `group` is the dispatchers' group where the head, of an earlier version, has none.
        """
        return cls(
            id="",
            kind="xfer.cancel",
            topic=topic,
            topic_id=head.topic_id,
            queue="",
            xfer_queue="",
            reason="",
            group=head.group or group,
            ranges={},
            claimed_at=head.claimed_at or "1970-01-01T00:00:00Z",
        )

    @property
    def trace(self) -> dict[str, str]:
        """The trace context of the claim's span, where it was traced."""
        return parse_trace(self.traceparent, self.tracestate)

    @property
    def offsets_total(self) -> int:
        """How many offsets the claim covers: at least as many as records, as markers take offsets too."""
        return sum(end - start for start, end in self.ranges.values())

    def age_s(self, now: datetime) -> float:
        """How long ago it was made, in seconds, as far as its worker's clock and this one go together."""
        return (now - parse_time(self.claimed_at)).total_seconds()

    def task(self, partition: int) -> bytes:
        """The drain task for one partition: a nudge; what there is to do stands in the ledger."""
        return orjson.dumps({"topic": self.topic, "partition": partition, "claim": self.id})


class Progress(LedgerValue):
    """How far one range of a claim has been drained, and what became of its messages.

    `offset` is the next one to drain. `done` alone says that the range is finished. `lost` is set where
    records were gone before they could be drained: the topic deleted, or its log cut off at the start.
    `claimed_at` is the claim's, which tells it from a later one of an id that was forgotten; earlier versions had none.
    """

    topic_id: str
    claimed_at: str | None = None
    offset: int
    restored: int = 0
    returned: int = 0
    reasons: dict[str, int] = {}
    done: bool = False
    lost: bool = False
    at: str

    def is_of(self, claim: Claim) -> bool:
        """Whether it is this claim's: the two come from different partitions of the ledger, in whatever order."""
        return self.claimed_at == claim.claimed_at

    def is_of_earlier(self, claim: Claim, partition: int) -> bool:
        """The same for what an earlier version has written, as far as one can tell."""
        start, end = claim.ranges.get(partition, (0, -1))
        return self.topic_id == claim.topic_id and (self.lost or start <= self.offset <= end)


class TransferCount(LedgerValue):
    """How many queues a transfer has claimed, at the moment when all of them were; why not more, if some could not be.

    Beside the command's status, and no status is written over it: a worker that stood still before it writes a status
    does not know of this.
    """

    queues: int
    at: str
    detail: str | None = None


class StallReason(LedgerValue):
    """Why a claim does not get on: with one range, where `offset` is how far that was, or else with its heads.

    Out of date as soon as the range has got further.
    """

    why: str
    offset: int | None = None


class Owned(LedgerValue):
    """Of which content the command is that wants an id: a hash, as in `Status.command`."""

    content: str
    at_ms: int = 0
    """When that was written, by the broker's clock, in ms since the epoch; not part of the record."""

    def written_at(self, ms: int) -> "Owned":
        """The same, with the time of its record."""
        return self.model_copy(update={"at_ms": ms})


class Head(LedgerValue):
    """The end of the last claim of one queue partition: nothing below it is ever claimed again.

    `group` and `claimed_at` are the claim's, which is forgotten earlier; heads of earlier versions have none.
    """

    topic_id: str
    offset: int
    group: str | None = None
    claimed_at: str | None = None


class Control(LedgerValue):
    """What an operator wants of a command: the worker that carries the command out reads it before it begins.

    It lies with the command: `queue_name` is that of its xfer queue. Who does not know the action of a later version
    finds out by its `needs` (`streams.domain.abilities`).
    """

    action: str
    needs: tuple[str, ...] = ()
    queue_name: str
    reason: str | None = None
    requested_at: str
    requested_by: str | None = None

    @model_validator(mode="after")
    def _can_be_told_from_others(self) -> Self:
        if self.action != "withdraw" and not self.needs:
            raise ValueError("an action that is not known has to say what it needs")
        return self
