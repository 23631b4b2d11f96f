"""A worker's own port: /livez, /readyz and /metrics, on loopback unless a setting says otherwise.

It has a thread of its own: so it answers, and says so, also when the event loop does not turn any more.
"""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from streams.errors import Misconfigured
from streams.telemetry.exposition import readable_accept
from streams.telemetry.health import Health
from streams.telemetry.metrics import REGISTRIES

_HUNG_S = 30.0
"""An event loop that has not turned for so long won't again."""
_AT_ONCE = 16
"""Connections that are served side by side; for one more, the oldest goes. Nobody needs more to watch a worker."""
_ROOM_S = 1.0
"""How long the oldest one may take to go."""
_HOST = re.compile("^https?://[^/]*", re.IGNORECASE)
"""The beginning of a whole URL in a request's first line (RFC 9112 3.2.2)."""
_Start = Callable[[str, list[tuple[str, str]]], Any]


class Probes:
    """What is asked from outside; `turn` it from the event loop, every second or so."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._turned = time.monotonic()
        self._metrics = make_wsgi_app(REGISTRIES["worker"])

    def turn(self) -> None:
        """The event loop turns."""
        self._turned = time.monotonic()

    def __call__(self, environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
        """The WSGI application: HEAD is answered as GET is, without the body, and a whole URL as its path."""
        is_head = environ.get("REQUEST_METHOD") == "HEAD"
        path = _HOST.sub("", environ.get("PATH_INFO", ""), count=1) or "/"
        begun: list[tuple[str, list[tuple[str, str]]]] = []
        asked = environ | {"PATH_INFO": path} | ({"REQUEST_METHOD": "GET"} if is_head else {})
        content = b"".join(self._answer(asked, lambda status, headers: begun.append((status, headers))))
        ((status, headers),) = begun
        start(status, [*headers, ("Content-Length", str(len(content)))])
        return [] if is_head else [content]

    def _answer(self, environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            accept = readable_accept(environ.get("HTTP_ACCEPT", ""))
            metrics: Iterable[bytes] = self._metrics(environ | {"HTTP_ACCEPT": accept}, start)
            return metrics
        if path not in ("/livez", "/readyz"):
            return _answer(start, "404 Not Found", {"title": "Not found", "status": 404})
        still_s = time.monotonic() - self._turned
        problem = f"the event loop stands still for {still_s:.0f} s" if still_s > _HUNG_S else None
        if path == "/readyz":
            problem = problem or self._health.problem()
        if problem is None:
            notes = self._health.noted if path == "/readyz" else []
            body: dict[str, Any] = {"status": "ok", "notes": notes} if notes else {"status": "ok"}
            return _answer(start, "200 OK", body)
        return _answer(start, "503 Service Unavailable", {"title": "Not available", "status": 503, "detail": problem})


def _answer(start: _Start, status: str, body: dict[str, Any]) -> Iterable[bytes]:
    kind = "application/json" if status.startswith("200") else "application/problem+json"
    start(status, [("Content-Type", kind)])
    return [json.dumps(body).encode() + b"\n"]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, family: socket.AddressFamily, address: tuple[str, int]) -> None:
        self.address_family = family
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._served: dict[Any, None] = {}  # the oldest first
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """As the base does it, which also looks up the host's name: with all addresses, that may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread; where there is none left, in that of the oldest connection.

        A client that holds connections, with a byte now and then, keeps no other out: Kubernetes would end the worker.
        """
        if not self._slots.acquire(blocking=False):
            self._cut_oldest()
            if not self._slots.acquire(timeout=_ROOM_S):
                self.shutdown_request(request)
                return
        self._served[request] = None
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no more threads
            self._served.pop(request, None)
            self._slots.release()
            raise

    def _cut_oldest(self) -> None:
        oldest = next(iter(list(self._served)), None)
        if oldest is not None:
            with suppress(OSError):  # it has gone meanwhile
                oldest.shutdown(socket.SHUT_RDWR)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._served.pop(request, None)
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """No traceback for a client that went away."""


class _Handler(WSGIRequestHandler):
    timeout = 5  # of a client that connects and says nothing

    def log_message(self, format: str, *args: Any) -> None:
        """No line per request."""


def serve_probes(probes: Probes, host: str, port: int) -> Callable[[], None]:
    """Answer on this address until the process ends, or what is returned is called.

    Raises:
        Misconfigured: it can't be listened on.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise Misconfigured(f"XFERQ_METRICS_HOST: {host} is no address: {error.strerror}") from error
    try:
        server = _Server(family, (str(address[0]), port))
    except OSError as error:
        message = f"port {port} on {host} (XFERQ_METRICS_HOST) can't be listened on: {error.strerror}"
        raise Misconfigured(f"XFERQ_METRICS_PORT: {message}") from error
    server.set_app(probes)
    threading.Thread(target=server.serve_forever, daemon=True, name="probes").start()

    def close() -> None:
        server.shutdown()
        server.server_close()

    return close
