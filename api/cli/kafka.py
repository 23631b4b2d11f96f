"""A Kafka for one command."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.embedded import with_kafka
from api.reachable import require_reachable
from streams.kafka.cluster import Cluster
from streams.settings import Settings, load_settings


@asynccontextmanager
async def open_kafka() -> AsyncIterator[tuple[Cluster, Settings]]:
    """The cluster that the settings name, or the embedded one, and the settings with its address.

    Raises:
        Unavailable: it can't be reached. Found out here, as Kafka's clients try for a long time.
    """
    settings = with_kafka(load_settings())
    await require_reachable(settings.bootstrap_servers)
    async with Cluster(settings) as kafka:
        yield kafka, settings
