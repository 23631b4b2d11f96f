"""Errors, one class for each thing that the caller should do next.

XferqError
|- Refused         it can't be done as asked: tell the client why, and don't try again
|- Fenced          another process owns this work now: drop it, unless it is still in this worker's share
|- OutcomeUnknown  it may have happened: build anew, read what is there, go on from that
|- Conflict       what it was based on has changed meanwhile, nothing happened: start again at once
|- Unavailable     it did not happen and may well work later: back off, then try again
|  `- Unreadable   records that no worker may unpack: a person has to remove them
|- Rejected        Kafka turned down some writes; the transaction was aborted, so nothing
|                  happened: look at which ones, change them, try again
|- OutOfRange      records that should be there are not: look at the topic again
|- Misconfigured   no retry helps until a person changes a setting: stop, and name it
|  `- InvalidSettings  so much so that nothing was begun: xferq was used wrongly
`- BrokerError     the embedded broker can't do what was asked (in `streams.broker`)
"""

from collections.abc import Collection, Mapping


class XferqError(Exception):
    """Base of all errors of xferq; never raised itself."""


class Refused(XferqError):
    """The request can't be done as asked; the message is for the person or service that asked."""


class NotAQueue(Refused):
    """The queue that the request names does not exist."""


class Fenced(XferqError):
    """Another producer took this transactional id, or the broker timed the transaction out.

    aiokafka can't tell the two apart: before building a new producer, find out who owns the work.
    """


class OutcomeUnknown(XferqError):
    """A transaction's commit was neither confirmed nor denied."""


class Conflict(XferqError):
    """What the work was based on has changed meanwhile; nothing was done."""


class Unavailable(XferqError):
    """Kafka, or a part of it, did not answer in time or is not ready; nothing was changed.

    `topics` are those whose partitions did not, where that is known.
    """

    def __init__(self, message: str, topics: Collection[str] = ()) -> None:
        self.topics = frozenset(topics)
        super().__init__(message)


class Unreadable(Unavailable):
    """Records are larger, once unpacked, than a worker may hold: they stand in the way until a person removes them."""


class Rejected(XferqError):
    """The broker turned down writes to these partitions; the whole transaction was aborted.

    `reasons` maps (topic, partition) to why: "too_large", "timestamp" or another word; `topics` are theirs.
    """

    def __init__(self, reasons: Mapping[tuple[str, int], str]) -> None:
        self.reasons = dict(reasons)
        self.topics = frozenset(topic for topic, _ in self.reasons)
        where = ", ".join(f"{topic}/{partition}: {why}" for (topic, partition), why in self.reasons.items())
        super().__init__(f"Kafka rejected writes to {where}")


class OutOfRange(XferqError):
    """An offset that should be there is below the log's start or beyond its end; in `partitions`, of several."""

    def __init__(self, message: str, partitions: Collection[int] = ()) -> None:
        self.partitions = frozenset(partitions)
        super().__init__(message)


class Misconfigured(XferqError):
    """A setting is wrong; the message names it."""


class Revoked(Exception):
    """The drain stopped at a transaction's edge: it has left this worker's share. Its next owner goes on with it."""


class InvalidSettings(Misconfigured):
    """The settings can't be used as they are; the message names each one and where it stands."""
