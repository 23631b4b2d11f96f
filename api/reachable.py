"""Whether Kafka takes connections at all: Kafka's own clients try for a long time before they say so."""

import asyncio
import os

from streams.errors import Unavailable

_CONNECT_S = 3.0


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
