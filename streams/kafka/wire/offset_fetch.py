"""A group's committed offsets: OffsetFetch v7, with KIP-447's `require_stable`.

aiokafka stops at v3, which lacks that flag. librdkafka's admin client has it, but ends the process
(a segmentation fault in `rd_kafka_cgrp_op`, tried with 2.16.1) when the coordinator answers that it is loading
or another one: on a new cluster, and whenever a coordinator moves.
"""

from collections.abc import Iterable

from aiokafka import errors as aio
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from streams.errors import Unavailable
from streams.kafka.translate import describing, translating
from streams.kafka.wire.by_topic import NUMBERS, answers

STAMP = "xferq.claim"
"""The metadata of offsets that a claim has committed; a dispatcher's next commit takes it away."""
_UNSTABLE_OFFSET_COMMIT = 88


class OffsetFetchResponseV7(Response):  # type: ignore[misc]
    """Apache Kafka's OffsetFetchResponse.json, version 7; `topics[].partitions[].offset` is -1 where there is none."""

    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            answers(
                ("offset", Int64),
                ("leader_epoch", Int32),
                ("metadata", CompactString("utf-8")),
                ("error_code", Int16),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class OffsetFetchRequestV7(RequestStruct):  # type: ignore[misc]
    """Apache Kafka's OffsetFetchRequest.json, version 7."""

    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = OffsetFetchResponseV7
    SCHEMA = Schema(
        ("group", CompactString("utf-8")),
        ("topics", NUMBERS),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class OffsetFetch(Request[OffsetFetchRequestV7]):  # type: ignore[misc]
    """Ask for the offsets of some partitions of one topic; `stable`: pending ones are errors."""

    API_KEY = 9

    def __init__(self, group: str, topic: str, partitions: list[int], *, stable: bool) -> None:
        self._group = group
        self._topic = topic
        self._partitions = partitions
        self._stable = stable

    def build(self, request_struct_class: type[OffsetFetchRequestV7]) -> OffsetFetchRequestV7:
        """The request on the wire."""
        return request_struct_class(self._group, [(self._topic, self._partitions, {})], self._stable, {})


async def fetch(
    client: AIOKafkaClient, node: int, group: str, topic: str, partitions: Iterable[int], *, stable: bool,
    over: ConnectionGroup = ConnectionGroup.DEFAULT,
) -> dict[int, tuple[int, str]]:  # fmt: skip
    """What a node says of the group's committed offsets, with their metadata; partitions without one are left out.

    `over` is the client's connection to the node that is used.

    Raises:
        Unavailable: a transaction that commits some of them is pending, with `stable`.
        aiokafka.errors.KafkaError: the node does not say it; another one is the coordinator, perhaps.
    """
    doing = f"reading the offsets of group {group}"
    answer = await client.send(node, OffsetFetch(group, topic, list(partitions), stable=stable), group=over)
    found = {}
    error, needs = aio.for_code(answer.error_code), describing(group)
    for _, offsets, _ in answer.topics:
        for partition, offset, _, metadata, code, _ in offsets:
            if code == _UNSTABLE_OFFSET_COMMIT:
                raise Unavailable(f"{doing}: a transaction that commits some of them is pending")
            if error is aio.NoError:
                error, needs = aio.for_code(code), f"Describe (or Read or Write) on topic {topic}"
            if offset >= 0:
                found[partition] = offset, metadata or ""
    if error is not aio.NoError:
        with translating(doing, needs):
            raise error
    return found
