"""Who leads a topic's partitions: all brokers are asked, and the highest leader epoch is believed.

A broker that is cut off from the controller tells of leaders what it knew at the cut. aiokafka asks any one broker, at
random, and its requests are of before epochs (Metadata 5): so it may follow that one for as long as its metadata is
good (`metadata_max_age_ms`). Here it asks again until it has the answer that all brokers together give.

Only as it begins: later it may be told something old again, and then whoever misses what should come begins anew. To
let all of aiokafka's clients go by epochs at all times would take topic ids as well (Metadata 10), as the epochs of a
topic that was created again begin at 0.
"""

import asyncio

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

_ANSWER_S = 1.0
"""How long a broker may take to answer; who does not is passed over."""
_AGREE_S = 2.0


class MetadataResponseV7(Response):  # type: ignore[misc]
    """Apache Kafka's MetadataResponse.json, version 7: the first one with leader epochs."""

    API_KEY = 3
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(("node_id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8"))),
        ),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
            ),
        ),
    )


class MetadataRequestV7(RequestStruct):  # type: ignore[misc]
    """Apache Kafka's MetadataRequest.json, version 7."""

    API_KEY = 3
    API_VERSION = 7
    RESPONSE_TYPE = MetadataResponseV7
    SCHEMA = Schema(("topics", Array(String("utf-8"))), ("allow_auto_topic_creation", Boolean))


class Leaders(Request[MetadataRequestV7]):  # type: ignore[misc]
    """Ask one broker for the leaders of one topic."""

    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[MetadataRequestV7]) -> MetadataRequestV7:
        """The request on the wire."""
        return request_struct_class([self._topic], False)


async def follow_latest(client: AIOKafkaClient, topic: str) -> None:
    """Let the client know the latest leaders of the topic; what can't be had in a few seconds is left as it is."""
    try:
        async with asyncio.timeout(_AGREE_S):
            await client.add_topic(topic)
            latest = await _latest(client, topic)
            while not _agrees(client, topic, latest):
                await client.force_metadata_update()
    except TimeoutError:
        return


def _agrees(client: AIOKafkaClient, topic: str, latest: dict[int, tuple[int, int]]) -> bool:
    known = ((client.cluster.leader_for_partition(TopicPartition(topic, p)), led) for p, (_, led) in latest.items())
    return all(leader == led for leader, led in known)


async def _latest(client: AIOKafkaClient, topic: str) -> dict[int, tuple[int, int]]:
    """Epoch and leader of each partition, of the highest epoch that any broker tells; those without one left out."""
    nodes = [broker.nodeId for broker in client.cluster.brokers()]
    found: dict[int, tuple[int, int]] = {}
    for told in await asyncio.gather(*(_told(client, node, topic) for node in nodes)):
        for partition, (epoch, leader) in told.items():
            if leader >= 0 and epoch > found.get(partition, (-1, -1))[0]:
                found[partition] = epoch, leader
    return found


async def _told(client: AIOKafkaClient, node: int, topic: str) -> dict[int, tuple[int, int]]:
    try:
        async with asyncio.timeout(_ANSWER_S):
            answer = await client.send(node, Leaders(topic))
    except Exception:  # noqa: BLE001 - whatever keeps one broker from answering, others may
        return {}
    return {
        partition: (epoch, leader)
        for _, name, _, partitions in answer.topics
        if name == topic
        for _, partition, leader, epoch, *_ in partitions
    }
