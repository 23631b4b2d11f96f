"""How many messages lie in parts of queues: counted by reading them, within bounds of bytes and time.

An offset more is no message more: a transaction's marker takes one, and so does each aborted record. Kafka does not say
how many there are. So what is short is read; what is long, or can't be read now, is not counted, and says so.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aiokafka import errors as aio
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.protocol.fetch import FetchRequest

from streams.domain.depth import Span
from streams.errors import XferqError
from streams.kafka.connection import Connection
from streams.kafka.translate import not_permitted, translating
from streams.kafka.wire.committed import Uncountable, count_committed
from streams.records import TopicPartition

_log = logging.getLogger(__name__)
_SHORT_OFFSETS = 1_000
"""So much of a queue is read whatever its size."""
_QUEUE_BYTES = 1 << 20
"""So much is read of any other queue."""
_MOST_OFFSETS = _QUEUE_BYTES // 64
"""Of a queue that has more, no read of these bytes would come to the end: a marker alone takes more than 64."""
_ALL_BYTES = 64 << 20
_ALL_S = 1.0
_REQUEST_BYTES = 4 << 20
_PARTITION_BYTES = 1 << 20
_REQUEST_PARTITIONS = 250
"""Decoding the answer for one takes 20 us, for which the event loop stands still."""
_READ_COMMITTED = 1


@dataclass(slots=True, eq=False)
class _Part:
    """One span while it is counted."""

    span: Span
    queue: "_Queue"
    position: int
    count: int = 0
    is_empty: bool = False
    """The node has said that it has nothing from here on, and that the span lies below its last stable offset."""

    @property
    def is_done(self) -> bool:
        return self.is_empty or self.position >= self.span.end


@dataclass(slots=True)
class _Queue:
    """The spans of one topic; `bytes_left` may still be read of them."""

    bytes_left: float
    is_given_up: bool = False
    """Something of it can't be counted, and a part of a sum is of no use."""

    @property
    def is_over(self) -> bool:
        """Whether no more is to be read of it."""
        return self.is_given_up or self.bytes_left <= 0


class MessageCounter:
    """Counts, and knows what it has counted at the call before."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._counted: dict[tuple[str, Span], int] = {}
        self._long: set[tuple[str, str, int, int]] = set()

    async def count(
        self, queues: Collection[Collection[Span]], ids: Mapping[str, str], leaders: Mapping[TopicPartition, int]
    ) -> dict[Span, int]:
        """How many committed records each span holds; those that were not counted are left out.

        Args:
            queues: what is to be counted together, each of one topic.
            ids: the topics' ids.
            leaders: the node that leads each partition.
        """
        wanted = {(ids.get(span.topic, ""), span) for spans in queues for span in spans if span.offsets}
        self._counted = {what: count for what, count in self._counted.items() if what in wanted}
        self._long &= {_from(id, span) for id, span in wanted}
        parts = [part for spans in queues for part in self._to_read(spans, ids)]
        if parts:
            budget = _Budget()
            by_node: dict[int, list[_Part]] = defaultdict(list)
            for part in sorted(parts, key=lambda part: part.span.offsets):
                by_node[leaders.get((part.span.topic, part.span.partition), -1)].append(part)
            try:
                async with asyncio.timeout(_ALL_S):
                    client = await self._connection.raw()
                    await asyncio.gather(*(_read(client, node, those, budget) for node, those in by_node.items()))
            except (TimeoutError, XferqError):
                pass  # what was not counted is not said
        for part in parts:
            id = ids.get(part.span.topic, "")
            if part.is_done:
                self._counted[id, part.span] = part.count
            elif part.queue.bytes_left <= 0:
                self._long.add(_from(id, part.span))
        return {span: count for (_, span), count in self._counted.items()}

    def _to_read(self, spans: Collection[Span], ids: Mapping[str, str]) -> list[_Part]:
        """What of a queue has to be read, if it is short enough."""
        offsets = sum(span.offsets for span in spans)
        is_short = offsets <= _SHORT_OFFSETS
        found = [(ids.get(span.topic, ""), span) for span in spans if span.offsets]
        if offsets > _MOST_OFFSETS or (not is_short and any(_from(id, span) in self._long for id, span in found)):
            return []
        queue = _Queue(float("inf") if is_short else _QUEUE_BYTES)
        return [_Part(span, queue, span.start) for id, span in found if (id, span) not in self._counted]


def _from(id: str, span: Span) -> tuple[str, str, int, int]:
    """Where it begins: what is too long from there on, stays so."""
    return id, span.topic, span.partition, span.start


class _Budget:
    """What may be read of all queues together."""

    def __init__(self) -> None:
        self._left = _ALL_BYTES

    def take(self) -> int:
        """Bytes for one request; 0 where none are left."""
        taken = max(0, min(_REQUEST_BYTES, self._left))
        self._left -= taken
        return taken

    def settle(self, taken: int, used: int) -> None:
        """A request has brought so many of them."""
        self._left += taken - used


async def _read(client: AIOKafkaClient, node: int, parts: list[_Part], budget: _Budget) -> None:
    """Read the parts that this node leads, the first ones first, as far as that may go."""
    left = parts if node >= 0 else []
    while left:
        asked: dict[TopicPartition, _Part] = {}
        for part in left:  # Kafka takes each partition once in a request
            if len(asked) == _REQUEST_PARTITIONS:
                break
            asked.setdefault((part.span.topic, part.span.partition), part)
        limit = budget.take()
        if not limit:
            return
        try:
            with translating("counting messages"):
                used = await _fetch(client, node, asked, limit)
        except XferqError:
            return
        budget.settle(limit, used)
        if not used:
            # The first of them that has anything is given it, whatever its size: so none of these has. What was there
            # has been compacted away; or the node does not know yet what it has told.
            nothing = set(asked.values())
            left = [part for part in left if part not in nothing]
        left = [part for part in left if not part.is_done and not part.queue.is_over]


async def _fetch(client: AIOKafkaClient, node: int, asked: Mapping[TopicPartition, _Part], limit: int) -> int:
    """One request; how many bytes it has brought."""
    topics: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for (topic, partition), part in asked.items():
        topics[topic].append((partition, part.position, _PARTITION_BYTES))
    request = FetchRequest(0, 0, limit, _READ_COMMITTED, list(topics.items()))
    # Over a connection of its own: nobody's request waits behind megabytes.
    answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
    told = {(topic, found[0]): found for topic, partitions in answer.topics for found in partitions}
    used = sum(len(raw or b"") for *_, raw in told.values())
    for where, (_, code, _, stable, _, aborted, *_, raw) in told.items():
        part, error = asked[where], aio.for_code(code)
        if error is not aio.NoError:
            part.queue.is_given_up = True
            if error is aio.TopicAuthorizationFailedError:
                _log.info("depth.not_counted error=%r", not_permitted(f"Read on topic {where[0]}"))
            continue
        part.queue.bytes_left -= len(raw or b"")
        part.is_empty = not used and stable >= part.span.end
        try:
            count, part.position = count_committed(raw or b"", aborted or (), part.position, part.span.end)
        except Uncountable:
            part.queue.is_given_up = True
        else:
            part.count += count
    return used
