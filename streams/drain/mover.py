"""The step between reading and writing: the mover takes records and fills one transaction's batches.

One call takes many records, so that a compiled mover can replace the one here. A record that would make the caller
wait (its destination has to be looked up or created) goes back to the caller, which resumes it later.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from streams.domain.returned import NotRestorable, ReturnReason
from streams.domain.topic import topic_of
from streams.drain.strategy import Moved, Strategy
from streams.drain.transaction_batch import TransactionBatch
from streams.records import Record
from streams.unopened import Unopened

Returned = tuple[Record, ReturnReason]
"""A record that can't be moved, and why."""


class Waiting(Protocol):
    """A record whose destination is not known yet. Only its topic concerns the caller, which looks that up."""

    @property
    def topic(self) -> str: ...


class WaitingRecord(NamedTuple):
    """A record that waits, and what it is after its move."""

    topic: str
    record: Record
    message: Moved


class Done(NamedTuple):
    """What became of the items of one call: each that was consumed is in the batch, or returned, or waits."""

    consumed: int
    """How many items, from the first on; the caller goes on behind them. None only where `unknown` says why."""
    returned: Sequence[Returned] = ()
    waiting: Sequence[Waiting] = ()
    unknown: str = ""
    """The topic of the item behind them, which the batch does not know and which can't wait as it is partly sent."""


class Mover(Protocol):
    """Moves the records of one range into batches. It awaits nothing, does no I/O and reads no clock, and it keeps
    nothing from one call to the next: the same calls on a new batch give the same bytes.

    The order within each destination's partition is that of the offsets, if the caller keeps to this, of any number of
    records: `move` all of them, piece by piece; look up what waits; `resume` all of that; `give_back` all that was
    returned, in the order of the offsets. The time of all those calls is one.
    """

    def move(self, records: Sequence[Record], batch: TransactionBatch, now: datetime) -> Done:
        """Move records, in the order of their offsets; those for topics that the batch does not know wait.

        But where the batch is partly sent, so that its transaction is open, it stops at the first that would have to.
        """
        ...

    def resume(self, waiting: Sequence[Any], batch: TransactionBatch, now: datetime) -> Done:
        """Move what has waited, of its own; what is for topics that the batch does not know by now is returned."""
        ...

    def give_back(self, returned: Sequence[Returned], batch: TransactionBatch, now: datetime) -> Done:
        """Add the records as they are to the tail of where they were, and count the reasons."""
        ...


class RecordMover:
    """The reference, record by record: see `Mover`."""

    def __init__(self, strategy: Strategy) -> None:
        """`strategy` says what is done with each record."""
        self._strategy = strategy

    def move(self, records: Sequence[Record], batch: TransactionBatch, now: datetime) -> Done:
        """See `Mover`."""
        if records and isinstance(records[0], Unopened):  # it comes alone
            return Done(1, [(records[0], ReturnReason.BATCH_TOO_LARGE)])
        strategy, known, add, now_ms = self._strategy, batch.partitions, batch.add, milliseconds(now)
        returned: list[Returned] = []
        waiting: list[WaitingRecord] = []
        # Each goes into its batch at once: a few thousand messages that lie between the one and the other are new
        # memory for every transaction, which costs as much as the transform itself.
        consumed, unknown = len(records), ""
        for index, record in enumerate(records):
            try:
                message = strategy(record, now)
            except NotRestorable as error:
                returned.append((record, error.code))
                continue
            topic = topic_of(message.queue)
            if topic not in known:
                if batch.is_sent and topic not in batch.refused:
                    consumed, unknown = index, topic
                    break
                waiting.append(WaitingRecord(topic, record, message))
            elif (refusal := add(record, topic, message, now_ms)) is not None:
                returned.append((record, refusal))
        batch.restored += consumed - len(returned) - len(waiting)
        return Done(consumed, returned, waiting, unknown)

    def resume(self, waiting: Sequence[Any], batch: TransactionBatch, now: datetime) -> Done:
        """See `Mover`."""
        now_ms = milliseconds(now)
        returned = [
            (record, refusal)
            for topic, record, message in waiting
            if (refusal := batch.add(record, topic, message, now_ms)) is not None
        ]
        batch.restored += len(waiting) - len(returned)
        return Done(len(waiting), returned)

    def give_back(self, returned: Sequence[Returned], batch: TransactionBatch, now: datetime) -> Done:
        """See `Mover`."""
        now_ms = milliseconds(now)
        for record, reason in returned:
            batch.give_back(record, now_ms)
            batch.reasons[reason.value] += record.count if isinstance(record, Unopened) else 1
        return Done(len(returned))


def milliseconds(now: datetime) -> int:
    """Since 1970."""
    return int(now.timestamp() * 1000)
