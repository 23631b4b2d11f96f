"""Writing messages into queue topics, from outside: what a mail server does when it takes mail."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer

from streams.errors import OutcomeUnknown
from streams.kafka.connection import Connection
from streams.kafka.translate import translating
from streams.ports import Header

_IN_FLIGHT = 500
_MAX_REQUEST_BYTES = 16 << 20


class Injector:
    """An idempotent producer, as an async context manager: on leaving it, all that was added is durable."""

    def __init__(self, connection: Connection) -> None:
        self._settings = connection.settings
        self._producer = AIOKafkaProducer(
            **connection.client("inject"),
            enable_idempotence=True,
            linger_ms=5,
            max_batch_size=self._settings.batch_bytes,
            max_request_size=_MAX_REQUEST_BYTES,  # whether a topic takes it is for Kafka to say
            compression_type=None if self._settings.compression == "none" else self._settings.compression,
        )
        self._sent: list[asyncio.Future[Any]] = []

    async def __aenter__(self) -> Self:
        try:
            with translating("connecting"):
                await self._producer.start()
        except BaseException:
            await self._producer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self._settle()
        finally:
            with translating("disconnecting"):
                await self._producer.stop()

    async def add(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes,
        headers: Sequence[Header | tuple[str, None]],
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> None:
        """Send one message; waits now and then for what was sent before.

        Args:
            partition: by murmur2 of the key where it is None.
            timestamp: in ms; now where it is None.

        Raises:
            Refused: the topic does not take it (too large), or it is not permitted.
            Unavailable: Kafka did not take it in time.
            OutcomeUnknown: it gave no answer; messages may have been written.
        """
        with translating(f"writing to {topic}"):
            self._sent.append(
                await self._producer.send(
                    topic, value, key=key, headers=list(headers), partition=partition, timestamp_ms=timestamp
                )
            )
        if len(self._sent) >= _IN_FLIGHT:
            await self._settle()

    async def _settle(self) -> None:
        sent, self._sent = self._sent, []
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                with translating("writing messages"):
                    await asyncio.gather(*sent)
        except TimeoutError as error:
            raise OutcomeUnknown("writing messages: no answer in time") from error
