"""A broker that is cut off from the controller: it leads no more, does not know it, and answers whoever asks."""

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from streams.domain.ledger_partitions import progress_partition
from streams.domain.topic import topic_of
from streams.drain.drainer import Drainer
from streams.errors import Unavailable
from streams.kafka.cluster import Cluster
from streams.ledger.ledger import Ledger
from streams.settings.settings import Settings
from streams.telemetry.health import Health
from streams.worker.engine import utc_now
from tests.broker import checker
from tests.broker.moments import claimed
from tests.broker.scene import WAIT_S, Scene, wait_until
from tests.faults.links import LinkedCluster
from tests.support.draining import drain
from tests.support.patience import deadline

_TRANSACTIONS = "__transaction_state"


class _Scene(Scene):
    replication = 3


def leaders(servers: str, topic: str) -> dict[int, int]:
    """Who leads each partition, as one of these servers says."""
    metadata = AdminClient({"bootstrap.servers": servers, "log_level": 0}).list_topics(topic, timeout=10)
    return {number: partition.leader for number, partition in metadata.topics[topic].partitions.items()}


def place_of(id: str, partitions: int) -> int:
    """The partition of an id's coordinator: Java's hash of a string."""
    hash = 0
    for unit in struct.unpack(f">{len(id)}H", id.encode("utf-16-be")):
        hash = (31 * hash + unit) & 0xFFFFFFFF
    return (hash & 0x7FFFFFFF) % partitions


@contextmanager
def scene_with_zombie(servers: str) -> Iterator[tuple[_Scene, int]]:
    """A queue, and the leader of its drain's ledger partition, where the drain's coordinator is another node.

    Whoever asks the zombie would not get so far as to drain where that one were the coordinator as well.
    """
    for _ in range(20):
        with _Scene(servers, queue_partitions=1) as scene:
            partition = progress_partition(scene.topic, 0, scene.settings.ledger_partitions)
            zombie = leaders(servers, scene.settings.ledger_topic)[partition]
            coordinators = leaders(servers, _TRANSACTIONS)
            if coordinators[place_of(f"xferq.drain.{scene.topic}.0", len(coordinators))] != zombie:
                yield scene, zombie
                return
    raise AssertionError("no such queue")


@asynccontextmanager
async def drainer(settings: Settings) -> AsyncIterator[tuple[Ledger, Drainer]]:
    """What drains in a worker."""
    async with Cluster(settings) as kafka:
        ledger = Ledger(kafka, settings)
        await ledger.start()
        try:
            yield ledger, Drainer(kafka, ledger, settings, utc_now, Health())
        finally:
            await ledger.stop()


@contextmanager
def cut_off(cluster: LinkedCluster, node: int) -> Iterator[None]:
    """The node reaches no controller, until all are one cluster again."""
    cluster.cut_off(node)
    try:
        yield
    finally:
        cluster.mend()
        cluster.start()


async def test_a_drain_that_is_taken_over_by_one_who_asks_a_zombie_moves_nothing_twice(cluster: LinkedCluster) -> None:
    servers = cluster.bootstrap_servers
    warm = Producer({"bootstrap.servers": servers, "transactional.id": "warm", "log_level": 0})
    warm.init_transactions(WAIT_S)  # so that the topic of transactions is there
    with scene_with_zombie(servers) as (scene, zombie):
        scene.put(200)
        alive = alive_without(zombie, servers)
        async with drainer(scene.settings) as (behind, late):
            claim = await claimed(scene, "a")
            await behind.barrier(scene.topic)
            with cut_off(cluster, zombie):
                topics = (scene.settings.ledger_topic, scene.topic, _TRANSACTIONS)
                await asyncio.to_thread(wait_until, lambda: all(_is_led(alive, topic, zombie) for topic in topics))
                async with drainer(scene.settings.model_copy(update={"bootstrap_servers": alive})) as (_, ahead):
                    async with asyncio.timeout(WAIT_S):
                        assert await drain(ahead, claim.topic, 0) == ["a"]
                assert behind.progress(scene.topic, 0, "a") is None  # it reads at the zombie, and does not know it
                async with asyncio.timeout(WAIT_S):
                    assert await drain(late, claim.topic, 0) == []
                step = behind.progress(scene.topic, 0, "a")
                await _asks_the_leader_though_it_is_told_of_by_the_zombie(scene, servers.split(",")[zombie - 1])
        assert step is not None
        assert (step.restored, step.done) == (200, True)
        topics = {topic_of(message.queue) for message in scene.sent}

        def restored() -> list[bytes]:
            found = checker.read(servers, topics)
            return sorted(record.id or b"" for records in found.values() for record in records)

        sent = sorted(message.id for message in scene.sent)
        seen: list[bytes] = []

        def all_is_there() -> bool:
            seen[:] = restored()
            return len(seen) >= len(sent)

        # The last transaction's markers may have waited for the node, which does not know of all topics at once.
        await asyncio.to_thread(wait_until, all_is_there)
        assert seen == sent


async def test_an_end_that_a_zombie_tells_is_no_end_of_a_claim(cluster: LinkedCluster) -> None:
    """Mail that was acknowledged before the cancel would stay in the queue, and the cancel say that it is done."""
    with _Scene(cluster.bootstrap_servers, queue_partitions=1) as scene:
        scene.put(50)
        (zombie,) = leaders(scene.servers, scene.topic).values()
        alive = alive_without(zombie, scene.servers)
        async with Cluster(scene.settings) as kafka:
            id = scene.topic_id()
            assert await kafka.stable_ends(scene.topic, [0], latest_of=id) == {0: 50}
            with cut_off(cluster, zombie):
                await asyncio.to_thread(wait_until, lambda: _is_led(alive, scene.topic, zombie))
                producer = Producer({"bootstrap.servers": alive, "log_level": 0})
                producer.produce(scene.topic, b"acknowledged")
                assert producer.flush(WAIT_S) == 0
                assert await kafka.stable_ends(scene.topic, [0]) == {0: 50}  # it asks the zombie, as it did before
                end = deadline()
                while True:
                    try:
                        assert await kafka.stable_ends(scene.topic, [0], latest_of=id) == {0: 51}
                        break
                    except Unavailable:
                        end.check(lambda: "it never finds the leader")


def alive_without(zombie: int, servers: str) -> str:
    """The addresses of the other two."""
    return ",".join(server for node, server in enumerate(servers.split(","), 1) if node != zombie)


async def _asks_the_leader_though_it_is_told_of_by_the_zombie(scene: Scene, server: str) -> None:
    """Whoever knows no other broker at first learns from it that there are others, and believes the latest of them."""
    settings = scene.settings.model_copy(update={"bootstrap_servers": server})
    async with Cluster(settings) as kafka:
        partition = Ledger(kafka, settings).partition_of(scene.topic)
        await kafka.mark(settings.ledger_topic, partition, b"barrier/x", [])
        tail = await kafka.tail(settings.ledger_topic, {partition: 0})
        keys: list[bytes | None] = []
        async with asyncio.timeout(WAIT_S):
            while b"barrier/x" not in keys:
                keys += [record.key for record in await tail.read(500)]
        await tail.close()


def _is_led(servers: str, topic: str, zombie: int) -> bool:
    """Whether each partition has a leader that is not the zombie."""
    return not {zombie, -1} & set(leaders(servers, topic).values())
