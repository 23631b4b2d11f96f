"""What a request may be, and how many of those that are let in there may be, before anybody looks at what it asks."""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from api.problem import Problem, answer, shown
from streams.telemetry.logs import printable

_CONTROL = re.compile("[\\x00-\\x1f\\x7f]")
_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})
_LINE_BYTES = 4
"""Of a header's line, besides its name and value."""


class LimitRequests:
    """Turns requests away while there are too many at work; not those that ask whether the server lives."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/livez":
            await self._app(scope, receive, send)
            return
        if self._at_work >= self._most:
            await answer(Problem("busy", f"{self._most} requests are at work"))(scope, receive, send)
            return
        self._at_work += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._at_work -= 1


class LimitHeads:
    """Refuses what is too large a head: h11 itself only looks while one grows, not where it comes in one piece.

    And one that says its body's length in two ways: a proxy that goes by the other one would take what is for the
    API another request for a part of this one, with headers in it that only the proxy may write.
    """

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if {name for name, _ in scope["headers"]} >= _LENGTHS:
                problem = Problem(
                    "malformed-request", "the body's length is said in two ways", headers={"Connection": "close"}
                )
                await answer(problem)(scope, receive, send)
                return
            size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
            size += sum(len(name) + len(value) + _LINE_BYTES for name, value in scope["headers"])
            if size > self._most_bytes:
                problem = Problem("malformed-request", f"the request's head has more than {self._most_bytes:,} bytes")
                await answer(problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class RefuseControls:
    """No path of the API has a control character; Starlette would take one with a line feed at its end for the API's.

    Whatever guards this server from others goes by the path, too: it must not mean more than it seems to.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _CONTROL.search(scope["path"]):
            path = shown(printable(scope["path"]))
            await answer(Problem("not-found", f"there is nothing at {path}"))(scope, receive, send)
            return
        await self._app(scope, receive, send)
