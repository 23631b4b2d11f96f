"""A Kafka for one command."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.embedded import with_kafka
from streams.kafka.cluster import Cluster
from streams.kafka.reachable import require_reachable
from streams.settings.settings import Settings, load_settings


@asynccontextmanager
async def open_kafka() -> AsyncIterator[tuple[Cluster, Settings]]:
    """The cluster that the settings name, or the embedded one, and the settings with its address.

    Raises:
        Misconfigured: a setting is wrong.
        Unavailable: it can't be reached, or does not let us in. Found out here, as Kafka's clients try for a long time.
    """
    settings = with_kafka(load_settings())
    async with Cluster(settings) as kafka:
        await require_reachable(kafka.connection)
        yield kafka, settings
