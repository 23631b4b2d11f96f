"""Partitions in Kafka's flexible requests and answers: an array of topics, each with an array of its partitions."""

from typing import Any

from aiokafka.protocol.types import CompactArray, CompactString, Int32, TaggedFields


def _topics(partitions: CompactArray) -> CompactArray:
    return CompactArray(("topic", CompactString("utf-8")), ("partitions", partitions), ("tags", TaggedFields))


NUMBERS = _topics(CompactArray(Int32))
"""What a request asks about: the partitions' numbers."""


def answers(*fields: tuple[str, Any]) -> CompactArray:
    """What an answer says of each partition: its number, and these fields."""
    return _topics(CompactArray(("partition", Int32), *fields, ("tags", TaggedFields)))
