"""What each broker says of topics and their leaders, by its own word: Metadata v10, which has ids and leader epochs.

A broker that is cut off from the controller goes on telling what it knew at the cut. So a caller that must not believe
such a broker asks all. aiokafka's own requests are of before epochs (Metadata 5), and librdkafka asks any one broker.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

from aiokafka import errors as aio
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.protocol.types import AbstractType, Boolean, CompactArray, Int16, Int32, Schema

from streams.kafka.wire.request import TEXT, FlexibleRequest, TopicId, structure, structures

_NO_ID = "A" * 22


class _Undecoded(AbstractType[bytes]):  # type: ignore[misc]
    """The rest of a response, as it came: to decode that of 20,000 topics takes seconds."""

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read()


class Metadata(FlexibleRequest):
    """Ask one broker for some topics; None: for all. `DECODED` is the schema of the response."""

    API_KEY = 3
    API_VERSION = 10
    REQUEST = structure(
        topics=structures(topic_id=TopicId, topic=TEXT),
        allow_auto_topic_creation=Boolean,
        include_cluster_authorized_operations=Boolean,
        include_topic_authorized_operations=Boolean,
    )
    RESPONSE = Schema(("raw", _Undecoded))
    DECODED = structure(
        throttle_time_ms=Int32,
        brokers=structures(node_id=Int32, host=TEXT, port=Int32, rack=TEXT),
        cluster_id=TEXT,
        controller_id=Int32,
        topics=structures(
            error_code=Int16,
            topic=TEXT,
            topic_id=TopicId,
            is_internal=Boolean,
            partitions=structures(
                error_code=Int16,
                partition=Int32,
                leader=Int32,
                leader_epoch=Int32,
                replicas=CompactArray(Int32),
                isr=CompactArray(Int32),
                offline_replicas=CompactArray(Int32),
            ),
            authorized_operations=Int32,
        ),
        cluster_authorized_operations=Int32,
    )

    def __init__(self, topics: Collection[str] | None) -> None:
        super().__init__(None if topics is None else [(_NO_ID, topic, {}) for topic in topics], False, False, False)


@dataclass(frozen=True, slots=True)
class Led:
    """A partition, as one broker has heard: its leader (-1: none) in the epoch, and where its replicas are."""

    epoch: int
    leader: int
    replicas: Sequence[int]


@dataclass(frozen=True, slots=True)
class Told:
    """One broker's word: the brokers that it takes for alive; by topic that it knows, its id and its partitions."""

    brokers: frozenset[int]
    ids: dict[str, str]
    partitions: dict[str, dict[int, Led]]


async def ask_all(
    client: AIOKafkaClient, topics: Collection[str] | None, wait_s: float
) -> tuple[Sequence[Told], set[int]]:
    """Ask all brokers; what they tell, and those that others take for alive and that did not answer in `wait_s`.

    Nobody waits for a broker that none of the others takes for alive any more.
    """
    told = await _ask_these(client, {broker.nodeId for broker in client.cluster.brokers()}, topics, wait_s)
    if new := _alive(told) - {broker.nodeId for broker in client.cluster.brokers()}:
        await client.force_metadata_update()  # it has come, or come back, since the client last looked
        told |= await _ask_these(client, new & {broker.nodeId for broker in client.cluster.brokers()}, topics, wait_s)
    return list(told.values()), _alive(told) - told.keys()


async def _ask_these(
    client: AIOKafkaClient, nodes: Collection[int], topics: Collection[str] | None, wait_s: float
) -> dict[int, Told]:
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + wait_s
    told: dict[int, Told] = {}
    asking = {asyncio.create_task(_ask(client, node, topics)): node for node in nodes}
    waited_for = set(asking)
    try:
        while waited_for and (left_s := ends_at - loop.time()) > 0:
            done, _ = await asyncio.wait(waited_for, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            told |= {asking[task]: task.result() for task in done if task.exception() is None}
            alive = _alive(told)
            waited_for = {task for task, node in asking.items() if not task.done() and (not told or node in alive)}
    finally:
        for task, node in asking.items():
            if not task.done():
                task.cancel()
                # Or one whose other end has gone without a word would be asked again and again.
                if connection := client._conns.get((node, ConnectionGroup.DEFAULT)):
                    connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
        await asyncio.gather(*asking, return_exceptions=True)
    return told


def _alive(told: Mapping[int, Told]) -> set[int]:
    return {broker for one in told.values() for broker in one.brokers}


async def _ask(client: AIOKafkaClient, node: int, topics: Collection[str] | None) -> Told:
    answer = await client.send(node, Metadata(topics))
    return await asyncio.to_thread(_read, answer.raw) if topics is None else _read(answer.raw, topics)


def _read(raw: bytes, asked: Collection[str] = ()) -> Told:
    """What an answer says.

    Raises:
        aiokafka.errors.KafkaError: the broker does not say whether it knows a topic that was asked for.
    """
    _, brokers, _, _, topics, _, _ = Metadata.DECODED.decode(BytesIO(raw))
    ids, partitions = {}, {}
    for code, name, id, _, those, _, _ in topics:
        error = aio.for_code(code)
        if error is aio.NoError:
            ids[name] = id
            partitions[name] = {
                number: Led(epoch, leader, replicas) for _, number, leader, epoch, replicas, *_ in those
            }
        elif name in asked and error not in (aio.UnknownTopicOrPartitionError, aio.InvalidTopicError):
            raise error
    return Told(frozenset(node for node, *_ in brokers), ids, partitions)
