"""Commands that are published in transactions: only those of a committed one are commands."""

import json
import socket
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer, TopicPartition

from streams.broker import EmbeddedBroker
from tests.broker.scene import WAIT_S, wait_until
from tests.broker.world import World, XferQueue, committed_offsets


@contextmanager
def outbox(world: World) -> Iterator[Producer]:
    """A service's producer with a transaction that is open within the block; commit or abort it there.

    What is published after the block lies behind the transaction's marker.
    """
    options = {"bootstrap.servers": world.servers, "transactional.id": uuid.uuid4().hex, "linger.ms": 50}
    producer = Producer({**options, "log_level": 0, "queue.buffering.max.messages": 500_000})
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    yield producer
    world.records(world.settings.commands_topic)


def cancel(queue: XferQueue, partition: int, producer: Producer | None = None) -> str:
    """Publish a cancel to that partition, on its own or as part of a transaction; its id."""
    id = uuid.uuid4().hex
    command = {"id": id, "type": "xfer.cancel", "queue_name": queue.name, "reason": "test"}
    if producer is None:
        queue.world.publish(json.dumps(command).encode(), partition=partition)
    else:
        producer.produce(queue.settings.commands_topic, json.dumps(command), partition=partition)
        assert producer.flush(WAIT_S) == 0
    return id


def committed(world: World, partition: int) -> int | None:
    """Up to where the workers have acknowledged."""
    topic = world.settings.commands_topic
    return committed_offsets(world, world.settings.worker_group, [TopicPartition(topic, partition)]).get(partition)


def through(world: World, partition: int, end: int) -> None:
    """Wait until they have acknowledged all up to there."""
    deadline = time.monotonic() + WAIT_S
    while (found := committed(world, partition) or 0) != end:
        assert time.monotonic() < deadline, f"acknowledged up to {found}, not to {end}"
        time.sleep(0.05)


@pytest.fixture
def own(broker: EmbeddedBroker) -> Iterator[World]:
    """A world of its own, whose commands topic is empty."""
    with World(broker.bootstrap_servers) as world:
        yield world


@pytest.mark.parametrize("before", [0, 1, 2])
def test_what_follows_an_aborted_command_is_acknowledged_without_a_restart(own: World, before: int) -> None:
    """Behind the committed offset there are two offsets, or more, at which nothing ever comes."""
    own.worker()
    queue = own.queue()
    for _ in range(before):
        own.done(cancel(queue, 1))
    through(own, 1, before)
    with outbox(own) as transaction:
        aborted = cancel(queue, 1, transaction)
        transaction.abort_transaction(WAIT_S)
    for number in range(3):
        own.done(cancel(queue, 1))
        through(own, 1, before + 2 + number + 1)
    with outbox(own) as transaction:
        good = cancel(queue, 1, transaction)
        transaction.commit_transaction(WAIT_S)
    own.done(good)
    own.done(cancel(queue, 1))
    through(own, 1, before + 2 + 3 + 2 + 1)
    assert own.scene.ledger(0.5).status(aborted) is None
    assert aborted not in {claim["id"] for claim in own.claims(queue.topic)}


def test_a_command_of_an_open_transaction_waits_and_those_of_other_partitions_go_on(own: World) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    own.worker(metrics_port=port)
    queue = own.queue()
    messages = queue.put(*queue.messages(4))

    def ask(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    with outbox(own) as transaction:
        waiting = cancel(queue, 0, transaction)
        behind = cancel(queue, 0)
        # The first command takes what is there, so the two that wait find nothing.
        assert own.done(cancel(queue, 1))["restored"] == len(messages)
        wait_until(lambda: json.loads(ask("/readyz")).get("notes"))
        (note,) = json.loads(ask("/readyz"))["notes"]
        assert own.settings.commands_topic in note
        assert "0 from offset 0" in note
        open_s = [line for line in ask("/metrics").splitlines() if line.startswith("xferq_open_transaction_seconds")]
        found = {line.split('"')[1]: float(line.split()[-1]) for line in open_s}
        assert found["commands"] >= 4
        assert found["drains"] == 0
        ledger = own.scene.ledger(0.5)
        assert (ledger.status(waiting), ledger.status(behind)) == (None, None)
        assert committed(own, 0) is None
        transaction.commit_transaction(WAIT_S)
    assert own.done(waiting)["restored"] == own.done(behind)["restored"] == 0
    wait_until(lambda: json.loads(ask("/readyz")) == {"status": "ok"})
    through(own, 0, 2)


def test_very_many_aborted_commands_are_passed_over(own: World) -> None:
    own.worker()
    queue = own.queue()
    own.done(cancel(queue, 3))
    with outbox(own) as transaction:
        for number in range(200_000):
            transaction.produce(own.settings.commands_topic, b"{}", partition=3)
            if number % 10_000 == 0:
                transaction.poll(0)
        assert transaction.flush(WAIT_S) == 0
        transaction.abort_transaction(WAIT_S)
    own.done(cancel(queue, 3))
    own.done(cancel(queue, 3))
    through(own, 3, 1 + 200_000 + 1 + 2)
