"""A command's status: what people see of it."""

import hashlib
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from streams.domain.claim import Tally
from streams.domain.command import Command
from streams.domain.counts import Counts
from streams.domain.topic import topic_of

State = Literal["accepted", "waiting", "claimed", "done", "refused"]
ENDED: frozenset[str] = frozenset({"done", "refused"})


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
            command=hash_of(command),
        )

    def to_bytes(self) -> bytes:
        """As JSON, without what is not set."""
        return self.model_dump_json(exclude_none=True).encode()

    def with_counts(self, counts: Counts | None, waits: Sequence[str] = (), tally: Tally | None = None) -> "Status":
        """This status with what has come of its claims; without any where `counts` is None.

        As long as it is not done, its detail says what it `waits` for, if it does.

        Done once every range of every claim is; `finished_at` is then the time of the last one. What was claimed wins,
        and the `tally` of a transfer, over whatever was written last:
        1. A worker finds that the queue can't be claimed (yet), and stands still before it says so.
        2. The command is another worker's by now, which has more luck: it claims, drains, and is done.
        3. The first one goes on, and writes that the command is refused, or waits, and has not counted any queue.
        """
        counts = counts or Counts()
        if tally is None and not counts.queues:
            return self
        if self.state == "done" and (self.queues is None or self.queues >= counts.queues):
            return self
        status = self._as_claimed(counts, tally)
        finished = status.queues is not None and status.queues <= counts.queues and counts.done == counts.ranges
        details = ["messages were lost in Kafka before they were drained"] if counts.lost else []
        details += [status.detail] if status.detail and not counts.lost else []
        if waits and not finished:
            details.append(f"waiting for {waits[0]}" + (f" (and {len(waits) - 1} more)" if len(waits) > 1 else ""))
        return status.model_copy(
            update={
                "state": "done" if finished else "claimed",
                "detail": "; ".join(details) or None,
                "total": counts.restored + counts.returned if finished else None,
                "restored": counts.restored,
                "returned": counts.returned,
                "returned_reasons": dict(counts.reasons),
                "offsets_total": counts.offsets_total,
                "offsets_done": counts.offsets_done,
                "finished_at": (counts.last_at or status.claimed_at) if finished else None,
            }
        )

    def _as_claimed(self, counts: Counts, tally: Tally | None) -> "Status":
        """With what the ledger says of its claims as a whole, in place of what was written last."""
        if tally is not None:
            # No fewer than all: who counted may not have known what another one was claiming for the same command.
            told = {"queues": max(tally.queues, counts.queues), "detail": tally.detail, "claimed_at": tally.at}
        else:
            queues = 1 if self.type == "xfer.cancel" else self.queues  # a cancel is about one, whatever it says
            is_past = self.state == "refused" or (self.state == "waiting" and queues is not None)
            told = {
                "queues": queues,
                "detail": None if is_past else self.detail,
                "claimed_at": self.claimed_at or counts.first_claimed_at,
            }
        return self.model_copy(update=told)


def hash_of(command: Command) -> str:
    """Of what the command asks for: the same for the same content, whoever asked and when."""
    return hashlib.sha256(command.content().encode()).hexdigest()


def name_of(status: Status) -> str:
    """What a command's ledger partition, and who looks after it, is found by."""
    return status.id if status.queue_name is None else topic_of(status.queue_name)
