"""A command's status: what people see of it."""

import hashlib
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from streams.domain.claim import TransferCount
from streams.domain.command import Command
from streams.domain.counts import Counts
from streams.domain.topic import topic_of
from streams.domain.transitions import ENDED, State, advance


class Status(BaseModel):
    """What has become of one command.

    `total` is a number of records, null until every range was read to its end; until then `offsets_done` of
    `offsets_total` tells the progress. `detail` says why a command was refused or what it waits for.
    `queues` is how many queues were claimed, null until all of them were.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    type: str | None = None
    queue_name: str | None = None
    reason: str | None = None
    state: State
    detail: str | None = None
    queues: int | None = None
    total: int | None = None
    restored: int = 0
    returned: int = 0
    returned_reasons: dict[str, int] = {}
    offsets_total: int | None = None
    offsets_done: int | None = None
    requested_at: str | None = None
    requested_by: str | None = None
    expires_at: str | None = None
    claimed_at: str | None = None
    finished_at: str | None = None
    command: str | None = None
    """A hash of the command's content, to tell whether the same id comes with another one."""

    @classmethod
    def of(cls, command: Command, *, state: State, requested_at: str) -> "Status":
        """A command's first status; `requested_at` counts where the command does not say itself."""
        return cls(
            id=command.id,
            type=command.type,
            queue_name=command.queue,
            reason=command.reason,
            state=state,
            requested_at=command.requested_at or requested_at,
            requested_by=command.requested_by,
            expires_at=command.expires_at,
            command=hash_of(command),
        )

    def to_bytes(self) -> bytes:
        """As JSON, without what is not set."""
        return self.model_dump_json(exclude_none=True).encode()

    def with_counts(
        self, counts: Counts | None, waits: Sequence[str] = (), tally: TransferCount | None = None
    ) -> "Status":
        """This status with what has come of its claims; without any where `counts` is None.

        What was claimed wins, and the `tally` of a transfer, over whatever was written last: a worker that stood still
        writes what was so when it looked. Done once every range of every claim is; `finished_at` is then the time of
        the last one. Until then its detail says what it `waits` for, if it does.
        """
        counts = counts or Counts()
        if tally is None and not counts.queues:
            return self
        if self.state == "done" and (self.queues is None or self.queues >= counts.queues):
            return self  # an end of an earlier version, perhaps half forgotten
        queues: int | None
        if tally is not None:
            queues, detail = tally.queues, tally.detail
        else:
            queues = 1 if self.type == "xfer.cancel" else self.queues
            detail = self.detail if queues is None and self.state == "waiting" else None
        state = advance(None if self.state in ENDED else self.state, "claimed")
        finished = queues is not None and queues <= counts.queues and counts.done == counts.ranges
        if finished:
            state = advance(state, "drained")
        details = ["messages were lost in Kafka before they were drained"] if counts.lost else []
        details += [detail] if detail and not counts.lost else []
        if waits and not finished:
            details.append(f"waiting for {waits[0]}" + (f" (and {len(waits) - 1} more)" if len(waits) > 1 else ""))
        claimed_at = tally.at if tally else self.claimed_at or counts.first_claimed_at
        return self.model_copy(
            update={
                "state": state,
                "detail": "; ".join(details) or None,
                "queues": queues,
                "total": counts.restored + counts.returned if finished else None,
                "restored": counts.restored,
                "returned": counts.returned,
                "returned_reasons": dict(counts.reasons),
                "offsets_total": counts.offsets_total,
                "offsets_done": counts.offsets_done,
                "claimed_at": claimed_at,
                "finished_at": (counts.last_at or claimed_at) if finished else None,
            }
        )


def hash_of(command: Command) -> str:
    """Of what the command asks for: the same for the same content, by any client at any time."""
    return hashlib.sha256(command.content().encode()).hexdigest()


def name_of(status: Status) -> str:
    """The name by which a command's ledger partition, and the worker that looks after it, are found."""
    return status.id if status.queue_name is None else topic_of(status.queue_name)
