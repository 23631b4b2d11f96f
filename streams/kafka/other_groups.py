"""Groups that are no consumer groups: share groups (KIP-932) and streams groups (KIP-1071). aiokafka knows neither.

Kafka answers about them as about groups that don't exist, wherever it is asked for a consumer group: no members, no
offsets, and a member that is to leave has left.
"""

import asyncio
from collections.abc import Collection
from io import BytesIO
from typing import Any, Literal

from aiokafka import errors as aio
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.types import AbstractType, Boolean, CompactArray, Int8, Int16, Int32, Schema

from streams.kafka.wire.request import TEXT, FlexibleRequest, TopicId, structure, structures

OtherKind = Literal["share", "streams"]

GROUPS = structure(groups=CompactArray(TEXT), include_authorized_operations=Boolean)
"""Groups that Kafka is to describe."""
GROUP = {
    "error_code": Int16,
    "error_message": TEXT,
    "group": TEXT,
    "state": TEXT,
    "group_epoch": Int32,
    "assignment_epoch": Int32,
}
"""What Kafka's description of a group begins with."""
ASSIGNMENT = structure(
    topic_partitions=structures(topic_id=TopicId, topic_name=TEXT, partitions=CompactArray(Int32)),
)
"""A member's partitions in such a description."""


class ShareGroupDescribe(FlexibleRequest):
    """Ask about share groups; all of them must have the node that is asked for their coordinator.

    The version is that of Kafka 4.1; 4.0 had a preview.
    """

    API_KEY = 77
    API_VERSION = 1
    REQUEST = GROUPS
    RESPONSE = structure(
        throttle_time_ms=Int32,
        groups=structures(
            **GROUP,
            assignor=TEXT,
            members=structures(
                member_id=TEXT,
                rack_id=TEXT,
                member_epoch=Int32,
                client_id=TEXT,
                client_host=TEXT,
                subscribed_topics=CompactArray(TEXT),
                assignment=ASSIGNMENT,
            ),
            authorized_operations=Int32,
        ),
    )

    def __init__(self, groups: Collection[str]) -> None:
        super().__init__(list(groups), False)


_TOPICS = structures(topic=TEXT, partitions=Int32, replication_factor=Int16, config=structures(key=TEXT, value=TEXT))


class _Topology(AbstractType):  # type: ignore[misc]
    """The subtopologies of a topology, if there is one; each begins with its id and its source topics."""

    _SUBTOPOLOGIES = structures(
        subtopology_id=TEXT,
        source_topics=CompactArray(TEXT),
        repartition_sink_topics=CompactArray(TEXT),
        state_changelog_topics=_TOPICS,
        repartition_source_topics=_TOPICS,
    )

    @classmethod
    def decode(cls, data: BytesIO) -> list[Any]:
        if Int8.decode(data) < 0:
            return []
        Int32.decode(data)  # its epoch
        return cls._SUBTOPOLOGIES.decode(data) or []


class StreamsGroupDescribe(FlexibleRequest):
    """Ask about one streams group: of a response about more, only the first one could be read."""

    API_KEY = 89
    API_VERSION = 0
    REQUEST = GROUPS
    RESPONSE = Schema(
        ("throttle_time_ms", Int32),
        ("groups", CompactArray(*GROUP.items(), ("topology", _Topology))),  # what follows is left unread
    )

    def __init__(self, group: str) -> None:
        super().__init__([group], False)


async def other_kind(client: AIOKafkaClient, node: int, group: str) -> OtherKind | None:
    """Which of these a group is, with members or without; None where it is neither.

    Args:
        node: its coordinator.

    Raises:
        aiokafka.errors.KafkaError: the node is not the coordinator any more, not ready, or does not permit it.
    """
    requests: dict[OtherKind, Any] = {"share": ShareGroupDescribe([group]), "streams": StreamsGroupDescribe(group)}
    found = await asyncio.gather(*(_is_there(client, node, request) for request in requests.values()))
    return next((kind for kind, is_there in zip(requests, found, strict=True) if is_there), None)


async def _is_there(client: AIOKafkaClient, node: int, request: Any) -> bool:
    try:
        code = (await client.send(node, request)).groups[0][0]
    except (aio.IncompatibleBrokerVersion, NotImplementedError):
        return False  # a Kafka that has no such groups
    error = aio.for_code(code)
    if error is aio.NoError:
        return True
    if error in (aio.GroupIdNotFound, aio.UnsupportedVersionError):  # or one where they are not enabled
        return False
    raise error
