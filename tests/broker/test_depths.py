"""How full queues are: counted, whatever Kafka keeps between messages; and where a node is away that has one alone."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from streams.broker import EmbeddedBroker
from streams.claim.heads import read_claimed
from streams.domain.depth import Depth
from streams.kafka.cluster import Cluster
from streams.kafka.contents import read_contents
from streams.ledger.ledger import Ledger
from streams.settings.settings import Settings
from streams.telemetry.metrics import REGISTRIES
from streams.worker.backlog import Backlog
from tests.broker import checker
from tests.broker.moments import claimed
from tests.broker.scene import Scene
from tests.faults.links import LinkedCluster
from tests.support.names import own_name, remove_topics
from tests.support.patience import WAIT_S, deadline, wait_until


async def test_a_queue_without_a_leader_does_not_hide_the_others(cluster: LinkedCluster) -> None:
    servers = cluster.bootstrap_servers
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    away = cluster.nodes[2]
    own = own_name()
    led, half_led = f"queue.a.{own}", f"queue.b.{own}"
    topics = [NewTopic(led, 2, replica_assignment=[[1], [2]]), NewTopic(half_led, 2, replica_assignment=[[1], [3]])]
    for future in admin.create_topics(topics).values():
        future.result(WAIT_S)
    for topic in (led, half_led):
        await asyncio.to_thread(wait_until, lambda topic=topic: checker.is_ready(servers, topic))  # type: ignore[misc]
    away.kill()
    try:
        async with Cluster(Settings(bootstrap_servers=servers)) as kafka:
            found = await kafka.depths({}, lambda topic: own in topic)
            depths = {queue.topic: queue.depth for queue in found}
    finally:
        away.start()
    assert depths == {led: Depth(0, True), half_led: None}
    remove_topics(servers, own)


async def test_the_list_of_queues_and_the_metrics_say_the_same_of_what_was_claimed(broker: EmbeddedBroker) -> None:
    """Nothing of it is drained, and somebody has set the group's offsets back to before the claim."""
    with Scene(broker.bootstrap_servers) as scene:
        scene.put(40)
        await claimed(scene, "a")
        scene.put(4)
        scene.commit(dict.fromkeys(range(4), 2))
        async with Cluster(scene.settings) as kafka:
            known = await read_claimed(kafka, scene.settings)
            (listed,) = await kafka.depths(known, lambda topic: topic == scene.topic)
            ledger = Ledger(kafka, scene.settings)
            await ledger.start()
            await Backlog(kafka, ledger, scene.settings).show_depths(lambda topic: topic == scene.topic)
            await ledger.stop()
    assert (listed.depth, listed.held) == (Depth(4, True), Depth(40, True))
    shown = REGISTRIES["worker"].get_sample_value
    assert shown("xferq_xfer_queue_depth", {"queue": scene.queue}) == 4
    assert shown("xferq_xfer_queue_held", {"queue": scene.queue}) == 40


class Queues:
    """Queue topics of one partition, written to by transactions and without."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.servers = broker.bootstrap_servers
        self.own = own_name()
        self.admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        self.kafka = Cluster(Settings(bootstrap_servers=self.servers, group_template=f"{self.own}.{{topic}}"))

    async def create(self, *names: str, **config: str) -> list[str]:
        topics = [f"queue.{name}.{self.own}" for name in names]
        futures = self.admin.create_topics([NewTopic(topic, 1, 1, config=config) for topic in topics])
        for future in futures.values():
            await asyncio.to_thread(future.result, WAIT_S)
        for topic in topics:
            await asyncio.to_thread(wait_until, lambda topic=topic: checker.is_ready(self.servers, topic))  # type: ignore[misc]
        return topics

    async def set(self, topic: str, config: Mapping[str, str]) -> None:
        """Give the topic these values once more."""
        entries = [ConfigEntry(*item, incremental_operation=AlterConfigOpType.SET) for item in config.items()]
        resource = ConfigResource("topic", topic, incremental_configs=entries)
        (done,) = self.admin.incremental_alter_configs([resource]).values()
        await asyncio.to_thread(done.result, WAIT_S)

    async def write(
        self, topic: str, count: int = 1, *, ends: str | None = "commit", size: int = 10
    ) -> AIOKafkaProducer:
        """Write in one transaction, which ends so; None: not at all."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.servers, transactional_id=own_name(), max_request_size=2 << 20
        )
        await producer.start()
        await producer.begin_transaction()
        for number in range(count):
            await producer.send_and_wait(topic, b"x" * size, key=b"%d" % number, partition=0)
        if ends is not None:
            await getattr(producer, f"{ends}_transaction")()
            await producer.stop()
        return producer

    async def plain(self, topic: str, keys: Iterable[bytes], value: bytes | None = b"v") -> None:
        """Write in one batch, without a transaction."""
        async with AIOKafkaProducer(bootstrap_servers=self.servers, linger_ms=50, max_batch_size=1 << 20) as producer:
            batch = producer.create_batch()
            for key in keys:
                assert batch.append(timestamp=None, key=key, value=value) is not None
            await (await producer.send_batch(batch, topic, partition=0))

    async def depths(self) -> dict[str, Depth | None]:
        found = await self.kafka.depths({}, lambda topic: topic.endswith(self.own))
        return {queue.topic.split(".")[1]: queue.depth for queue in found}

    async def become(self, **wanted: int) -> None:
        """See that the depths are these, counted; markers may take a moment."""
        depths = {name: Depth(count, True) for name, count in wanted.items()}
        end = deadline()
        while (found := await self.depths()) != depths and not end.is_over:
            await asyncio.sleep(0.05)
        assert found == depths


@pytest.fixture
async def queues(broker: EmbeddedBroker) -> AsyncIterator[Queues]:
    found = Queues(broker)
    async with found.kafka:
        yield found
    remove_topics(found.servers, found.own)


async def test_messages_are_counted_and_no_markers_and_nothing_aborted(queues: Queues) -> None:
    emptied, aborted, mixed, opened = await queues.create("emptied", "aborted", "mixed", "opened")
    await queues.write(emptied, 4)
    group = queues.kafka.settings.group_of(emptied)
    at = ConsumerGroupTopicPartitions(group, [TopicPartition(emptied, 0, 4)])
    queues.admin.alter_consumer_group_offsets([at])[group].result(WAIT_S)  # what is left is the marker
    for _ in range(3):
        await queues.write(aborted, 5, ends="abort")
    await queues.write(mixed, 2)
    await queues.write(mixed, 3, ends="abort")
    await queues.plain(mixed, [b"a", b"b"])
    await queues.write(mixed, 1)
    await queues.plain(opened, [b"a"])
    held = await queues.write(opened, 7, ends=None)
    await queues.plain(opened, [b"b"])
    await queues.become(emptied=0, aborted=0, mixed=5, opened=1)  # behind an open one, nobody knows
    await held.commit_transaction()
    await held.stop()
    await queues.become(emptied=0, aborted=0, mixed=5, opened=9)


async def test_what_was_deleted_or_lies_below_the_head_within_a_batch_is_not_there(queues: Queues) -> None:
    deleted, begun = await queues.create("deleted", "begun")
    for topic in (deleted, begun):
        await queues.plain(topic, [b"%d" % number for number in range(10)])
    queues.admin.delete_records([TopicPartition(deleted, 0, 4)])
    group = queues.kafka.settings.group_of(begun)
    at = ConsumerGroupTopicPartitions(group, [TopicPartition(begun, 0, 7)])
    queues.admin.alter_consumer_group_offsets([at])[group].result(WAIT_S)
    await queues.become(deleted=6, begun=3)


async def test_what_was_compacted_away_is_not_there(queues: Queues) -> None:
    """Batches with gaps in them, which is also where the head lies; and nothing at all for many offsets."""
    config = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001"}
    config |= {"max.compaction.lag.ms": "100", "delete.retention.ms": "0"}
    (topic,) = await queues.create("compacted", **config)
    for _ in range(3):
        await queues.plain(topic, [b"%d" % number for number in range(20)])
    await queues.plain(topic, [b"%d" % number for number in range(0, 20, 2)])
    end = deadline(4 * WAIT_S)  # the cleaner comes when it comes
    while True:  # a segment is closed by what comes after it
        await queues.set(topic, config)  # others on this node set all queues right
        await queues.plain(topic, [b"last"])
        (depth,) = (await queues.depths()).values()
        kept = await asyncio.to_thread(read_contents, queues.kafka.connection, {topic: {0: 0}})
        if depth is not None and len(kept[topic]) < 40:
            break
        assert not end.is_over
        await asyncio.sleep(0.5)
    offsets = [record.offset for record in kept[topic]]
    for head in (0, offsets[3] + 1, offsets[8]):
        group = queues.kafka.settings.group_of(topic)
        at = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, head)])
        queues.admin.alter_consumer_group_offsets([at])[group].result(WAIT_S)
        while True:  # compaction may go on between two looks
            now = await asyncio.to_thread(read_contents, queues.kafka.connection, {topic: {0: head}})
            async with Cluster(queues.kafka.settings) as kafka:  # which has counted nothing before
                (found,) = await kafka.depths({}, lambda name: name == topic)
            if found.depth == Depth(len(now[topic]), True):
                break
            assert not end.is_over, (found, len(now[topic]))


async def test_what_is_long_is_not_counted_but_what_is_short_and_large_is(queues: Queues) -> None:
    long, large, markers = await queues.create("long", "large", "markers")
    for _ in range(3):
        await queues.plain(long, [b"%d" % number for number in range(6_000)])
    for _ in range(3):
        await queues.write(large, 1, size=700_000)
    await queues.plain(markers, [b"%d" % number for number in range(1_500)])
    end = deadline()
    wanted = {"long": Depth(18_000, False), "large": Depth(3, True), "markers": Depth(1_500, True)}
    while (found := await queues.depths()) != wanted and not end.is_over:
        await asyncio.sleep(0.05)
    assert found == wanted
