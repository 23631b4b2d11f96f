"""A Kafka for one command."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.embedded import with_kafka
from streams.errors import Unavailable
from streams.kafka.cluster import Cluster
from streams.settings import Settings, load_settings

_CONNECT_S = 3.0


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


async def require_reachable(bootstrap_servers: str) -> None:
    """See that at least one of the servers takes connections.

    Raises:
        Unavailable: none does; with the reason of the last one.
    """
    why = "it names no host:port"
    for server in bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.close()
            return
        except TimeoutError:
            why = f"no answer within {_CONNECT_S:.0f} s"
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        except ValueError:
            why = f"{server!r} is not host:port"
    raise Unavailable(f"can't reach Kafka at {bootstrap_servers}: {why} (XFERQ_BOOTSTRAP_SERVERS)")
