"""OffsetFetch v7: a group's committed offsets, with KIP-447's `require_stable`.

aiokafka stops at v3, which lacks that flag. librdkafka's admin client has it, but ends the process
(a segmentation fault in `rd_kafka_cgrp_op`, tried with 2.16.1) when the coordinator answers that it is loading
or another one: on a new cluster, and whenever a coordinator moves.
"""

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

from streams.kafka.by_topic import NUMBERS, answers


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
