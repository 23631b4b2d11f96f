"""Dispatchers of every kind at work during a cancel: real consumer groups, of three libraries and two protocols."""

import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

import pytest
from confluent_kafka import ConsumerGroupState

from streams.broker import EmbeddedBroker
from streams.commands.command_record import CommandRecord
from streams.errors import Refused
from streams.kafka.cluster import Cluster
from streams.kafka.groups import Groups
from streams.worker.engine import Engine
from tests.broker.dispatching import DispatcherProcess, Kind, dispatching
from tests.broker.scene import wait_until
from tests.broker.world import Place, World, XferQueue
from tests.support.patience import WAIT_S

_BACKLOG = 4_000
_SOME = 6
"""Polls of each dispatcher before the cancel, of five records."""
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


def is_balanced(queue: XferQueue, count: int) -> bool:
    """Whether the group is at rest, with so many members that share the four partitions evenly."""
    description = queue.world.scene.admin.describe_consumer_groups([queue.group])[queue.group].result(WAIT_S)
    shares = [len(member.assignment.topic_partitions) for member in description.members]
    return description.state is ConsumerGroupState.STABLE and shares == [4 // count] * count


def all_have(members: Sequence[DispatcherProcess], what: str, since: Sequence[int], count: int) -> bool:
    """Whether each of them has written so many entries of a kind since then."""
    return all(len(member.entries(what, start)) >= count for member, start in zip(members, since, strict=True))


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
        wait_until(lambda: is_balanced(queue, len(members)))
        balanced = [len(member.book) for member in members]
        wait_until(lambda: all_have(members, "polled", balanced, _SOME))
        before = [len(member.book) for member in members]
        status = queue.cancelled()
        new = patient.produce(queue.topic, queue.messages(40))
        wait_until(lambda: dispatched_by(members).issuperset(new), WAIT_S)
        wait_until(lambda: all_have(members, "lost", before, 1), WAIT_S)
        wait_until(lambda: is_at_or_past(queue.heads(), {p: o + 1 for p, o in sorted(new)}), WAIT_S)
        books = [member.book for member in members]
        dispatched = dispatched_by(members)

    (claim,) = patient.claims(queue.topic)
    ranges = {int(partition): tuple(where) for partition, where in claim["ranges"].items()}
    ends = {partition: end for partition, (_, end) in ranges.items()}
    claimed = {(partition, offset) for partition, (start, end) in ranges.items() for offset in range(start, end)}
    assert ranges  # of a partition that was all dispatched before, nothing is claimed
    assert (status["total"], status["restored"]) == (len(claimed), len(claimed))
    restored = {message.key for message in queue.restored()}
    assert restored == {key_at[place] for place in claimed}
    assert set(key_at) <= claimed | dispatched
    assert all(is_at_or_past(sample, ends) for sample in heads.since(ends))
    assert len(heads.since(ends)) > 1
    for book, start in zip(books, before, strict=True):
        lost = next(number for number, entry in enumerate(book) if number >= start and entry.what == "lost")
        assert not any(entry.places & claimed for entry in book[lost:])
        assert not any(entry.places & claimed for entry in book if entry.what == "committed")


@pytest.mark.parametrize("kind", ["aiokafka, auto-commit", "confluent, KIP-848"])
async def test_a_held_group_takes_commits_from_nobody_who_was_evicted_or_never_came(patient: World, kind: str) -> None:
    queue = patient.queue()
    queue.put(*queue.messages(400))
    with dispatching(KINDS[kind], queue.servers, queue.topic, queue.group, 2) as members:
        wait_until(lambda: is_balanced(queue, 2))
        async with Cluster(patient.settings) as kafka:
            hold = await kafka.hold(queue.group)
            assert hold is not None
            assert len(hold.evicted) == 2
            assert not queue.commit({0: 1})
            await hold.release()
            assert hold.member_id not in await kafka.members(queue.group)
        wait_until(lambda: is_balanced(queue, 2), WAIT_S)
        wait_until(lambda: len(dispatched_by(members)) == 400)


@pytest.mark.parametrize("denied", ["members", "evict"])
async def test_where_members_cannot_be_listed_or_evicted_nothing_is_claimed(
    patient: World, denied: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise Refused("Kafka does not permit it")

    monkeypatch.setattr(Groups, denied, refuse)
    queue = patient.queue()
    queue.put(*queue.messages(_BACKLOG))
    id = uuid.uuid4().hex
    command = {"type": "xfer.cancel", "queue_name": queue.name, "reason": "test", "id": id}
    with dispatching(KINDS["confluent"], queue.servers, queue.topic, queue.group, 2) as members:
        wait_until(lambda: is_balanced(queue, 2))
        async with Cluster(patient.settings) as kafka:
            engine = Engine(kafka, patient.settings)
            await engine.start()
            record = CommandRecord("commands", 0, 0, int(time.time() * 1000), json.dumps(command).encode())
            assert await engine.on_command(record, lambda: True)
            await engine.stop()
        status = patient.done(id)
        assert (status["state"], status.get("detail")) == ("refused", "Kafka does not permit it")
        assert patient.claims(queue.topic) == []
        # Nobody has disturbed them for good: they go on.
        before = len(dispatched_by(members))
        wait_until(lambda: len(dispatched_by(members)) > before + 100)
    assert queue.log() == []
