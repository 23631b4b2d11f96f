"""How full the queues are, where a node is away that alone has one of them."""

import asyncio

from confluent_kafka.admin import AdminClient, NewTopic

from streams.kafka.cluster import Cluster
from streams.kafka.depths import queue_depths
from streams.settings.settings import Settings
from tests.broker import checker
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
            depths = {queue.topic: queue.depth for queue in await queue_depths(kafka.connection, kafka.settings)}
    finally:
        away.start()
    assert (depths[led], depths[half_led]) == (0, None)
    remove_topics(servers, own)
