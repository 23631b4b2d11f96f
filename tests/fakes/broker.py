"""The cluster's state: topics, groups, transactional ids. It outlives everybody who uses it."""

import asyncio
import itertools
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.fakes.groups import Group
from tests.fakes.log import Changes, PartitionLog, Transaction

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


@dataclass(eq=False)
class FakeTopic:
    """A topic of one life; another one of the same name has another id."""

    name: str
    id: str
    logs: list[PartitionLog]
    changes: Changes
    max_message_bytes: int = 1_048_588
    timestamp_limits: tuple[int, int] = (1 << 62, 1 << 62)


@dataclass(eq=False)
class _TransactionalId:
    epoch: int = 0
    transaction: Transaction | None = None


@dataclass(eq=False)
class Broker:
    """One Kafka cluster."""

    topics: dict[str, FakeTopic] = field(default_factory=dict)
    deleted: list[FakeTopic] = field(default_factory=list)
    groups: dict[str, Group] = field(default_factory=dict)
    ids: dict[str, _TransactionalId] = field(default_factory=dict)
    marker_delay: Callable[[], float] = lambda: 0.0
    """Seconds from the answer to a commit, or from an abort, to one marker of it."""
    now_ms: Callable[[], int] = lambda: int(time.time() * 1000)
    _count: "itertools.count[int]" = field(default_factory=itertools.count)

    # ---- topics

    def create(self, name: str, partitions: int, max_message_bytes: int = 1_048_588) -> str | None:
        """Create a topic; why not, where it can't be."""
        if _NAME.fullmatch(name) is None or name in (".", ".."):
            return f"Topic name {name!r} is invalid"
        if name in self.topics:
            return None
        changes = Changes()
        logs = [PartitionLog(name, partition, changes) for partition in range(partitions)]
        self.topics[name] = FakeTopic(name, f"id-{next(self._count)}", logs, changes, max_message_bytes)
        return None

    def delete(self, name: str) -> FakeTopic:
        """Delete a topic and the offsets that groups have in it."""
        topic = self.topics.pop(name)
        self.deleted.append(topic)
        for group in self.groups.values():
            group.forget(name)
        return topic

    def group(self, name: str) -> Group:
        """The group; there is always one."""
        return self.groups.setdefault(name, Group(name))

    # ---- transactions

    def take_over(self, transactional_id: str) -> int:
        """Fence whoever has the id; returns the new epoch. Its last transaction is aborted if undecided."""
        there = self.ids.setdefault(transactional_id, _TransactionalId())
        there.epoch += 1
        if there.transaction is not None and there.transaction.state == "open":
            self.decide(there.transaction, commit=False)
        return there.epoch

    def begin(self, transactional_id: str, timeout_s: float) -> Transaction:
        """A new transaction of the id; aborted, and its holder fenced, when it takes too long."""
        there = self.ids[transactional_id]
        transaction = there.transaction = Transaction()

        def expire() -> None:
            if transaction.state == "open":
                there.epoch += 1
                self.decide(transaction, commit=False)

        asyncio.get_running_loop().call_later(timeout_s, expire)
        return transaction

    def decide(self, transaction: Transaction, *, commit: bool) -> None:
        """Commit or abort; the markers follow, each in its own time."""
        transaction.state = "committed" if commit else "aborted"
        for target in sorted(transaction.missing, key=_order):
            delay_s = self.marker_delay()
            if delay_s <= 0:
                self._complete(transaction, target)
            else:
                asyncio.get_running_loop().call_later(delay_s, self._complete, transaction, target)

    def finish(self, transaction: Transaction) -> None:
        """Write what is missing of a decided transaction's markers now."""
        for target in sorted(transaction.missing, key=_order):
            self._complete(transaction, target)

    @staticmethod
    def _complete(transaction: Transaction, target: object) -> None:
        if target in transaction.missing:
            transaction.missing.remove(target)
            target.complete(transaction)  # type: ignore[attr-defined]


def _order(target: object) -> tuple[str, int]:
    return (target.topic, target.partition) if isinstance(target, PartitionLog) else (target.name, -1)  # type: ignore[attr-defined]
