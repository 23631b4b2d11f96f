"""Records of topics: as they are read, and as they are written.

Every method that reads may raise `Unavailable` (nothing happened, try later); what else it raises stands with it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

Header = tuple[str, bytes]
TopicPartition = tuple[str, int]
"""A partition of a topic: the topic's name, the partition's number."""


class Record(Protocol):
    """A record as read (aiokafka's ConsumerRecord); `timestamp` in ms."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[Header]: ...


class Batch(Protocol):
    """Records for one partition of one topic, built before or while another transaction commits."""

    def append(
        self, *, timestamp: int | None, key: bytes | None, value: bytes | None, headers: Sequence[Header]
    ) -> object | None:
        """Add a record; None where it does not fit any more (the first one always fits)."""
        ...

    def size(self) -> int:
        """Its size in bytes so far, uncompressed."""
        ...


@dataclass(frozen=True, slots=True)
class Write:
    """One batch and where it goes."""

    topic: str
    partition: int
    batch: Batch


class Reader(Protocol):
    """Committed records of one partition, from a start up to an end (excluded)."""

    @property
    def position(self) -> int:
        """The next offset to read; at or past the end once everything was read, markers included."""
        ...

    async def read(self) -> Sequence[Record]:
        """The next records, in order; may be empty, with the position gone on or not.

        What is not unpacked comes alone, as `streams.unopened.Unopened`.

        Raises:
            Unreadable: a batch that is too large to unpack begins before the start.
            OutOfRange: the position lies below the log's start or beyond its end.
        """
        ...

    async def close(self) -> None: ...


class Tail(Protocol):
    """Committed records of some partitions of one topic, each from its start and on and on."""

    async def read(self, timeout_ms: int) -> Iterable[Record]:
        """What has come, or nothing after `timeout_ms`.

        Raises:
            OutOfRange: the log of some `partitions` does not hold where this stands: freed, truncated, or not there
                at the broker that was asked.
        """
        ...

    async def positions(self, partitions: Iterable[int]) -> dict[int, int]:
        """The next offsets to read: everything below was returned by `read` or is no record."""
        ...

    def leave(self, partition: int) -> None:
        """Don't fetch this partition any more; what was fetched before may still be returned."""
        ...

    async def close(self) -> None: ...
