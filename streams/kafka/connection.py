"""How every client of ours reaches Kafka: one place for addresses, time-outs and names."""

import asyncio
import socket
from typing import Any

from confluent_kafka.admin import AdminClient

from streams.settings import Settings


class Connection:
    """Makes the arguments of aiokafka's clients, and holds the one admin client, kept warm."""

    def __init__(self, settings: Settings, bootstrap_servers: str | None = None) -> None:
        self.settings = settings
        self.bootstrap_servers = bootstrap_servers or settings.bootstrap_servers
        self._admin: AdminClient | None = None

    def client(self, purpose: str) -> dict[str, Any]:
        """Arguments that all aiokafka clients share; `purpose` ends up in the brokers' logs."""
        return {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": f"xferq-{purpose}@{socket.gethostname()}",
            "request_timeout_ms": self.settings.request_timeout_ms,
            "retry_backoff_ms": 20,
            "metadata_max_age_ms": 60_000,
        }

    @property
    def admin(self) -> AdminClient:
        """confluent-kafka's admin client: it knows topic ids, stable offsets and groups of both protocols."""
        if self._admin is None:
            self._admin = AdminClient(
                {
                    "bootstrap.servers": self.bootstrap_servers,
                    "client.id": f"xferq-admin@{socket.gethostname()}",
                    "socket.timeout.ms": self.settings.request_timeout_ms,
                    "socket.connection.setup.timeout.ms": 5_000,
                    "reconnect.backoff.max.ms": 1_000,
                    "log_level": 2,
                }
            )
        return self._admin

    async def close(self) -> None:
        """Drop the admin client (its own thread ends with it)."""
        admin, self._admin = self._admin, None
        if admin is not None:
            await asyncio.to_thread(_drop, admin)


def _drop(admin: AdminClient) -> None:
    """The last reference goes here, off the event loop: tearing the client down waits for its threads."""
    del admin
