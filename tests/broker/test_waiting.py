"""Nothing stands still behind what does not concern it: commands, drains, transfers, each behind others that wait."""

import json
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, Producer, TopicPartition

from streams.broker import EmbeddedBroker
from streams.domain.ledger_partitions import ledger_width
from tests.broker.scene import WAIT_S, wait_until
from tests.broker.world import World, XferQueue

_PENDING_MS = 300_000


@contextmanager
def hanging(world: World) -> Iterator[Producer]:
    """A stranger's transaction, open within the block."""
    options = {"bootstrap.servers": world.servers, "transactional.id": uuid.uuid4().hex, "log_level": 0}
    producer = Producer(options | {"transaction.timeout.ms": _PENDING_MS})
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    try:
        yield producer
    finally:
        producer.abort_transaction(WAIT_S)


def ledger_partition(world: World, name: str) -> int:
    """Where the ledger has all that belongs to a queue's topic, or says whose an id is."""
    return zlib.crc32(name.encode()) % world.settings.ledger_partitions


def hold_up(world: World, stranger: Producer, partition: int) -> None:
    """Let a stranger's transaction be open in a partition of the ledger."""
    stranger.produce(world.settings.ledger_topic, b"{}", b"waiting/x/y/z", partition)
    assert stranger.flush(WAIT_S) == 0


def leave_pending(dispatcher: Producer, queue: XferQueue) -> None:
    """Let the dispatcher's transaction commit an offset of the queue's group, some day."""
    consumer = Consumer({"bootstrap.servers": queue.servers, "group.id": queue.group, "log_level": 0})
    where = [TopicPartition(queue.topic, 0, 1)]
    dispatcher.send_offsets_to_transaction(where, consumer.consumer_group_metadata(), WAIT_S)
    consumer.close()


def test_cancels_that_wait_for_hours_leave_the_places_to_others(broker: EmbeddedBroker) -> None:
    """More of them than a worker claims at a time: in their groups a dispatcher's transaction is pending."""
    with World(broker.bootstrap_servers, concurrent_claims=2, confirm_ms=1_000) as world:
        world.worker()
        stuck = [world.queue(partitions=1) for _ in range(5)]
        good = world.queue(partitions=1)
        for queue in [*stuck, good]:
            queue.put(*queue.messages(3, partitions=1))
        with hanging(world) as dispatcher:
            for queue in stuck:
                leave_pending(dispatcher, queue)
            ids = [queue.cancel() for queue in stuck]
            wait_until(lambda: all(_state(world, id) == "waiting" for id in ids))
            assert good.cancelled()["restored"] == 3
            assert {_state(world, id) for id in ids} == {"waiting"}
        assert [world.done(id)["restored"] for id in ids] == [3] * 5


def test_a_command_that_waits_longer_than_its_topic_keeps_it(broker: EmbeddedBroker) -> None:
    with World(broker.bootstrap_servers, confirm_ms=1_000, pending_after_ms=500) as world:
        first = world.scene.worker().started()
        queue = world.queue(partitions=1)
        queue.put(*queue.messages(3, partitions=1))
        with hanging(world) as dispatcher:
            leave_pending(dispatcher, queue)
            id, later = queue.cancel(), queue.cancel(reason="another")
            wait_until(lambda: acknowledged(world) == 2)
            first.kill()
            topic = world.settings.commands_topic
            everything = [TopicPartition(topic, number, -1) for number in range(world.settings.commands_partitions)]
            for deleted in world.scene.admin.delete_records(everything).values():
                deleted.result(WAIT_S)
            world.worker()
            wait_until(lambda: {_state(world, id), _state(world, later)} == {"waiting"})
        assert world.done(id)["restored"] == 3
        assert world.done(later)["restored"] == 0


def acknowledged(world: World) -> int:
    """How many commands the workers need not get again."""
    consumer = Consumer({"bootstrap.servers": world.servers, "group.id": world.settings.worker_group, "log_level": 0})
    count = world.settings.commands_partitions
    wanted = [TopicPartition(world.settings.commands_topic, number) for number in range(count)]
    found = consumer.committed(wanted, timeout=WAIT_S)
    consumer.close()
    return sum(max(0, where.offset) for where in found)


def _state(world: World, id: str) -> str | None:
    status = world.scene.ledger(0.05).status(id)
    return None if status is None else str(status["state"])


def test_any_number_of_tasks_holds_up_no_command(broker: EmbeddedBroker) -> None:
    """Of queues of which the ledger says nothing, as their partition of it is held up by a stranger."""
    with World(broker.bootstrap_servers) as world:
        world.worker()
        queue = world.queue(partitions=1)
        queue.put(*queue.messages(3, partitions=1))
        other = (ledger_partition(world, queue.topic) + 1) % world.settings.ledger_partitions
        tasks = Producer({"bootstrap.servers": world.servers, "linger.ms": 20, "log_level": 0})
        with hanging(world) as stranger:
            hold_up(world, stranger, other)
            topics = [f"queue.slow{number}.example" for number in range(40_000)]
            for topic in [topic for topic in topics if ledger_partition(world, topic) == other][:12_000]:
                task = json.dumps({"topic": topic, "partition": 0, "claim": "x"})
                tasks.produce(world.settings.drains_topic, task, topic.encode())
                tasks.poll(0)
            assert tasks.flush(WAIT_S) == 0
            ids = (uuid.uuid4().hex for _ in range(1_000))
            id = next(id for id in ids if ledger_partition(world, id) != other)
            assert world.done(queue.cancel(id))["restored"] == 3


def test_the_open_transactions_of_drains_hold_up_no_id_no_claim_and_no_end(broker: EmbeddedBroker) -> None:
    with World(broker.bootstrap_servers) as world:
        world.worker()
        queues = [world.queue(partitions=1) for _ in range(8)]
        for queue in queues[:-1]:
            queue.put(*queue.messages(3, partitions=1))
        count = world.settings.ledger_partitions
        with hanging(world) as drain:
            for partition in range(count, ledger_width(count)):
                hold_up(world, drain, partition)
            ids = [queue.cancel() for queue in queues]
            wait_until(lambda: all(_state(world, id) == "claimed" for id in ids[:-1]))
            assert world.done(ids[-1])["total"] == 0
            assert {_state(world, id) for id in ids[:-1]} == {"claimed"}
        assert [world.done(id)["restored"] for id in ids[:-1]] == [3] * 7


def test_a_transfer_and_its_end_wait_for_the_partitions_of_its_own_queues_only(broker: EmbeddedBroker) -> None:
    with World(broker.bootstrap_servers, ledger_partitions=16) as world:
        world.worker()
        target = f"http://t{uuid.uuid4().hex}.example/"
        queues = [_scheduled(world) for _ in range(3)]
        xfer = world.queue(name=f"{target}.xfer.kumomta.internal")
        id = uuid.uuid4().hex
        concerned = {ledger_partition(world, name) for name in (id, xfer.topic, *(queue.topic for queue in queues))}
        with hanging(world) as stranger:
            for partition in set(range(16)) - concerned:
                hold_up(world, stranger, partition)
            names = [queue.name for queue in queues]
            status = world.done(world.transfer(target, id=id, queue_names=names))
            assert (status["state"], status["queues"], status["total"]) == ("done", 3, 6)


def _scheduled(world: World) -> XferQueue:
    """A scheduled queue with two messages."""
    queue = world.queue(name=f"t{uuid.uuid4().hex}@waits.example", partitions=1)
    queue.put(*queue.messages(2, partitions=1))
    return queue
