"""A group's committed offsets: OffsetFetch v7, with KIP-447's `require_stable`.

aiokafka stops at v3, which lacks that flag. librdkafka's admin client has it, but ends the process
(a segmentation fault in `rd_kafka_cgrp_op`, tried with 2.16.1) when the coordinator answers that it is loading
or another one: on a new cluster, and whenever a coordinator moves.
"""

from collections.abc import Iterable

from aiokafka import errors as aio
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.protocol.types import Boolean, Int16, Int32, Int64

from streams.errors import Unavailable
from streams.kafka.translate import describing, translating
from streams.kafka.wire.request import NUMBERS, TEXT, FlexibleRequest, partitions, structure

STAMP = "xferq.claim"
"""The metadata of offsets that a claim has committed; a dispatcher's next commit takes it away."""
_UNSTABLE_OFFSET_COMMIT = 88


class OffsetFetch(FlexibleRequest):
    """Ask for the offsets of some partitions of one topic; `stable`: pending ones are errors.

    In the response `offset` is -1 where there is none.
    """

    API_KEY = 9
    API_VERSION = 7
    REQUEST = structure(group=TEXT, topics=NUMBERS, require_stable=Boolean)
    RESPONSE = structure(
        throttle_time_ms=Int32,
        topics=partitions(offset=Int64, leader_epoch=Int32, metadata=TEXT, error_code=Int16),
        error_code=Int16,
    )

    def __init__(self, group: str, topic: str, numbers: list[int], *, stable: bool) -> None:
        super().__init__(group, [(topic, numbers, {})], stable)


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
