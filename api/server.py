"""The API as a process: one listening socket, on loopback unless somebody insists, and a clean end."""

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn

from api.address import DEFAULT_HOST, DEFAULT_PORT, require_loopback
from api.app import create_app
from streams.errors import Misconfigured
from streams.logs import set_up_logging
from streams.settings import Settings

_log = logging.getLogger(__name__)
_MAX_CONNECTIONS = 512
_KEEP_ALIVE_S = 5
_STOP_S = 5


def serve(settings: Settings, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT, *, unprotected: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; the exit status.

    Args:
        port: 0 for a free one, which the log then names.
        unprotected: permit a host that others can reach.
    """
    set_up_logging()
    try:
        listener = listen(host, port, unprotected=unprotected)
    except Misconfigured as error:
        print(f"xferq api: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"xferq api: can't listen on {host} port {port}: {error.strerror}. --host and --port name others.",
            file=sys.stderr,
        )
        return 1
    with listener:
        asyncio.run(_serve(settings, listener))
    return 0


def listen(host: str, port: int, *, unprotected: bool = False) -> socket.socket:
    """A listening socket.

    Raises:
        Misconfigured: others could reach it, and that was not asked for.
        OSError: the address can't be had.
    """
    if not unprotected:
        require_loopback(host)
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.create_server(address[:2], family=family, backlog=256)
    listener.setblocking(False)
    return listener


class _Server(uvicorn.Server):
    """uvicorn's server, which here leaves signals alone: it would raise them again after a clean end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(settings: Settings, listener: socket.socket) -> None:
    config = uvicorn.Config(
        create_app(settings),
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who asks stands in the status: nobody may make that up
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_STOP_S,
    )
    server = _Server(config)

    def stop() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    _log.info("api.listening url=%s", url_of(listener))
    await server.serve(sockets=[listener])
    _log.info("api.stopped")


def url_of(listener: socket.socket) -> str:
    """Where a listening socket is reached from this machine."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
