"""A worker's own port: /livez, /readyz and /metrics, on 127.0.0.1.

In a thread of its own: it answers, and says so, also when the event loop does not turn any more.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from streams.errors import Misconfigured
from streams.health import Health

_HUNG_S = 30.0
"""An event loop that has not turned for so long won't again."""
_Start = Callable[[str, list[tuple[str, str]]], Any]


class Probes:
    """What is asked from outside; `turn` it from the event loop, every second or so."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._turned = time.monotonic()
        self._metrics = make_wsgi_app()

    def turn(self) -> None:
        """The event loop turns."""
        self._turned = time.monotonic()

    def __call__(self, environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
        """The WSGI application."""
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            metrics: Iterable[bytes] = self._metrics(environ, start)
            return metrics
        if path not in ("/livez", "/readyz"):
            return _answer(start, "404 Not Found", {"title": "Not found", "status": 404})
        still_s = time.monotonic() - self._turned
        problem = f"the event loop stands still for {still_s:.0f} s" if still_s > _HUNG_S else None
        if path == "/readyz":
            problem = problem or self._health.problem()
        if problem is None:
            return _answer(start, "200 OK", {"status": "ok"})
        return _answer(start, "503 Service Unavailable", {"title": "Not available", "status": 503, "detail": problem})


def _answer(start: _Start, status: str, body: dict[str, Any]) -> Iterable[bytes]:
    kind = "application/json" if status.startswith("200") else "application/problem+json"
    content = json.dumps(body).encode() + b"\n"
    start(status, [("Content-Type", kind), ("Content-Length", str(len(content)))])
    return [content]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = 5  # of a client that connects and says nothing

    def log_message(self, format: str, *args: Any) -> None:
        """No line per request."""


def serve_probes(probes: Probes, port: int) -> None:
    """Answer on 127.0.0.1 for as long as the process lives.

    Raises:
        Misconfigured: the port can't be listened on.
    """
    try:
        server = make_server("127.0.0.1", port, probes, server_class=_Server, handler_class=_Handler)
    except OSError as error:
        raise Misconfigured(f"XFERQ_METRICS_PORT: port {port} can't be listened on: {error}") from error
    threading.Thread(target=server.serve_forever, daemon=True, name="probes").start()
