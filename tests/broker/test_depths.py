"""How full the queues are, where a node is away that alone has one of them."""

import asyncio

from confluent_kafka.admin import AdminClient, NewTopic

from streams.broker import EmbeddedBroker
from streams.claim.heads import claimed_heads
from streams.kafka.cluster import Cluster
from streams.kafka.depths import queue_depths
from streams.ledger.ledger import Ledger
from streams.settings.settings import Settings
from streams.telemetry.metrics import REGISTRIES
from streams.worker.backlog import Backlog
from tests.broker import checker
from tests.broker.moments import claimed
from tests.broker.scene import Scene
from tests.faults.links import LinkedCluster
from tests.support.names import own_name, remove_topics
from tests.support.patience import WAIT_S, wait_until


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
            found = await queue_depths(kafka.connection, kafka.settings, {})
            depths = {queue.topic: queue.depth for queue in found}
    finally:
        away.start()
    assert (depths[led], depths[half_led]) == (0, None)
    remove_topics(servers, own)


async def test_the_list_of_queues_and_the_metric_say_the_same_of_what_was_claimed(broker: EmbeddedBroker) -> None:
    """Nothing of it is drained, and somebody has set the group's offsets back to before the claim."""
    with Scene(broker.bootstrap_servers) as scene:
        scene.put(40)
        await claimed(scene, "a")
        scene.put(4)
        scene.commit(dict.fromkeys(range(4), 2))
        async with Cluster(scene.settings) as kafka:
            heads = await claimed_heads(kafka, scene.settings)
            listed = {queue.topic: queue.depth for queue in await queue_depths(kafka.connection, scene.settings, heads)}
            ledger = Ledger(kafka, scene.settings)
            await ledger.start()
            await Backlog(kafka, ledger, scene.settings).show_depths(lambda topic: topic == scene.topic)
            await ledger.stop()
    assert listed[scene.topic] == 4
    assert REGISTRIES["worker"].get_sample_value("xferq_xfer_queue_depth", {"queue": scene.queue}) == 4
