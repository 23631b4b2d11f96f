"""What the engine needs of Kafka, as protocols: `streams.kafka` has the real thing, the tests a model of it.

Offsets are Kafka's: a head or a start is the first one included, an end the first one excluded. Every
method may raise `Unavailable` (nothing happened, try later); what else it raises stands with it.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from streams.domain.depth import Claimed, QueueDepth
from streams.records import Batch, Header, Reader, Tail, Write


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic that exists: its name, its id (another one once it was deleted and created again)."""

    name: str
    id: str
    partitions: int


@dataclass(frozen=True, slots=True)
class GroupOffsets:
    """Offsets to commit for `group` within a transaction, by partition of `topic`.

    `expected` is what the group had committed when they were reckoned, by partition; what is left out had nothing. With
    it, the transaction is committed only if no plain commit has changed that before it. `stamped` are the partitions
    whose offset is the head of a claim, which is marked as that (see `Groups.stamped`).
    """

    group: str
    topic: str
    offsets: Mapping[int, int]
    expected: Mapping[int, int] | None = None
    stamped: Collection[int] = ()


class Producer(Protocol):
    """One transactional id, taken over: the producer that had it before is fenced and its transaction is over."""

    def batch(self, size_bytes: int | None = None, compression: str | None = None) -> Batch:
        """A new empty batch of at most `size_bytes` (size and compression default to the settings')."""
        ...

    async def partitions(self, topics: Collection[str]) -> dict[str, int]:
        """How many partitions each topic has, in one request; topics that don't exist are left out.

        Raises:
            Rejected: nobody may look at some of them.
        """
        ...

    async def send(self, writes: Sequence[Write]) -> None:
        """Write these in the open transaction, or begin one; `transact` commits it. Returns when all are accepted.

        Raises as `transact`, but for Conflict and OutcomeUnknown.
        """
        ...

    async def transact(
        self,
        writes: Sequence[Write],
        offsets: GroupOffsets | None = None,
        before_commit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Write all of it in one transaction, in order per partition, or none of it; with what was sent before.

        The last write goes out when all the others have been accepted. `before_commit` is awaited when all of it
        is written, offsets included; whatever it raises aborts the transaction. A cancellation waits for its end.

        Raises:
            Rejected: aborted; the error says which partitions were turned down and why.
            Unavailable: aborted, or not even begun: a transaction that was left open under this id would be committed.
            Conflict: aborted, as the group has committed other offsets meanwhile, or acknowledged these late.
            Fenced: another producer has the id, or the broker ended the transaction.
            OutcomeUnknown: the commit was sent and its answer did not come.
        After any of these the producer is spent: close it and take the id anew.
        """
        ...

    async def close(self) -> None:
        """Give the connections back; aborts an open transaction where it can, waits for nothing long."""
        ...


class Hold(Protocol):
    """A seat in a consumer group, taken before the others lost theirs: no commit without membership counts."""

    @property
    def delays_members(self) -> bool:
        """Whether nobody gets a partition until the release (false where the broker leads the group: KIP-848)."""
        ...

    @property
    def member_id(self) -> str: ...

    @property
    def evicted(self) -> Collection[str]:
        """The members that were made to leave for it."""
        ...

    async def release(self) -> None:
        """Leave the group; its members go on by themselves."""
        ...


class Topics(Protocol):
    """Which topics there are."""

    async def topics(self, *, everywhere: bool = False) -> list[str]:
        """The names of all topics, as one broker tells; with `everywhere`, of all that any broker tells of."""
        ...

    async def topic(self, name: str) -> Topic | None:
        """The topic, or None where it does not exist."""
        ...

    async def ids(self, topic: str) -> set[str]:
        """The ids under which brokers know the topic: all are asked, and one that is cut off may tell of the past.

        Raises:
            Unavailable: one that others take for alive does not answer.
        """
        ...

    async def is_gone(self, topic: str) -> bool:
        """Whether there is no topic of this name, by the controller's word: brokers may tell of the past.

        Raises:
            Refused: it does not say.
        """
        ...

    async def depths(self, claimed: Claimed, is_wanted: Callable[[str], bool]) -> list[QueueDepth]:
        """How full the queue topics are that are wanted by name, in the order of their names.

        What is short is counted, and the rest is not: all of this takes a second more at most.

        Args:
            claimed: what is not in a queue any more, whatever its group's offsets say; see `streams.domain.head`.
            is_wanted: asked once for each queue topic that there is.
        """
        ...

    async def create(self, names: Collection[str]) -> dict[str, str]:
        """Create queue topics in one request; returns, by name, why those failed that don't exist now."""
        ...


class Log(Protocol):
    """The logs of topics' partitions: where they begin and end, and what is in them."""

    async def high_watermarks(
        self, topic: str, partitions: Iterable[int], *, latest_of: str | None = None
    ) -> dict[int, int]:
        """The ends of the logs, open transactions included; `latest_of` as for `stable_ends`."""
        ...

    async def stable_ends(
        self, topic: str, partitions: Iterable[int], *, latest_of: str | None = None
    ) -> dict[int, int]:
        """The last stable offsets: where a reader of committed records stops.

        With `latest_of`, the topic's id, only from leaders of whose successors no broker knows: what was acknowledged
        before the call lies below them, but for open transactions. Else, or where nobody can tell, Unavailable.
        """
        ...

    async def log_starts(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The lowest offsets that are still there."""
        ...

    async def delete_before(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Free what lies below these offsets, by partition (DeleteRecords)."""
        ...

    async def reader(self, topic: str, partition: int, start: int, end: int) -> Reader:
        """Open a reader of committed records."""
        ...

    async def tail(self, topic: str, starts: Mapping[int, int]) -> Tail:
        """Follow these partitions of a topic, each from its start."""
        ...


class Groups(Protocol):
    """Consumer groups: their offsets, and who is in them."""

    async def committed(
        self, group: str, topic: str, partitions: Iterable[int], *, stable: bool = True
    ) -> dict[int, int]:
        """The group's committed offsets; partitions without one are left out.

        Without `stable`, those that were committed last, whatever is pending.

        Raises:
            Unavailable: a transaction that commits some is still pending (KIP-447's require_stable).
        """
        ...

    async def stamped(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Those of the group's committed offsets that are heads of claims: see `GroupOffsets.stamped`.

        Where a dispatcher has committed since, there is no such evidence.
        """
        ...

    async def members(self, group: str) -> set[str]:
        """The ids of the group's members, whatever its protocol.

        Raises:
            Refused: they can't be listed, or it is a share or a streams group: nobody can be evicted from those.
        """
        ...

    async def evict(self, group: str, members: Collection[str]) -> None:
        """Make these members leave; those that already have are passed over.

        Raises:
            Refused: a member can't be evicted: it is still there, say.
        """
        ...

    async def hold(self, group: str) -> Hold | None:
        """Evict all members of the group; returns the seat that then keeps it (see `Hold`).

        None where there is nobody to evict.

        Raises:
            Refused: the members can't be listed or evicted.
        """
        ...


class Transactor(Protocol):
    """Writing, in transactions and outside of any; and what a topic takes."""

    async def producer(self, transactional_id: str) -> Producer:
        """Take over a transactional id (InitProducerId): fences the producer that had it."""
        ...

    async def mark(self, topic: str, partition: int, key: bytes, headers: Sequence[Header]) -> None:
        """Write a record without a value (acks=all), by a producer of its own, and wait until it is acknowledged.

        What goes wrong here goes wrong for nobody else: not for `publish`, not for a mark in another partition.

        Raises:
            Unavailable: not acknowledged in time; the record may be there, once or more often.
        """
        ...

    async def publish(
        self,
        topic: str,
        records: Sequence[tuple[bytes, bytes | None]],
        partition: int | None = None,
        headers: Sequence[Header] = (),
    ) -> None:
        """Write keyed records outside any transaction (acks=all, idempotent), each with these headers.

        To `partition`, or by murmur2 of the key.

        Raises:
            OutcomeUnknown: no answer; they may have been written.
        """
        ...

    async def max_message_bytes(self, topic: str) -> int:
        """The largest record batch that the topic takes."""
        ...

    async def timestamp_limits(self, topic: str) -> tuple[int, int]:
        """How many ms a record may be older, and newer, than the broker's clock for the topic to take it."""
        ...


class Kafka(Topics, Log, Groups, Transactor, Protocol):
    """A Kafka cluster."""
