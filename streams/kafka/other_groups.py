"""Groups that are no consumer groups: share groups (KIP-932) and streams groups (KIP-1071). aiokafka knows neither.

Kafka answers about them as about groups that don't exist, wherever it is asked for a consumer group: no members, no
offsets, and who is to leave has left.
"""

import asyncio
from collections.abc import Collection
from io import BytesIO
from typing import Any, Literal

from aiokafka import errors as aio
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int8,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

OtherKind = Literal["share", "streams"]

ASSIGNMENT = (
    (
        "topic_partitions",
        CompactArray(
            ("topic_id_high", Int32),  # a UUID of 16 bytes, which aiokafka has no type for
            ("topic_id_2", Int32),
            ("topic_id_3", Int32),
            ("topic_id_low", Int32),
            ("topic_name", CompactString("utf-8")),
            ("partitions", CompactArray(Int32)),
            ("tags", TaggedFields),
        ),
    ),
    ("tags", TaggedFields),
)
"""A member's partitions, as Kafka describes groups."""

_HEAD = (
    ("error_code", Int16),
    ("error_message", CompactString("utf-8")),
    ("group", CompactString("utf-8")),
    ("state", CompactString("utf-8")),
    ("group_epoch", Int32),
    ("assignment_epoch", Int32),
)
_REQUEST = Schema(
    ("groups", CompactArray(CompactString("utf-8"))),
    ("include_authorized_operations", Boolean),
    ("tags", TaggedFields),
)


class ShareGroupDescribeResponseV1(Response):  # type: ignore[misc]
    """Apache Kafka's ShareGroupDescribeResponse.json, version 1."""

    API_KEY = 77
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            CompactArray(
                *_HEAD,
                ("assignor", CompactString("utf-8")),
                (
                    "members",
                    CompactArray(
                        ("member_id", CompactString("utf-8")),
                        ("rack_id", CompactString("utf-8")),
                        ("member_epoch", Int32),
                        ("client_id", CompactString("utf-8")),
                        ("client_host", CompactString("utf-8")),
                        ("subscribed_topics", CompactArray(CompactString("utf-8"))),
                        ("assignment", Schema(*ASSIGNMENT)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class ShareGroupDescribeRequestV1(RequestStruct):  # type: ignore[misc]
    """Apache Kafka's ShareGroupDescribeRequest.json, version 1 (of Kafka 4.1; 4.0 had a preview)."""

    API_KEY = 77
    API_VERSION = 1
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = ShareGroupDescribeResponseV1
    SCHEMA = _REQUEST


class ShareGroupDescribe(Request[ShareGroupDescribeRequestV1]):  # type: ignore[misc]
    """Ask about share groups; all of them must have the node that is asked for their coordinator."""

    API_KEY = 77

    def __init__(self, groups: Collection[str]) -> None:
        self._groups = groups

    def build(self, request_struct_class: type[ShareGroupDescribeRequestV1]) -> ShareGroupDescribeRequestV1:
        """The request on the wire."""
        return request_struct_class(list(self._groups), False, {})


_TOPICS = CompactArray(
    ("topic", CompactString("utf-8")),
    ("partitions", Int32),
    ("replication_factor", Int16),
    (
        "config",
        CompactArray(("key", CompactString("utf-8")), ("value", CompactString("utf-8")), ("tags", TaggedFields)),
    ),
    ("tags", TaggedFields),
)


class _Topology(AbstractType):  # type: ignore[misc]
    """The subtopologies of a topology, if there is one; each begins with its id and its source topics."""

    _SUBTOPOLOGIES = CompactArray(
        ("subtopology_id", CompactString("utf-8")),
        ("source_topics", CompactArray(CompactString("utf-8"))),
        ("repartition_sink_topics", CompactArray(CompactString("utf-8"))),
        ("state_changelog_topics", _TOPICS),
        ("repartition_source_topics", _TOPICS),
        ("tags", TaggedFields),
    )

    @classmethod
    def decode(cls, data: BytesIO) -> list[Any]:
        if Int8.decode(data) < 0:
            return []
        Int32.decode(data)  # its epoch
        return cls._SUBTOPOLOGIES.decode(data) or []


class StreamsGroupDescribeResponseV0(Response):  # type: ignore[misc]
    """Apache Kafka's StreamsGroupDescribeResponse.json, version 0, up to the topology of the first group."""

    API_KEY = 89
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("groups", CompactArray(*_HEAD, ("topology", _Topology))),
    )


class StreamsGroupDescribeRequestV0(RequestStruct):  # type: ignore[misc]
    """Apache Kafka's StreamsGroupDescribeRequest.json, version 0."""

    API_KEY = 89
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = StreamsGroupDescribeResponseV0
    SCHEMA = _REQUEST


class StreamsGroupDescribe(Request[StreamsGroupDescribeRequestV0]):  # type: ignore[misc]
    """Ask about one streams group: of an answer about more, only the first one could be read."""

    API_KEY = 89

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[StreamsGroupDescribeRequestV0]) -> StreamsGroupDescribeRequestV0:
        """The request on the wire."""
        return request_struct_class([self._group], False, {})


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
