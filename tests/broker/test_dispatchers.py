"""Dispatchers of every kind at work during a cancel: real consumer groups, of three libraries and two protocols."""

import threading
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self

import pytest

from streams.broker import EmbeddedBroker
from tests.broker.dispatching import DispatcherProcess, Kind, dispatching
from tests.broker.scene import wait_until
from tests.broker.world import Place, World, XferQueue

pytestmark = pytest.mark.broker

_BACKLOG = 4_000
_GO_ON_S = 30.0
_SAMPLE_S = 0.02

COOPERATIVE = {"partition.assignment.strategy": "cooperative-sticky"}
JAVA_COOPERATIVE = {"partition.assignment.strategy": "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"}
NEW_PROTOCOL = {"group.protocol": "consumer"}
KINDS = {
    "aiokafka": Kind("aiokafka", False, {}),
    "aiokafka, auto-commit": Kind("aiokafka", True, {}),
    "aiokafka, static members": Kind("aiokafka", True, {"group_instance_id": "member-{number}"}),
    "confluent": Kind("confluent", False, {"partition.assignment.strategy": "range"}),
    "confluent, auto-commit": Kind("confluent", True, {"partition.assignment.strategy": "range"}),
    "confluent, cooperative": Kind("confluent", False, COOPERATIVE),
    "confluent, cooperative, auto-commit": Kind("confluent", True, COOPERATIVE),
    "confluent, static members": Kind("confluent", False, {"group.instance.id": "member-{number}"}),
    "confluent, KIP-848": Kind("confluent", False, NEW_PROTOCOL),
    "confluent, KIP-848, auto-commit": Kind("confluent", True, NEW_PROTOCOL),
    "java": Kind("java", False, {}),
    "java, cooperative, auto-commit": Kind("java", True, JAVA_COOPERATIVE),
    "java, KIP-848, auto-commit": Kind("java", True, NEW_PROTOCOL),
}


@pytest.fixture(scope="module")
def patient(broker: EmbeddedBroker) -> Iterator[World]:
    """A world with the settings that people have where it matters here: the hold is longer than a heartbeat."""
    with World(broker.bootstrap_servers, hold_ms=5_000, guard_ms=1_000) as world:
        world.worker()
        yield world


class Heads:
    """Looks at a group's committed offsets all the time, in a thread."""

    def __init__(self, queue: XferQueue) -> None:
        self._queue = queue
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.samples: list[dict[int, int]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.is_set():
            self.samples.append(self._queue.heads())
            time.sleep(_SAMPLE_S)

    def since(self, ends: Mapping[int, int]) -> list[dict[int, int]]:
        """The samples from the first one on that shows the claim."""
        for number, sample in enumerate(self.samples):
            if is_at_or_past(sample, ends):
                return self.samples[number:]
        return []


def is_at_or_past(heads: Mapping[int, int], ends: Mapping[int, int]) -> bool:
    """Whether no head lies below its end."""
    return all(heads.get(partition, 0) >= end for partition, end in ends.items())


def dispatched_by(members: list[DispatcherProcess]) -> frozenset[Place]:
    """All that was dispatched."""
    return frozenset().union(*(member.dispatched for member in members))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_cancel_while_dispatchers_are_at_work(patient: World, kind: Kind) -> None:
    queue = patient.queue()
    messages = queue.messages(_BACKLOG)
    key_at = dict(zip(patient.produce(queue.topic, messages), (message.key for message in messages), strict=True))
    with (
        dispatching(kind, queue.servers, queue.topic, queue.group, 2) as members,
        Heads(queue) as heads,
    ):
        wait_until(lambda: all(member.is_settled for member in members))
        before = [len(member.book) for member in members]
        status = queue.cancelled()
        new = patient.produce(queue.topic, queue.messages(40))
        wait_until(lambda: dispatched_by(members).issuperset(new), _GO_ON_S)
        wait_until(lambda: is_at_or_past(queue.heads(), {p: o + 1 for p, o in sorted(new)}), _GO_ON_S)
        books = [member.book for member in members]
        dispatched = dispatched_by(members)

    (claim,) = patient.claims(queue.topic)
    ranges = {int(partition): tuple(where) for partition, where in claim["ranges"].items()}
    ends = {partition: end for partition, (_, end) in ranges.items()}
    claimed = {(partition, offset) for partition, (start, end) in ranges.items() for offset in range(start, end)}
    assert len(ranges) == 4
    assert (status["total"], status["restored"]) == (len(claimed), len(claimed))
    restored = {message.key for message in queue.restored()}
    assert restored == {key_at[place] for place in claimed}
    assert set(key_at) <= claimed | dispatched
    assert all(is_at_or_past(sample, ends) for sample in heads.since(ends))
    assert len(heads.since(ends)) > 1
    for book, start in zip(books, before, strict=True):
        lost = [number for number, entry in enumerate(book) if number >= start and entry.what == "lost"]
        assert lost, f"was not evicted: {book[start:]}"
        for entry in book[lost[0] :]:
            assert not entry.places & claimed
        for entry in book:
            assert entry.what != "committed" or not entry.places & claimed
