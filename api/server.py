"""The API as a process: one listening socket, on loopback unless others have a way in, and a clean end."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from api.address import require_guarded, url_host
from api.app import create_app
from api.connection import Connection, ConnectionConfig, raise_file_limit
from api.tls import server_context
from streams.settings.settings import Settings
from streams.telemetry.logs import complain, set_up_logging

_log = logging.getLogger(__name__)
_KEEP_ALIVE_S = 5
_STOP_S = 5
_TICK_S = 1.0
_SHUTDOWN_S = 2.0


def serve(settings: Settings, *, unprotected: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; the exit status.

    Args:
        unprotected: let everybody in, whatever else the settings say.

    Raises:
        InvalidSettings: it would not be guarded, or a file that guards it can't be used.
    """
    set_up_logging(settings.log_level, settings.log_format)
    raise_file_limit(settings.api_connections)
    if not unprotected:
        require_guarded(settings)
    config = connection_config(create_app(settings, unprotected=unprotected), settings)
    host, port = settings.api_listen_host, settings.api_listen_port
    try:
        listener = listen(host, port)
    except OSError as error:
        complain("xferq api", f"can't listen on {host} port {port}: {error.strerror}. --host and --port name others.")
        return 1
    gc.freeze()  # modules, routes and models stay: the collector need not look at them for each hundred requests
    with listener, asyncio.Runner(loop_factory=lambda: _Loop(settings.api_head_s)) as runner:
        runner.run(_serve(config, listener))
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 for a free one.

    Raises:
        OSError: the address can't be had.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.create_server(address[:2], family=family, backlog=256)
    # For all connections of it. asyncio would do so, but not where a socket does not name its protocol: without it the
    # second part of an answer waits for the client's receipt of the first one, which takes 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)
    return listener


class _Loop(asyncio.SelectorEventLoop):
    """asyncio's loop, whose servers don't wait long for a client's part of TLS: by default it is a minute."""

    def __init__(self, patience_s: float) -> None:
        super().__init__()
        self._patience_s = patience_s

    async def create_server(self, *args: Any, **more: Any) -> asyncio.Server:
        """As asyncio's."""
        if more.get("ssl") is not None:
            more |= {"ssl_handshake_timeout": self._patience_s, "ssl_shutdown_timeout": _SHUTDOWN_S}
        return await super().create_server(*args, **more)


class _Server(uvicorn.Server):
    """uvicorn's server, which here leaves signals alone: it would raise them again after a clean end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End, once what is being answered is."""
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        """Look at the clock, which answers tell the date by, once a second; uvicorn's own wakes up ten times for it."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._stopping.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def connection_config(app: FastAPI, settings: Settings) -> ConnectionConfig:
    """How uvicorn is to serve the app.

    Raises:
        InvalidSettings: the certificate, its key or the authority of clients can't be used.
    """
    context = server_context(settings)
    return ConnectionConfig(
        app,
        settings,
        http=Connection,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who asks stands in the status: nobody may make that up
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_STOP_S,
        ssl_context_factory=None if context is None else lambda *_: context,
    )


async def _serve(config: ConnectionConfig, listener: socket.socket) -> None:
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    # Its warnings are of what clients send, a line each without its name: any client could fill the log.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    _log.info("api.listening url=%s", url_of(listener, is_tls=config.is_ssl))
    await server.serve(sockets=[listener])
    _log.info("api.stopped")


def url_of(listener: socket.socket, *, is_tls: bool = False) -> str:
    """Where a listening socket is reached from this machine."""
    host, port = listener.getsockname()[:2]
    return f"{'https' if is_tls else 'http'}://{url_host(host)}:{port}"
