"""Members of groups that are no consumer groups: of a share group (KIP-932), of a streams group (KIP-1071)."""

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.types import AbstractType, Boolean, CompactArray, Int8, Int16, Int32, Schema, TaggedFields
from confluent_kafka import KafkaException, ShareConsumer

from streams.kafka.groups import coordinator
from streams.kafka.wire.request import TEXT, FlexibleRequest, structure, structures

_HEARTBEAT_S = 1.0


@contextmanager
def share_member(servers: str, group: str, topic: str) -> Iterator[set[bytes | None]]:
    """A member of a share group that has received something, or has been there for a while; the keys that it gets."""
    config = {"bootstrap.servers": servers, "group.id": group, "log_level": 0}
    consumer = ShareConsumer(config)
    consumer.subscribe([topic])
    got: set[bytes | None] = set()
    has_polled, is_over = threading.Event(), threading.Event()

    def poll() -> None:
        for count in range(1 << 30):
            if is_over.is_set():
                return
            with suppress(KafkaException):
                got.update(message.key() for message in consumer.poll(0.3))
            if got or count >= 9:
                has_polled.set()

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        has_polled.wait()
        yield got
    finally:
        is_over.set()
        thread.join()
        consumer.close()


_TOPIC_INFOS = structures(topic=TEXT, partitions=Int32, replication_factor=Int16, config=CompactArray(TEXT))
_SUBTOPOLOGIES = structures(
    subtopology_id=TEXT,
    source_topics=CompactArray(TEXT),
    source_topic_regex=CompactArray(TEXT),
    state_changelog_topics=_TOPIC_INFOS,
    repartition_sink_topics=CompactArray(TEXT),
    repartition_source_topics=_TOPIC_INFOS,
    copartition_groups=CompactArray(Int16),
)


class _Topology(AbstractType):  # type: ignore[misc]
    """One subtopology that reads these topics; None for none."""

    @classmethod
    def encode(cls, topics: list[str] | None) -> bytes:
        if topics is None:
            return bytes(Int8.encode(-1))
        subtopology = ("0", topics, [], [], [], [], [], {})
        parts = Int8.encode(1), Int32.encode(0), _SUBTOPOLOGIES.encode([subtopology]), TaggedFields.encode({})
        return b"".join(parts)

    @classmethod
    def decode(cls, _: Any) -> None:
        raise NotImplementedError


_TASKS = structures(subtopology_id=TEXT, partitions=CompactArray(Int32))


class _StreamsGroupHeartbeat(FlexibleRequest):
    API_KEY = 88
    API_VERSION = 0
    REQUEST = structure(
        group=TEXT,
        member_id=TEXT,
        member_epoch=Int32,
        endpoint_information_epoch=Int32,
        instance_id=TEXT,
        rack_id=TEXT,
        rebalance_timeout_ms=Int32,
        topology=_Topology,
        active_tasks=_TASKS,
        standby_tasks=_TASKS,
        warmup_tasks=_TASKS,
        process_id=TEXT,
        user_endpoint=Int8,
        client_tags=CompactArray(Int32),
        task_offsets=CompactArray(Int32),
        task_end_offsets=CompactArray(Int32),
        shutdown=Boolean,
    )
    RESPONSE = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("error_message", TEXT),
        ("member_id", TEXT),
        ("member_epoch", Int32),  # what follows is left unread
    )

    def __init__(self, group: str, member: str, epoch: int, topics: list[str]) -> None:
        is_first = epoch == 0
        told, tasks = (topics, []) if is_first else (None, None)
        others = (told, tasks, tasks, tasks, "p" if is_first else None, -1, [] if is_first else None, None, None)
        super().__init__(group, member, epoch, 0, None, None, 60_000 if is_first else -1, *others, False)


@asynccontextmanager
async def streams_member(servers: str, group: str, topic: str) -> AsyncIterator[None]:
    """A member of a streams group whose topology reads the topic."""
    client = AIOKafkaClient(bootstrap_servers=servers)
    await client.bootstrap()
    member = str(uuid.uuid4())

    async def beat(epoch: int) -> int:
        node = await coordinator(client, group)
        answer = await client.send(node, _StreamsGroupHeartbeat(group, member, epoch, [topic]))
        assert answer.error_code == 0, answer.error_message
        return int(answer.member_epoch)

    async def beat_on(epoch: int) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            epoch = await beat(epoch)

    beating = asyncio.create_task(beat_on(await beat(0)))
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.wait([beating])
        await beat(-1)
        await client.close()
