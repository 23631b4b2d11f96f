"""A world for tests on the real broker: a worker at its work, and xfer queues that no other test knows.

The worker and its topics are shared, as they cost seconds; whatever a test looks at is its own: an xfer queue,
and destinations under a domain that only its messages have. Everything here goes through confluent-kafka.
"""

import itertools
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Self

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as Delivered
from confluent_kafka.admin import NewTopic

from streams.domain.topic import topic_of
from tests.broker import checker
from tests.broker.checker import Found
from tests.broker.scene import ONE_BY_ONE, WAIT_S, Scene, WorkerProcess, wait_until
from tests.support.patience import deadline

XFER_SUFFIX = ".xfer.kumomta.internal"
QUEUE_CONFIG = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
_FIRST_MS = 1_790_000_000_000
_numbers = itertools.count(1)

Headers = tuple[tuple[str, bytes | None], ...]
Place = tuple[int, int]
"""A partition and an offset in it."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message record: what is put in, and what is read out again. `timestamp` in ms."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int
    partition: int

    @property
    def envelope(self) -> Any:
        """The JSON in its one envelope header."""
        (raw,) = [value for name, value in self.headers if name == "envelope"]
        return json.loads(raw or b"")

    def with_envelope(self, envelope: object) -> "Message":
        """The same message with another envelope, in the same place among the headers."""
        raw = envelope if isinstance(envelope, bytes) else json.dumps(envelope).encode()
        return replace(
            self, headers=tuple((name, raw if name == "envelope" else value) for name, value in self.headers)
        )


class World:
    """Topics of its own on a running broker, and a worker (or several)."""

    def __init__(self, servers: str, **settings: Any) -> None:
        self.servers = servers
        self.scene = Scene(servers, **settings)
        self.settings = self.scene.settings
        self._workers: list[WorkerProcess] = []
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                **ONE_BY_ONE,
                "linger.ms": 2,
                "message.max.bytes": 8 << 20,
                "log_level": 0,
            }
        )

    def __enter__(self) -> Self:
        self.scene.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logs = [worker.log for worker in self._workers]
        self.scene.__exit__(kind, error, trace)
        # Nothing that happened here may have met a bug, whatever came of it in the end.
        bugs = [
            log[found.start() :][:3_000] for log in logs if (found := re.search("(maintenance|worker).failed", log))
        ]
        assert not bugs, bugs[0]

    def worker(self, **settings: Any) -> WorkerProcess:
        """Start a worker and wait until it has work; it ends with the world."""
        worker = self.scene.worker(**settings)
        self._workers.append(worker)
        return worker.started()

    # ---- topics

    def create(self, topic: str, partitions: int, **config: str) -> None:
        """Create a queue topic if it is not there, dots in the settings' names written as underscores."""
        values = QUEUE_CONFIG | {name.replace("_", "."): value for name, value in config.items()}
        try:
            self.scene.admin.create_topics([NewTopic(topic, partitions, 1, config=values)])[topic].result(WAIT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        wait_until(lambda: topic in self.scene.admin.list_topics(timeout=WAIT_S).topics)

    def read(self, topic: str) -> list[Message]:
        """All committed records of a topic, in order within each partition."""
        return [message_of(found) for found in self.records(topic)]

    def records(self, topic: str) -> list[Found]:
        """The same with their offsets.

        The status may say done before the markers of the last transaction stand in all partitions: only then do
        readers of committed records see it.
        """
        wait_until(lambda: self._is_stable(topic))
        return sorted(checker.read(self.servers, [topic])[topic], key=lambda record: (record.partition, record.offset))

    def _is_stable(self, topic: str) -> bool:
        try:
            return not checker.open_transactions(self.servers, [topic])
        except KafkaException:
            return False  # just created: its partitions are not led yet

    def produce(self, topic: str, messages: Iterable[Message], producer: Producer | None = None) -> list[Place]:
        """Write messages as they are, in order, and wait until they are durable; returns where they are."""
        producer = producer or self._producer
        failures: list[object] = []
        places: dict[int, Place] = {}

        def delivered(number: int, error: object, message: Delivered) -> None:
            if error is not None:
                failures.append(error)
            places[number] = message.partition(), message.offset()

        for number, message in enumerate(messages):
            producer.produce(
                topic,
                message.value,
                message.key,
                message.partition,
                headers=list(message.headers),
                timestamp=message.timestamp,
                on_delivery=partial(delivered, number),
            )
            producer.poll(0)
        assert producer.flush(WAIT_S) == 0
        assert not failures, failures
        assert len(set(places.values())) == len(places), "two messages are acknowledged at one offset"
        return [places[number] for number in range(len(places))]

    # ---- commands

    def publish(self, value: bytes | None, key: bytes | None = None, partition: int = -1) -> str:
        """Publish a record to the commands topic as any service may; returns the id it has without one of its own."""
        where: list[Delivered] = []

        def delivered(error: object, message: Delivered) -> None:
            assert error is None, error
            where.append(message)

        arguments = {} if partition < 0 else {"partition": partition}
        self._producer.produce(self.settings.commands_topic, value, key, on_delivery=delivered, **arguments)
        assert self._producer.flush(WAIT_S) == 0
        (message,) = where
        return f"{message.topic()}-{message.partition()}-{message.offset()}-{message.timestamp()[1]}"

    def acknowledged(self, *places: str) -> None:
        """Wait until the worker is through with records, given as `publish` returns them, and all before them."""
        for place in places:
            wait_until(partial(self._is_acknowledged, place))

    def _is_acknowledged(self, place: str) -> bool:
        _, partition, offset, _ = place.rsplit("-", 3)
        where = TopicPartition(self.settings.commands_topic, int(partition))
        return committed_offsets(self, self.settings.worker_group, [where]).get(int(partition), 0) > int(offset)

    def command(self, id: str | None = None, **fields: Any) -> str:
        """Publish a command; returns its id."""
        id = id or uuid.uuid4().hex
        name = str(fields.get("queue_name") or fields.get("target"))
        self.publish(json.dumps({"id": id, **fields}).encode(), name.encode())
        return id

    def transfer(self, target: str, *, reason: str = "test", **criteria: Any) -> str:
        """Publish a command that starts a transfer; returns its id."""
        return self.command(type="xfer.start", target=target, reason=reason, **criteria)

    def done(self, id: str, timeout_s: float = WAIT_S) -> dict[str, Any]:
        """The command's status at its end, waited for."""
        end = deadline(timeout_s)
        while True:
            status = self.scene.ledger(0.01).status(id)
            if status is not None and status["state"] in ("done", "refused"):
                return status
            for worker in self._workers:
                assert worker.is_running, worker.log[-5_000:]
            if end.is_over:
                logs = "\n".join(worker.log[-5_000:] for worker in self._workers)
                raise AssertionError(f"{id} does not end: {status}\n{logs}")

    def claims(self, topic: str) -> list[dict[str, Any]]:
        """All claims of a queue topic, as the ledger has them."""
        return self.scene.ledger(0.05).claims(topic)

    # ---- queues

    def queue(self, *, name: str | None = None, partitions: int = 4, **config: str) -> "XferQueue":
        """A new, empty xfer queue; with a name that no other has, unless one is given."""
        queue = XferQueue(self, f"{next(_numbers)}.{self.scene.name}", name)
        self.create(queue.topic, partitions, **config)
        return queue


class XferQueue:
    """One xfer queue and what belongs to it; made by `World.queue`."""

    def __init__(self, world: World, own: str, name: str | None) -> None:
        self.world = world
        self.domain = f"q{own}.example"
        """All messages made here are for this domain or one below it."""
        self.name = name or f"http://q{own}.invalid/{XFER_SUFFIX}"
        self.topic = topic_of(self.name)
        self.group = world.settings.group_of(self.topic)
        self.sent: list[Message] = []
        """All that was put in and is not of an aborted transaction, in the order of writing."""
        self._made = itertools.count()

    # ---- messages

    def message(
        self,
        *,
        partition: int = 0,
        tenant: str | None = None,
        info: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Message:
        """A message that a transfer has brought here; `fields` of `Message` replace what is made up."""
        number = next(self._made)
        saved = {"num_attempts": number % 7} if info is None else info
        if tenant is not None:
            saved = {**saved, "tenant": tenant}
        envelope = {
            "sender": f"s{number}@example.com",
            "recipient": f"u{number}@{self.domain}",
            "meta": {"n": number, "queue": self.name, "xfer_queue_info": saved, **(meta or {})},
            "num_attempts": 3,
            "created": "2026-11-20T10:00:00Z",
            "due": None,
            "schedule": None,
        }
        values: dict[str, Any] = {
            "key": f"{self.domain}-{number}".encode(),
            "value": b"Subject: %d\r\n\r\nHello\r\n" % number,
            "headers": (("x-before", b"1"), ("envelope", json.dumps(envelope).encode()), ("x-after", b"\xff\x00")),
            "timestamp": _FIRST_MS + number,
            "partition": partition,
            **fields,
        }
        return Message(**values)

    def messages(self, count: int, *, partitions: int = 4, **options: Any) -> list[Message]:
        """So many messages, one partition after the other."""
        return [self.message(partition=number % partitions, **options) for number in range(count)]

    def put(self, *messages: Message, **writer: Any) -> list[Message]:
        """Put messages into the queue; `writer` are a producer's settings, dots as underscores."""
        producer = None
        if writer:
            options = {name.replace("_", "."): value for name, value in writer.items()}
            producer = Producer({"bootstrap.servers": self.servers, "log_level": 0, **options})
        self.world.produce(self.topic, messages, producer)
        self.sent += messages
        return list(messages)

    @contextmanager
    def transaction(self, *messages: Message) -> Iterator[Producer]:
        """Messages written in a transaction that is open within the block; commit or abort it there."""
        producer = Producer({"bootstrap.servers": self.servers, "transactional.id": uuid.uuid4().hex, "log_level": 0})
        producer.init_transactions(WAIT_S)
        producer.begin_transaction()
        self.world.produce(self.topic, messages, producer)
        yield producer

    def aborted(self, *messages: Message) -> None:
        """Leave messages of an aborted transaction in the queue."""
        with self.transaction(*messages) as transaction:
            transaction.abort_transaction(WAIT_S)

    def committed(self, *messages: Message) -> list[Message]:
        """Put messages in one transaction: a marker follows them in every partition."""
        with self.transaction(*messages) as transaction:
            transaction.commit_transaction(WAIT_S)
        self.sent += messages
        return list(messages)

    def commit(self, offsets: Mapping[int, int]) -> bool:
        """Set the heads, without being a member of the group; whether the group took them."""
        where = [TopicPartition(self.topic, partition, offset) for partition, offset in offsets.items()]
        request = [ConsumerGroupTopicPartitions(self.group, where)]
        try:
            answer = self.world.scene.admin.alter_consumer_group_offsets(request)[self.group].result(WAIT_S)
        except KafkaException:
            return False
        return all(where.error is None for where in answer.topic_partitions)

    # ---- what becomes of them

    def cancel(self, id: str | None = None, *, reason: str = "test") -> str:
        """Publish a cancel; returns its id."""
        return self.world.command(id, type="xfer.cancel", queue_name=self.name, reason=reason)

    def cancelled(self, *, reason: str = "test", timeout_s: float = WAIT_S) -> dict[str, Any]:
        """Cancel, and wait for the end; returns the status."""
        return self.world.done(self.cancel(reason=reason), timeout_s)

    def restored(self, tenant: str | None = None) -> list[Message]:
        """What is in the scheduled queue of this queue's domain (and a tenant), in the order of its partitions."""
        name = self.domain if tenant is None else f"{tenant}@{self.domain}"
        return self.world.read(topic_of(name))

    def heads(self) -> dict[int, int]:
        """The group's committed offsets."""
        request = [TopicPartition(self.topic, partition) for partition in checker.log_starts(self.servers, self.topic)]
        return committed_offsets(self.world, self.group, request)

    @property
    def servers(self) -> str:
        """Where Kafka is."""
        return self.world.servers

    def remaining(self) -> list[Message]:
        """What the queue holds: everything at or past its heads."""
        heads = self.heads()
        return [
            message_of(record)
            for record in self.world.records(self.topic)
            if record.offset >= heads.get(record.partition, 0)
        ]

    def log(self) -> list[tuple[Message, dict[str, Any]]]:
        """The log records of messages that left this queue, each with its JSON."""
        found = [(message, json.loads(message.value or b"")) for message in self.world.read(self.settings.log_topic)]
        start = f"Rebound from {self.name} to "
        return [(message, line) for message, line in found if line["response"]["content"].startswith(start)]

    @property
    def settings(self) -> Any:
        """The world's settings."""
        return self.world.settings


def restored_from(message: Message) -> Message:
    """What a cancel must make of a message, but for `due`; by KumoMTA's rules, in a way of its own."""
    envelope = message.envelope
    info = envelope["meta"].pop("xfer_queue_info")
    for part in ("queue", "routing_domain", "tenant", "campaign"):
        envelope["meta"].pop(part, None)
        if info.get(part) is not None:
            envelope["meta"][part] = info[part]
    envelope["num_attempts"] = info.get("num_attempts", 0)
    envelope["schedule"] = info.get("schedule")
    return without_due(message.with_envelope(envelope))


def without_due(message: Message) -> Message:
    """The message with its envelope as JSON in one certain form, and no `due` in it."""
    envelope = {name: value for name, value in message.envelope.items() if name != "due"}
    return message.with_envelope(json.dumps(envelope, sort_keys=True).encode())


def message_of(found: Found) -> Message:
    """A record without its place in the topic but the partition."""
    return Message(found.id, found.value, found.headers, found.timestamp, found.partition)


def committed_offsets(world: World, group: str, request: Sequence[TopicPartition]) -> dict[int, int]:
    """A group's committed offsets by partition."""
    asked = ConsumerGroupTopicPartitions(group, list(request))
    answer = world.scene.admin.list_consumer_group_offsets([asked])[group].result(WAIT_S)
    return {where.partition: where.offset for where in answer.topic_partitions if where.offset >= 0}


def in_order(messages: Iterable[Message]) -> list[Message]:
    """Messages as a reader finds them: by partition, in the order of writing within each."""
    return sorted(messages, key=lambda message: message.partition)
