"""A span for each request for a command, from a client that may ask: part of the trace that the request names."""

from opentelemetry.trace import SpanKind
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.commands import ENDPOINTS
from streams.domain.trace import trace_of
from streams.telemetry.traces import COMMAND_ID, fail, span

_PATHS = frozenset(endpoint.path for endpoint in ENDPOINTS.values())
_ID_HEADER = b"x-command-id"
_FAILED = 500


class TracePosts:
    """Traces what posts a command. To be put inside of what asks who it is: those who may not leave no trace."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in _PATHS:
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        attributes = {
            "http.request.method": "POST",
            "http.route": path,
            "url.path": path,
            "url.scheme": scope["scheme"],
        }
        parent = trace_of((name.decode("latin-1"), value) for name, value in scope["headers"])
        with span(f"POST {path}", SpanKind.SERVER, attributes, parent) as request:

            async def watch(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    request.set_attribute("http.response.status_code", status)
                    for name, value in message.get("headers", ()):
                        if name == _ID_HEADER:
                            request.set_attribute(COMMAND_ID, value.decode("latin-1"))
                    if status >= _FAILED:
                        fail(request, str(status))
                await send(message)

            await self._app(scope, receive, watch)
