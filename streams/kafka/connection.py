"""How every client of xferq reaches Kafka: one place for addresses, logins, time-outs and names."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiokafka.client import AIOKafkaClient
from confluent_kafka.admin import AdminClient

from streams.concurrency.ending import end
from streams.errors import Unavailable
from streams.kafka.security import Security
from streams.kafka.translate import translating
from streams.kafka.wire.install import install
from streams.settings.settings import Settings

_OLD_S = 2.0
"""An admin client that fails is replaced when it is that old: not more often while Kafka is away."""


class Connection:
    """Makes the arguments of both libraries' clients, and holds the one admin client, kept warm."""

    def __init__(self, settings: Settings, bootstrap_servers: str | None = None) -> None:
        """Nothing is connected yet.

        Raises:
            Misconfigured: settings of TLS or the login are wrong by themselves, or the version of aiokafka is.
        """
        install()
        self.settings = settings
        self.bootstrap_servers = bootstrap_servers or settings.bootstrap_servers
        self.security = Security(settings)
        self._admin: AdminClient | None = None
        self._admin_since = 0.0
        self._raw: AIOKafkaClient | None = None
        self._raw_lock = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    def client(self, purpose: str) -> dict[str, Any]:
        """Arguments that all aiokafka clients share; `purpose` ends up in the brokers' logs."""
        return {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": f"xferq-{purpose}@{socket.gethostname()}",
            "request_timeout_ms": self.settings.request_timeout_ms,
            "retry_backoff_ms": 20,
            "metadata_max_age_ms": 60_000,
            **self.security.aiokafka(),
        }

    def librdkafka(self, purpose: str) -> dict[str, Any]:
        """Options that all of confluent-kafka's clients share."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "client.id": f"xferq-{purpose}@{socket.gethostname()}",
            "log_level": 2,
            **self.security.librdkafka(),
        }

    @property
    def admin(self) -> AdminClient:
        """confluent-kafka's admin client: it knows topic ids, stable offsets and groups of both protocols."""
        if self._admin is None:
            self._admin = AdminClient(
                {
                    **self.librdkafka("admin"),
                    "socket.timeout.ms": self.settings.request_timeout_ms,
                    "socket.connection.setup.timeout.ms": 5_000,
                    "reconnect.backoff.max.ms": 1_000,
                }
            )
            self._admin_since = time.monotonic()
        return self._admin

    async def raw(self) -> AIOKafkaClient:
        """aiokafka's client for requests that neither library has: kept warm, connected with the first one.

        Raises:
            Unavailable: no connection comes about.
        """
        async with self._raw_lock:
            if self._raw is None:
                client = AIOKafkaClient(**self.client("raw"))
                try:
                    with translating("connecting"):
                        await client.bootstrap()
                except BaseException:
                    await client.close()
                    raise
                self._raw = client
            return self._raw

    @contextmanager
    def asking(self, doing: str, needs: str = "") -> Iterator[None]:
        """Translate the errors of what the admin client is asked for inside, and replace a client that fails.

        librdkafka's keeps what it once knew of leaders: after a broker's restart it asks with an old epoch,
        and after a long silence for leaders that it does not find, for ever (tried with 2.11 on Kafka 4.4).
        """
        try:
            with translating(doing, needs):
                yield
        except Unavailable:
            self._replace_admin()
            raise

    def _replace_admin(self) -> None:
        if self._admin is not None and time.monotonic() - self._admin_since > _OLD_S:
            retiring = [self._admin]
            self._admin = None
            task = asyncio.create_task(self._retire(retiring))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _retire(self, clients: list[AdminClient]) -> None:
        try:
            # Others still wait for its answers, and without the client none would come.
            await asyncio.sleep(self.settings.request_timeout_ms / 1000 + 1)
        finally:
            await asyncio.to_thread(clients.clear)

    async def close(self) -> None:
        """Close the connections, and drop the admin clients (their own threads end with them)."""
        raw, self._raw = self._raw, None
        if raw is not None:
            await raw.close()
        await end(self._retiring)
        if self._admin is not None:
            clients = [self._admin]
            self._admin = None
            # The last reference goes off the event loop: tearing a client down waits for its threads.
            await asyncio.to_thread(clients.clear)
