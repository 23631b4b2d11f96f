"""A request's first line, in the one form that all the rest goes by."""

import re
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

_WHOLE_URL = re.compile(rb"https?://([^/]*)", re.IGNORECASE)


class ReadRequestLine:
    """HEAD is answered as GET is (RFC 9110 9.3.2), and a whole URL means its path at its host (RFC 9112 3.2.2).

    The server itself leaves out the body of an answer to HEAD. The Host header counts for nothing beside a whole URL:
    what guards this server goes by the one host that is left.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            changes: dict[str, Any] = {"method": "GET"} if scope["method"] == "HEAD" else {}
            url = _WHOLE_URL.match(scope.get("raw_path") or b"")
            if url is not None:
                path = scope["raw_path"][url.end() :] or b"/"
                headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
                changes |= {"raw_path": path, "path": unquote(path), "headers": [(b"host", url[1]), *headers]}
            scope = {**scope, **changes}
        await self._app(scope, receive, send)
