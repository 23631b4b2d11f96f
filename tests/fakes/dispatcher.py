"""A dispatcher: a member of a queue's consumer group that takes messages out of the queue."""

import asyncio
from dataclasses import dataclass

from tests.fakes.broker import Broker
from tests.fakes.groups import IllegalGeneration, UnknownMember


@dataclass(frozen=True, slots=True)
class Dispatched:
    """A message that a dispatcher has got; `learned_at` is when it was told where to begin."""

    topic_id: str
    partition: int
    offset: int
    key: bytes | None
    at: float
    learned_at: float


class FakeDispatcher:
    """Polls and commits as an aiokafka consumer does: what it was assigned stays its own until a commit or a
    heartbeat tells it otherwise, and then it sends a last commit without membership."""

    def __init__(self, broker: Broker, group: str, topic: str) -> None:
        self.got: list[Dispatched] = []
        self._broker = broker
        self._group = broker.group(group)
        self._topic = topic
        self._topic_id = ""
        self._member: str | None = None
        self._generation = -1
        self._positions: dict[int, int] = {}
        self._learned_at = 0.0

    @property
    def is_member(self) -> bool:
        """Whether it believes to be one."""
        return self._member is not None

    def join(self) -> None:
        """Join the group, and get partitions if it is not held."""
        if self._member is None:
            self._group.sweep()
            self._member = self._group.join()
        self._sync()

    def _sync(self) -> None:
        self._group.sweep()
        topic = self._broker.topics.get(self._topic)
        if self._member not in self._group.members:
            self._forget()
        elif self._group.holder is None and topic is not None:
            self._generation = self._group.generation
            self._topic_id = topic.id
            self._learned_at = asyncio.get_running_loop().time()
            members = sorted(self._group.members)
            self._positions = {
                p: max(self._group.offset(self._topic, p) or 0, log.start)
                for p, log in enumerate(topic.logs)
                if members[p % len(members)] == self._member
            }

    def _forget(self) -> None:
        self._member, self._generation, self._positions = None, -1, {}

    def poll(self, most: int = 3) -> list[Dispatched]:
        """Up to `most` messages of each partition; the broker asks nobody for membership."""
        if self._member is not None and not self._positions:
            self._sync()
        topic = self._broker.topics.get(self._topic)
        if topic is None or topic.id != self._topic_id:
            return []
        now_s = asyncio.get_running_loop().time()
        got = []
        for partition, position in self._positions.items():
            log = topic.logs[partition]
            for number, record in enumerate(log.records(max(position, log.start), log.end), 1):
                got.append(Dispatched(topic.id, partition, record.offset, record.key, now_s, self._learned_at))
                self._positions[partition] = record.offset + 1
                if number == most:
                    break
        self.got += got
        return got

    def commit(self) -> bool:
        """Commit what was polled; whether that was accepted. If not, it has learned of its eviction."""
        self._look()
        if self._member is None:
            return False
        offsets = {(self._topic, p): o for p, o in self._positions.items()}
        try:
            self._group.commit(self._member, self._generation, offsets)
        except IllegalGeneration:
            self._positions = {}
            return False
        except UnknownMember:
            self._lose(offsets)
            return False
        return True

    def heartbeat(self) -> None:
        """Learn what has become of the membership."""
        self._look()
        if self._member is None:
            return
        try:
            self._group.check(self._member, self._generation)
        except IllegalGeneration:
            self._positions = {}
            self._sync()
        except UnknownMember:
            self._lose({(self._topic, p): o for p, o in self._positions.items()})

    def _look(self) -> None:
        """Metadata: what it knew of a topic that was deleted is worth nothing in the next one of its name.

        (A consumer that missed that would commit offsets of the old topic to the new one, and hide messages.)
        """
        topic = self._broker.topics.get(self._topic)
        if topic is None or topic.id != self._topic_id:
            self._positions = {}

    def _lose(self, offsets: dict[tuple[str, int], int]) -> None:
        self._forget()
        try:
            self._group.commit(None, -1, offsets)
        except UnknownMember:
            return

    def leave(self) -> None:
        """Leave in good order."""
        if self._member is not None:
            self.commit()
        if self._member is not None:
            self._group.leave([self._member])
        self._forget()
