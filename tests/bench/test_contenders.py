"""What every contender of the benchmark does is right: none is measured for work that it leaves out."""

import json
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import confluent_kafka
import pytest

from streams.broker import EmbeddedBroker
from streams.domain.timestamp import parse_time
from streams.domain.topic import topic_of
from streams.drain.strategy import Restore
from tests.bench.contenders import contenders
from tests.bench.contenders.contender import NODE_ID, Contender
from tests.bench.contenders.loops import claim_of
from tests.bench.load import envelope_of, scheduled_queues
from tests.bench.world import World

MESSAGES = 300
QUEUES = 3
_CREATED_MS = 1_790_000_000_000
_COPIES = {"message-copier"}
_IN_ANOTHER_BROKER = {"rabbitmq-shovel"}
"""Those that look at it themselves, after the clock has stopped, where it is as few messages as here."""
_ELSEWHERE = {"bare-limit"}
"""Those that write to other queues' topics than the messages' own."""

SCHEDULES: list[dict[str, object] | None] = [
    None,
    {"first_attempt": "2199-01-01T00:00:00.25+01:00"},
    {"first_attempt": "2199-01-01t00:00:60Z", "expires": "2200-01-01T00:00:00Z"},
    {
        "dow": "Mon,sunday",
        "tz": "Europe/Berlin",
        "start": "9:00",
        "end": "17:30:15.5",
        "first_attempt": "2199-06-05T23:00:00Z",
    },
]


class Message(NamedTuple):
    """A message record, without where it lies."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int
    partition: int


def messages(world: World, *, is_text: bool) -> list[Message]:
    """Messages of all sorts."""
    found = []
    for number in range(MESSAGES):
        envelope: dict[str, Any] = envelope_of(number % QUEUES, world.name, world.queue)
        info = envelope["meta"]["xfer_queue_info"]
        info["num_attempts"] = number
        if number % 5 == 1:
            envelope["recipient"] = [f'\u00e4\U0001f600\\"x@y@D{number % QUEUES}.{world.name}.Example']
        if number % 5 == 2:
            envelope["recipient"] = [envelope["recipient"], "other@example.com"]
        if number % 5 == 3:
            queue = f"{info['campaign']}:{info['tenant']}@d{number % QUEUES}.{world.name}.example"
            envelope["meta"]["xfer_queue_info"] = info = {"queue": queue, "due": None}
            envelope["meta"] |= {"tenant": "is removed", "nested": {"a": [1, 2.5e-3, None, {"b": True}]}}
            envelope["created"] = "2026-11-20 12:30:00.1234567+02:00"
            del envelope["due"], envelope["meta"]["reception_protocol"]
        schedule = SCHEDULES[number % len(SCHEDULES)]
        if schedule is not None:
            info["schedule"] = schedule
        body = f"Subject: {number}\r\n\r\n".encode() + (b"text" if is_text else bytes(range(256)))
        headers = [("received", b"10.0.0.1"), ("envelope", json.dumps(envelope).encode()), ("x", b""), ("x", b"2")]
        key = b"key %d" % number
        found.append(Message(key, body, tuple(headers), _CREATED_MS + number, number % world.partitions))
    return found


def write(world: World, written: Iterable[Message]) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": world.bootstrap, "enable.idempotence": True})
    for message in written:
        producer.produce(
            world.topic,
            message.value,
            message.key,
            partition=message.partition,
            timestamp=message.timestamp,
            headers=list(message.headers),
        )
    assert producer.flush(30) == 0


def read(bootstrap: str, topics: Iterable[str]) -> dict[str, list[Message]]:
    """All committed messages of each topic, in order within a partition."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "unused",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    found: dict[str, list[Message]] = {topic: [] for topic in topics}
    known = consumer.list_topics(timeout=10).topics
    partitions = [
        confluent_kafka.TopicPartition(topic, number, 0) for topic in found for number in known[topic].partitions
    ]
    consumer.assign(partitions)
    left = {(where.topic, where.partition) for where in partitions}
    deadline = time.monotonic() + 30
    while left and time.monotonic() < deadline:
        for record in consumer.consume(1000, 0.2):
            error = record.error()
            if error is not None:
                assert error.code() == confluent_kafka.KafkaError._PARTITION_EOF, error
                left.discard((record.topic(), record.partition()))  # which may be told again
                continue
            headers = tuple(record.headers() or ())
            found[record.topic()].append(
                Message(record.key(), record.value(), headers, record.timestamp()[1], record.partition())
            )
    consumer.close()
    assert not left
    return found


class _Wanted(NamedTuple):
    topic: str
    message: Message
    log: dict[str, Any]


async def wanted(world: World, written: Iterable[Message]) -> dict[bytes | None, _Wanted]:
    """What xferq's own transform makes of each, by key."""
    transform = Restore(claim_of((await world.job("")).drain), node_id=NODE_ID)
    found = {}
    for message in written:
        moved = transform(message, datetime.now(UTC))  # type: ignore[arg-type]
        found[message.key] = _Wanted(
            topic_of(moved.queue), message._replace(headers=tuple(moved.headers)), json.loads(moved.log)
        )
    return found


def without_now(message: Message, has_schedule: bool) -> tuple[object, ...]:
    """A message with its envelope as a value; `due` left out where it is the time of the move."""
    headers: list[tuple[str, object]] = list(message.headers)
    at = [name for name, _ in headers].index("envelope")
    envelope = json.loads(message.headers[at][1])
    if not has_schedule:
        assert abs((parse_time(envelope.pop("due")) - datetime.now(UTC)).total_seconds()) < 120
    headers[at] = ("envelope", envelope)
    return message.key, message.value, headers, message.timestamp, message.partition


@pytest.mark.parametrize("contender", contenders(), ids=lambda contender: contender.name)
async def test_a_contender_moves_every_message_once(broker: EmbeddedBroker, contender: Contender) -> None:
    if why := contender.why_not():
        pytest.skip(why)
    try:
        contender.prepare()
    except (RuntimeError, OSError) as error:
        pytest.skip(f"what it needs can't be fetched: {error}")
    world = World(
        broker.bootstrap_servers,
        transaction=40,
        commands_partitions=1,
        drains_partitions=4,
        ledger_partitions=1,
    )
    is_copy = contender.name in _COPIES
    async with world.opened(queues=QUEUES, warm_up=20):
        written = messages(world, is_text=is_copy)
        write(world, written)
        expected = await wanted(world, written)
        drained = await contender.drain(world)
        assert drained.messages == MESSAGES
        if contender.name in _IN_ANOTHER_BROKER:
            return
        if is_copy:
            copies = read(world.bootstrap, [world.copies])[world.copies]
            assert sorted(copy[:2] for copy in copies) == sorted(message[:2] for message in written)
            return
        queues = [*map(topic_of, scheduled_queues(QUEUES, world.name))]
        assert {one.topic for one in expected.values()} == set(queues)
        found = read(world.bootstrap, [*queues, world.settings.log_topic])
        logs = found.pop(world.settings.log_topic)
        # xferq has one log, and what its warm-up has written is there as well.
        logs = [log for log in logs if log.key in expected]
        arrived = [(topic, message) for topic, messages in found.items() for message in messages]
        assert Counter(message.key for _, message in arrived) == Counter(expected.keys())
        for topic, message in arrived:
            want = expected[message.key]
            if contender.name not in _ELSEWHERE:
                assert topic == want.topic
            has_schedule = "schedule" in json.loads(dict(want.message.headers)["envelope"]) and (
                json.loads(dict(want.message.headers)["envelope"])["schedule"] is not None
            )
            assert without_now(message, has_schedule) == without_now(want.message, has_schedule)
        assert Counter(log.key for log in logs) == Counter(expected.keys())
        for log in logs:
            want = expected[log.key]
            # xferq says more in its headers; the others are spared that.
            assert (log.headers[0], log.partition) == (("type", b"AdminRebind"), want.message.partition)
            record = json.loads(log.value or b"")
            assert abs(record["timestamp"] - want.log["timestamp"]) < 120
            assert abs(parse_time(record["event_time"]).timestamp() - record["timestamp"]) <= 1
            assert {**record, "timestamp": 0, "event_time": 0} == {**want.log, "timestamp": 0, "event_time": 0}
