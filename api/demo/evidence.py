"""What a run of the demo leaves to look at: what was put in, what lay where and when, what dispatchers did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from api.demo.corpus import Mail
from streams.kafka.contents import StoredRecord
from streams.kafka.dispatcher import Polled


@dataclass(frozen=True, slots=True)
class Book:
    """What one dispatcher did; `evicted_at` is when it learned of its eviction (Unix seconds), None if never."""

    polled: Sequence[Polled]
    evicted_at: float | None


@dataclass(frozen=True, slots=True)
class Command:
    """A command with what its status says of it at the end."""

    reason: str
    claimed_at: datetime
    finished_at: datetime
    total: int
    restored: int
    returned: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """One run. Records are what a reader of committed records finds; of a queue, those from its head on.

    Attributes:
        mails: what the demo put in.
        xfer_queue: the name of the xfer queue.
        put_in: by scheduled queue, what was in it before the transfer.
        left: the same after it.
        transferred: what was in the xfer queue before the dispatchers began.
        back: by scheduled queue, what was in it after the cancel.
        remaining: what was in the xfer queue after the cancel.
        log: the delivery log.
        books: what each dispatcher of the xfer queue did.
        late: ids of messages that came into the xfer queue after the cancel.
    """

    mails: Sequence[Mail]
    xfer_queue: str
    transfer: Command
    cancel: Command
    put_in: Mapping[str, Sequence[StoredRecord]]
    left: Mapping[str, Sequence[StoredRecord]]
    transferred: Sequence[StoredRecord]
    back: Mapping[str, Sequence[StoredRecord]]
    remaining: Sequence[StoredRecord]
    log: Sequence[StoredRecord]
    books: Sequence[Book]
    late: frozenset[bytes] = field(default=frozenset())
