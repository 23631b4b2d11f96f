"""A consumer group: members, generations, committed offsets, and offsets of transactions that are pending."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from streams.records import TopicPartition
from tests.fakes.log import Transaction

_SESSION_S = 10.0


class UnknownMember(Exception):
    """The member is not in the group (any more)."""


class IllegalGeneration(Exception):
    """The group has rebalanced, or is about to."""


@dataclass(slots=True)
class _Committed:
    offset: int
    at: int
    """The place of this commit in the group's log, in which later ones win."""
    is_claims: bool = False
    """Whether it carries a claim's stamp."""


class Group:
    """Kafka's group coordinator, for one group."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind = "consumer"
        """Or share, or streams: then nobody can be evicted, and no offsets are its own."""
        self.is_classic = True
        self.members: dict[str, float | None] = {}
        """Members, with when their session ends where nobody keeps it."""
        self.generation = 0
        self.holder: str | None = None
        self._holder_lives: Callable[[], bool] = lambda: True
        self._holder_died_at: float | None = None
        self._offsets: dict[TopicPartition, _Committed] = {}
        self._pending: dict[Transaction, dict[TopicPartition, _Committed]] = {}
        self._length = 0
        self._joined = 0

    # ---- members

    def join(self, *, seat: Callable[[], bool] | None = None) -> str:
        """A new member's id; `seat` makes it the holder, and says whether it still sends heartbeats."""
        self._joined += 1
        member = f"{self.name}-{self._joined}"
        self.members[member] = None
        self.generation += 1
        if seat is not None:
            self.holder, self._holder_lives, self._holder_died_at = member, seat, None
        return member

    def leave(self, members: Collection[str]) -> None:
        """These leave, or are made to."""
        for member in members:
            if self.members.pop(member, "not there") != "not there":
                self.generation += 1
            if member == self.holder:
                self.holder = None

    def sweep(self) -> None:
        """The session of a holder whose process is gone ends after a while."""
        if self.holder is not None and not self._holder_lives():
            now_s = asyncio.get_running_loop().time()
            if self._holder_died_at is None:
                self._holder_died_at = now_s
            elif now_s - self._holder_died_at >= _SESSION_S:
                self.leave([self.holder])

    def check(self, member: str, generation: int) -> None:
        """What a heartbeat answers.

        Raises:
            UnknownMember, IllegalGeneration
        """
        self.sweep()
        if member not in self.members:
            raise UnknownMember
        if generation != self.generation or self.holder is not None:
            raise IllegalGeneration

    # ---- offsets

    def commit(self, member: str | None, generation: int, offsets: Mapping[TopicPartition, int]) -> None:
        """A plain commit; without a member it counts in an empty group only.

        Raises:
            UnknownMember, IllegalGeneration
        """
        self.sweep()
        if member is not None:
            self.check(member, generation)
        elif self.members:
            raise UnknownMember
        self._offsets |= self._appended(offsets)

    def commit_pending(
        self, transaction: Transaction, offsets: Mapping[TopicPartition, int], claimed: Collection[TopicPartition] = ()
    ) -> None:
        """A transaction's offsets: accepted from anybody, in force with its marker."""
        transaction.missing.add(self)
        appended = self._appended(offsets)
        for where in claimed:
            appended[where].is_claims = True
        self._pending.setdefault(transaction, {}).update(appended)

    def complete(self, transaction: Transaction) -> None:
        """The marker. A plain commit that came after the pending one wins over it."""
        for where, committed in self._pending.pop(transaction).items():
            there = self._offsets.get(where)
            if transaction.state == "committed" and (there is None or there.at < committed.at):
                self._offsets[where] = committed

    def offset(self, topic: str, partition: int) -> int | None:
        """The committed offset, whatever is pending."""
        there = self._offsets.get((topic, partition))
        return None if there is None else there.offset

    def stamped(self, topic: str, partition: int) -> int | None:
        """The same where it carries a claim's stamp."""
        there = self._offsets.get((topic, partition))
        return there.offset if there is not None and there.is_claims else None

    def is_pending(self, where: TopicPartition) -> bool:
        """Whether a transaction without a marker commits this one."""
        return any(where in offsets for offsets in self._pending.values())

    def set_offset(self, topic: str, partition: int, offset: int | None) -> None:
        """An operator resets an offset, or it expires (None)."""
        if offset is None:
            self._offsets.pop((topic, partition), None)
        else:
            self._offsets |= self._appended({(topic, partition): offset})

    def forget(self, topic: str) -> None:
        """The topic was deleted."""
        self._offsets = {where: committed for where, committed in self._offsets.items() if where[0] != topic}

    def _appended(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, _Committed]:
        self._length += 1
        return {where: _Committed(offset, self._length) for where, offset in offsets.items()}
