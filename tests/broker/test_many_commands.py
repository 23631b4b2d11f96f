"""Commands in masses, again, in another order and against each other; workers that come and go all the time."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from streams.broker import EmbeddedBroker
from streams.domain.topic import topic_of
from tests.broker import checker
from tests.broker.scene import WAIT_S, Scene
from tests.broker.world import World, XferQueue

pytestmark = pytest.mark.alone

_SMALL = {"transaction_messages": 5}


def test_a_thousand_cancels_of_one_queue_in_a_row(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        worker = scene.worker().started()
        for number in range(1000):
            if number % 50 == 0:
                scene.put(20)
            scene.cancel(f"c{number}")
        ledger = scene.done(timeout_s=3 * WAIT_S)
        assert scene.problems() == []
        assert sum((ledger.status(id) or {})["total"] for id in scene.ids) == len(scene.sent) == 400
        # Those of an empty queue have an end and no claim.
        assert sum(key.startswith("outcome/") for key in ledger.values) == 1000
        assert worker.is_running


def again_from_the_beginning(scene: Scene) -> None:
    """Set the workers' offsets of the commands topic back to 0; nobody may be at work."""
    topic, group = scene.settings.commands_topic, scene.settings.worker_group
    where = [TopicPartition(topic, partition, 0) for partition in range(scene.settings.commands_partitions)]
    request = ConsumerGroupTopicPartitions(group, where)
    answer = scene.admin.alter_consumer_group_offsets([request])[group].result(WAIT_S)
    assert all(one.error is None for one in answer.topic_partitions)


def test_all_commands_come_again_then_in_another_order_to_several_workers(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        first = scene.worker().started()
        for number in range(20):
            scene.put(20)
            scene.cancel(f"c{number}")
        before = scene.done()
        claims, statuses = before.claims(scene.topic), {id: before.status(id) for id in scene.ids}
        first.terminate()
        assert first.wait() == 0
        again_from_the_beginning(scene)
        topic = scene.settings.commands_topic
        values = [record.value for record in checker.read(scene.servers, [topic])[topic]]
        random.shuffle(values)
        for number, value in enumerate(values):  # the queue's commands in all partitions
            scene.publish(topic, b"x", value, number % scene.settings.commands_partitions)
        scene.put(20)
        scene.workers(2)
        for partition in range(scene.settings.commands_partitions):
            scene.cancel(f"last{partition}", partition=partition)  # behind all others, everywhere
        ledger = scene.done()
        assert scene.problems() == []
        assert [claim for claim in ledger.claims(scene.topic) if claim["id"] in statuses] == claims
        assert {id: ledger.status(id) for id in statuses} == statuses


@contextmanager
def coming_and_going(scene: Scene) -> Iterator[list[str]]:
    """A worker that joins, is ended or killed, and joins again, all the time; how often it ended each way."""
    stop = threading.Event()
    ended: list[str] = []

    def come_and_go() -> None:
        while not stop.is_set():
            worker = scene.worker().started()
            if len(ended) % 3 == 2:
                worker.kill()
                ended.append("killed")
            else:
                worker.terminate()
                assert worker.wait() == 0
                ended.append("ended")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        yield ended
    finally:
        stop.set()
        thread.join()


def test_a_worker_that_joins_and_leaves_all_the_time(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, **_SMALL) as scene:
        steady = scene.worker().started()
        number = 0
        with coming_and_going(scene) as ended:
            while len(ended) < 6:
                scene.put(40)
                scene.cancel(f"c{number}")
                number += 1
                time.sleep(0.5)
        assert "killed" in ended
        scene.cancel("last")
        scene.done()
        assert scene.problems() == []
        assert steady.is_running


# ---- transfers and cancels of the same messages


def places(queue: XferQueue, topics: list[str]) -> Counter[bytes]:
    """How often each message is in one of the queues: at or past its head."""
    world = queue.world
    found: Counter[bytes] = Counter()
    ledger = checker.read_ledger(world.servers, world.settings.ledger_topic)
    for topic in topics:
        heads = ledger.heads(topic)
        for record in world.records(topic):
            if record.offset >= heads.get(record.partition, 0):
                found[record.id or b""] += 1
    return found


def test_transfers_and_cancels_of_the_same_messages_at_once(broker: EmbeddedBroker) -> None:
    with World(broker.bootstrap_servers, **_SMALL) as world:
        queue = world.queue()
        world.worker()
        world.worker()
        sent = queue.put(*[message for n in range(4) for message in queue.messages(200, tenant=f"t{n}")])
        names = [f"t{n}@{queue.domain}" for n in range(4)]
        target = queue.name.removesuffix(".xfer.kumomta.internal")
        wanted = random.Random(4)
        ids = [queue.cancel()]
        for _ in range(12):
            time.sleep(wanted.uniform(0, 0.6))
            if wanted.random() < 0.5:
                ids.append(queue.cancel())
            else:
                ids.append(world.transfer(target, queue_names=names))
        moves = {id: world.done(id) for id in ids}
        assert {status["state"] for status in moves.values()} == {"done"}
        assert {status["returned"] for status in moves.values()} == {0}
        assert len([status for status in moves.values() if status["total"]]) >= 3

        # Each message is in one place, and where it is goes with how often it was moved.
        topics = [topic_of(name) for name in names]
        assert places(queue, [queue.topic, *topics]) == Counter(message.key for message in sent)
        scheduled = places(queue, topics)
        records = [message.key for message in world.read(world.settings.log_topic)]
        logged = Counter(records)
        assert logged.total() == sum(status["restored"] for status in moves.values())
        for message in sent:
            assert logged[message.key] % 2 == scheduled[message.key or b""], message.key

        # Back where they belong, they are what they were.
        world.done(queue.cancel())
        assert places(queue, topics) == Counter(message.key for message in sent)
        value_of = {message.key: (message.value, message.timestamp) for message in sent}
        last = {message.key: message for name in names for message in world.read(topic_of(name))}
        assert {key: (message.value, message.timestamp) for key, message in last.items()} == value_of
        for name in names:
            for message in world.read(topic_of(name)):
                assert message.envelope["meta"].get("tenant") == name.partition("@")[0]
