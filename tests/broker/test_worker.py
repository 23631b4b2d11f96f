"""A worker process from its start to its end: what it needs, what it says, what it listens on, what it acknowledges."""

import json
import socket
import urllib.request
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition

from streams.broker import EmbeddedBroker
from streams.broker.ports import free_ports
from tests.broker.scene import WAIT_S, Scene, wait_until
from tests.broker.world import World, XferQueue
from tests.support.processes import listening_sockets

pytestmark = pytest.mark.nodes

_NOWHERE = "127.0.0.1:1"


def acknowledged(scene: Scene, partition: int) -> int:
    """How many records of a partition of the commands topic the workers have acknowledged."""
    group = scene.settings.worker_group
    request = ConsumerGroupTopicPartitions(group, [TopicPartition(scene.settings.commands_topic, partition)])
    (where,) = scene.admin.list_consumer_group_offsets([request])[group].result(WAIT_S).topic_partitions
    return max(where.offset, 0)


# ---- start


def test_a_worker_waits_for_kafka_and_starts_by_itself(running: EmbeddedBroker) -> None:
    with Scene(running.bootstrap_servers) as scene:
        scene.put(40)
        scene.cancel("a")
        running.stop()
        worker = scene.worker()
        worker.says("worker.waiting")
        assert running.bootstrap_servers in worker.log
        running.start()
        scene.done()
        assert scene.problems() == []
        assert worker.log.count("worker.waiting") == 1


def test_a_worker_that_waits_for_kafka_can_be_stopped() -> None:
    scene = Scene(_NOWHERE)
    worker = scene.worker()
    try:
        worker.says("worker.waiting")
        worker.terminate()
        assert worker.wait() == 0
    finally:
        worker.close()


def test_without_its_topics_a_worker_does_not_start(broker: EmbeddedBroker) -> None:
    scene = Scene(broker.bootstrap_servers)  # not entered: no topics
    worker = scene.worker()
    try:
        assert worker.wait() == 1
        assert scene.settings.commands_topic in worker.log
        assert "xferq topics" in worker.log
        assert "Traceback" not in worker.log
    finally:
        worker.close()


@pytest.mark.parametrize("name", ["commands_partitions", "drains_partitions", "ledger_partitions"])
def test_another_number_of_partitions_than_the_settings_say(broker: EmbeddedBroker, name: str) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        worker = scene.worker(**{name: 17})
        assert worker.wait() == 1
        assert f"XFERQ_{name.upper()} is 17" in worker.log
        assert "Traceback" not in worker.log


@pytest.mark.parametrize("how", ["-O", "PYTHONOPTIMIZE"])
def test_python_without_assertions_is_refused(how: str) -> None:
    scene = Scene(_NOWHERE)
    worker = scene.worker("-O") if how == "-O" else scene.worker(variables={"PYTHONOPTIMIZE": "1"})
    try:
        assert worker.wait() == 1
        assert "python -O" in worker.log
        assert "Traceback" not in worker.log
        assert "worker.waiting" not in worker.log
    finally:
        worker.close()


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which something else listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_metrics_port_that_is_taken(broker: EmbeddedBroker, taken_port: int) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        worker = scene.worker(metrics_port=taken_port)
        assert worker.wait() == 1
        assert f"XFERQ_METRICS_PORT: port {taken_port}" in worker.log


def test_only_the_metrics_port_is_open_and_only_on_loopback(broker: EmbeddedBroker) -> None:
    (port,) = free_ports(1)
    with Scene(broker.bootstrap_servers) as scene:
        with_metrics = scene.worker(metrics_port=port).started()
        without = scene.worker(log_format="json", log_level="DEBUG").started()
        scene.put(40)
        scene.cancel("a")
        scene.done()
        assert list(listening_sockets(with_metrics.pid)) == [f"127.0.0.1:{port}"]
        assert list(listening_sockets(without.pid)) == []
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=WAIT_S) as answer:
            assert b"xferq_messages_total" in answer.read()
        # What Faust and aiokafka say is in the same form as our own.
        without.terminate()
        assert without.wait() == 0
        said = [json.loads(line) for line in without.log.splitlines()]
        assert {"streams", "aiokafka", "faust"} <= {line["logger"].partition(".")[0] for line in said}
        assert {"worker.started", "worker.assigned", "worker.stopped"} <= {line.get("event") for line in said}


# ---- commands


def test_poison_among_the_commands_stops_nothing(broker: EmbeddedBroker) -> None:
    with World(broker.bootstrap_servers) as world:
        world.worker()
        queue = world.queue()
        queue.put(*queue.messages(40))
        name = queue.name
        poison = {
            None: "empty",
            b"": "not valid JSON",
            b"\xff\xfe": "not valid JSON",
            b"[]": "not a JSON object",
            b"{}": "type must be",
            b'{"type": "xfer.undo"}': "type must be",
            b'{"type": ["xfer.cancel"]}': "type must be",
            b'{"type": "xfer.cancel", "reason": "r"}': "queue_name is missing",
            b'{"type": "xfer.cancel", "queue_name": "example.com", "reason": "r"}': "is not an xfer queue",
            json.dumps({"type": "xfer.cancel", "queue_name": name, "reason": "x" * 900_000}).encode(): "reason must",
            json.dumps({"type": "xfer.cancel", "queue_name": name}).encode(): "reason is missing",
            json.dumps({"type": "xfer.cancel", "queue_name": name, "reason": "r", "id": "a b"}).encode(): "id must",
            b'{"type": "xfer.start", "target": "ftp://x", "reason": "r"}': "target is not",
        }
        ids = {world.publish(value, b"k", 1): why for value, why in poison.items()}
        good = {"type": "xfer.cancel", "queue_name": name, "reason": "r"}
        last = world.publish(json.dumps(good).encode(), b"k", 1)
        assert world.done(last)["restored"] == 40
        for id, why in ids.items():
            status = world.done(id)
            assert status["state"] == "refused"
            assert why in status["detail"]
        assert len(world.claims(queue.topic)) == 1
        wait_until(lambda: acknowledged(world.scene, 1) == len(poison) + 1)


def unstable(queue: XferQueue) -> Producer:
    """A dispatcher in the middle of its transaction: until it ends the queue's heads are not known."""
    producer = Producer({"bootstrap.servers": queue.servers, "transactional.id": queue.topic, "log_level": 0})
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    group = queue.world.settings.group_of(queue.topic)
    producer.send_offsets_to_transaction([TopicPartition(queue.topic, 0, 1)], _no_member(queue.servers, group), WAIT_S)
    return producer


def test_a_command_that_waits_is_not_lost_with_its_worker_though_later_ones_are_done(broker: EmbeddedBroker) -> None:
    with World(broker.bootstrap_servers, confirm_ms=500) as world:
        first, second = world.queue(), world.queue()
        first.put(*first.messages(40))
        second.put(*second.messages(40))
        open_transaction = unstable(first)
        worker = world.scene.worker().started()
        ids = []
        for queue in (first, second):
            command = {"type": "xfer.cancel", "queue_name": queue.name, "reason": "r"}
            ids.append(world.publish(json.dumps(command).encode(), b"k", 2))
        status = world.done(ids[1])
        worker.says("command.again")
        last = {"type": "xfer.cancel", "queue_name": "nowhere.xfer.kumomta.internal", "reason": "r"}
        third = world.publish(json.dumps(last).encode(), b"k", 3)  # acknowledged alone, by the same commit
        assert world.done(third)["state"] == "refused"
        wait_until(lambda: acknowledged(world.scene, 3) == 1)
        assert acknowledged(world.scene, 2) == 0
        worker.kill()
        open_transaction.abort_transaction(WAIT_S)
        world.worker()
        assert world.done(ids[0])["restored"] == 40
        assert world.done(ids[1]) == status
        wait_until(lambda: acknowledged(world.scene, 2) == 2)
        for queue in (first, second):
            assert len(world.claims(queue.topic)) == 1
            assert len(queue.restored()) == 40


def test_a_worker_without_any_share_takes_over(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, commands_partitions=1, drains_partitions=1) as scene:
        workers = [scene.worker().started() for _ in range(3)]
        wait_until(lambda: sorted(worker.assigned for worker in workers)[0] == 0)
        scene.put(40)
        scene.cancel("a")
        scene.done()
        for number, worker in enumerate(workers[:2]):
            worker.kill()
            scene.put(40)
            scene.cancel(f"b{number}")
        scene.done()
        assert scene.problems() == []


def _no_member(servers: str, group: str) -> object:
    """What a transactional commit says of its group when it comes from nobody in it."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group, "log_level": 0})
    metadata = consumer.consumer_group_metadata()
    consumer.close()
    return metadata


def test_the_workers_log_is_one_line_per_event(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        worker = scene.worker().started()
        scene.put(40)
        scene.cancel("a")
        scene.done()
        worker.says("command.done")
        worker.terminate()
        assert worker.wait() == 0
        events = [line.split()[3] for line in worker.log.splitlines()]
        for event in ("worker.started", "claim.committed", "drain.finished", "command.done", "worker.stopped"):
            assert event in events
