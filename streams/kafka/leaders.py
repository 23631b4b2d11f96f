"""Who leads a topic's partitions: all brokers are asked, and the highest leader epoch is believed.

A broker that is cut off from the controller tells of leaders what it knew at the cut, and answers for what it leads no
more. aiokafka asks any one broker, at random, so it may follow that one for as long as its metadata is good
(`metadata_max_age_ms`). Here it asks again until it has the answer that all brokers together give.

Only as it begins: later it may be told something old again, and then whoever misses what should come begins anew.
"""

import asyncio

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient

from streams.kafka.metadata import ask_all

_ANSWER_S = 1.0
"""How long a broker may take to answer; who does not is passed over."""
_AGREE_S = 2.0


async def follow_latest(client: AIOKafkaClient, topic: str) -> None:
    """Let the client know the latest leaders of the topic; what can't be had in a few seconds is left as it is."""
    try:
        async with asyncio.timeout(_AGREE_S):
            await client.add_topic(topic)
            latest = await latest_leaders(client, topic)
            while not _agrees(client, topic, latest):
                await client.force_metadata_update()
    except TimeoutError:
        return


def _agrees(client: AIOKafkaClient, topic: str, latest: dict[int, tuple[int, int]]) -> bool:
    known = ((client.cluster.leader_for_partition(TopicPartition(topic, p)), led) for p, (_, led) in latest.items())
    return all(leader == led for leader, led in known)


async def latest_leaders(client: AIOKafkaClient, topic: str) -> dict[int, tuple[int, int]]:
    """Epoch and leader of each partition, of the highest epoch that any broker tells; those without one left out."""
    found: dict[int, tuple[int, int]] = {}
    told, _ = await ask_all(client, [topic], _ANSWER_S)
    for one in told:
        for partition, (epoch, leader) in one.leaders.get(topic, {}).items():
            if leader >= 0 and epoch > found.get(partition, (-1, -1))[0]:
                found[partition] = epoch, leader
    return found
