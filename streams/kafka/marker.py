"""Marks: records that say nothing, whose acknowledgement and delivery prove what a read can't (`ledger.barrier`).

By a producer of its own, which is not idempotent: twice does no harm here, and without sequence numbers a write that
failed stands in no other's way. Nothing is sent through `streams.kafka.cluster`'s publisher, which is replaced with all
that is under way in it whenever one write fails.
"""

import asyncio
import time
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from streams.errors import Unavailable, XferqError
from streams.kafka.connection import Connection
from streams.kafka.leaders import follow_latest
from streams.kafka.transaction import TransactionalProducer
from streams.kafka.translate import translating
from streams.records import Header


class Marker:
    """Writes marks; connects with the first one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._timeout_s = connection.settings.request_timeout_ms / 1000
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()
        self._answered_at = 0.0

    async def write(self, topic: str, partition: int, key: bytes, headers: Sequence[Header]) -> None:
        """See `streams.ports.Transactor.mark`."""
        doing = f"writing to {topic}/{partition}"
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                producer = await self._started(topic)
                with translating(doing, f"Write on topic {topic}"):
                    await (await producer.send(topic, None, key=key, partition=partition, headers=list(headers)))
        except TimeoutError:
            await self._distrust(topic, began)
            raise Unavailable(f"{doing}: no answer in time") from None
        except XferqError:
            await self._distrust(topic, began)
            raise
        self._answered_at = time.monotonic()

    async def _started(self, topic: str) -> AIOKafkaProducer:
        async with self._lock:
            if self._producer is None or self._producer._sender.sender_task.done():
                await self.close()
                producer = AIOKafkaProducer(
                    **self._connection.client("barrier"), acks="all", enable_idempotence=False, linger_ms=0
                )
                try:
                    with translating("connecting"):
                        await producer.start()
                        await follow_latest(producer.client, topic)
                except BaseException:
                    await TransactionalProducer(producer, self._connection).close()
                    raise
                self._producer = producer
            return self._producer

    async def _distrust(self, topic: str, began: float) -> None:
        """What it knows of leaders may be old; and where it got no answer at all since then, it may be of no use.

        A leader that was cut off takes the write and never acknowledges it; aiokafka would ask it again and again.
        """
        if self._answered_at < began:
            await self.close()
        elif self._producer is not None:
            await follow_latest(self._producer.client, topic)

    async def close(self) -> None:
        """Close its connections; a caller that waits for a mark gets an error."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await TransactionalProducer(producer, self._connection).close()
