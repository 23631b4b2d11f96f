"""DescribeProducers: which producers have lately written to a partition, and where their open transactions begin.

aiokafka lacks it, and so does librdkafka's admin client.
"""

import struct
from collections.abc import Collection, Mapping
from io import BytesIO
from typing import Any

from aiokafka import errors as aio
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.types import CompactArray, Int16, Int32, Int64, TaggedFields, UnsignedVarInt32

from streams.kafka.wire.request import NUMBERS, TEXT, FlexibleRequest, partitions, structure
from streams.records import TopicPartition

_producer = struct.Struct(">qiiqiqB")


class Producers(CompactArray):  # type: ignore[misc]
    """An array whose elements have one length, as long as none has tagged fields: read at once.

    A partition that many have written to lists thousands, for a day each; by aiokafka's ways 8,000 take 90 ms.
    """

    def __init__(self) -> None:
        super().__init__(
            ("producer_id", Int64),
            ("producer_epoch", Int32),
            ("last_sequence", Int32),
            ("last_timestamp", Int64),
            ("coordinator_epoch", Int32),
            ("transaction_start", Int64),
            ("tags", TaggedFields),
        )

    def decode(self, data: BytesIO) -> list[Any] | None:
        """The elements; `tags` is 0 in each where none has any."""
        start = data.tell()
        count = UnsignedVarInt32.decode(data) - 1
        if count > 0:
            content = data.read(count * _producer.size)
            if len(content) == count * _producer.size:
                found = list(_producer.iter_unpack(content))
                if not any(tags for *_, tags in found):
                    return found
        data.seek(start)
        decoded: list[Any] | None = super().decode(data)
        return decoded


class DescribeProducers(FlexibleRequest):
    """Ask for these partitions, by topic; all of them must be led by the node that is asked.

    In the response `transaction_start` is -1 where none is open.
    """

    API_KEY = 61
    API_VERSION = 0
    REQUEST = structure(topics=NUMBERS)
    RESPONSE = structure(
        throttle_time_ms=Int32, topics=partitions(error_code=Int16, error_message=TEXT, producers=Producers())
    )

    def __init__(self, wanted: Mapping[str, Collection[int]]) -> None:
        super().__init__([(topic, list(numbers), {}) for topic, numbers in wanted.items()])


async def open_transactions(
    client: AIOKafkaClient, node: int, producer_id: int, partitions: Mapping[str, Collection[int]]
) -> dict[TopicPartition, int | aio.KafkaError | None]:
    """Where a producer has a transaction open, as the leader of these partitions knows it.

    Returns for each (topic, partition) the offset at which the transaction begins, None where there is none, or why
    the node does not say.

    Raises:
        aiokafka.errors.KafkaError: the node can't be asked.
    """
    found: dict[TopicPartition, int | aio.KafkaError | None] = {}
    answer = await client.send(node, DescribeProducers(partitions))
    for topic, described, _ in answer.topics:
        for partition, code, _, producers, _ in described:
            error = aio.for_code(code)
            if error is not aio.NoError:
                found[topic, partition] = error()
                continue
            starts = (start for id, _, _, _, _, start, _ in producers if id == producer_id)
            found[topic, partition] = next((start for start in starts if start >= 0), None)
    return found
