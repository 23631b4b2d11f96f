"""Request bodies: JSON in UTF-8, plain or gzip, bounded in size and time, before anything looks at them."""

import asyncio
import zlib
from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from api.problem import Problem
from streams.settings.api import ApiSettings

_DISCARDED_BYTES = 14 << 20
_GZIP = 16 + zlib.MAX_WBITS


class JsonRoute(APIRoute):
    """A route whose body, where it has one, is checked and read by this module."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, given a body that was read already."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def read_and_handle(request: Request) -> Response:
            # Where FastAPI looks for what was read before.
            request._body, request._json = await read_json(request)
            return await handle(request)

        return read_and_handle


async def read_json(request: Request) -> tuple[bytes, Any]:
    """The body as text, and the JSON value in it; within the settings' bounds on size and time.

    Raises:
        Problem: there is no such body; with what is wrong about it.
    """
    _require_json(request.headers.get("content-type"))
    encoding = _encoding(request.headers.getlist("content-encoding"))
    settings: ApiSettings = request.app.state.settings
    most = settings.api_body_bytes
    try:
        async with asyncio.timeout(settings.api_body_s):
            raw = await _read(request, most)
    except TimeoutError:
        raise Problem("too-slow", f"the body was not there after {settings.api_body_s:g} s") from None
    except ClientDisconnect:
        raise Problem("malformed-body", "the body ended before its end") from None
    text = _gunzip(raw, most) if encoding == "gzip" else raw
    try:
        return text, orjson.loads(text)
    except orjson.JSONDecodeError as error:
        where = f" (line {error.lineno}, column {error.colno})" if text else ""
        raise Problem("malformed-body", f"the body is not valid JSON in UTF-8{where}") from None


def _require_json(content_type: str | None) -> None:
    message = Message()
    message["content-type"] = content_type or ""
    charset = message.get_param("charset", "utf-8")
    if message.get_content_type() != "application/json" or not content_type:
        raise Problem("unsupported-media-type", "the content type must be application/json")
    if not isinstance(charset, str) or charset.lower() not in ("utf-8", "utf8"):
        raise Problem("unsupported-media-type", "the charset must be UTF-8")


def _encoding(values: list[str]) -> str:
    encodings = [item.strip().lower() for value in values for item in value.split(",")]
    encodings = [item for item in encodings if item not in ("", "identity")]
    if not encodings:
        return "identity"
    if encodings in (["gzip"], ["x-gzip"]):
        return "gzip"
    raise Problem(
        "unsupported-encoding", "the body must be plain or gzip", headers={"Accept-Encoding": "gzip, identity"}
    )


async def _read(request: Request, most: int) -> bytes:
    announced = request.headers.get("content-length", "")
    chunks: list[bytes] = []
    size = 0
    too_large = announced.isdigit() and int(announced) > most
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            too_large = True
            chunks.clear()
        if not too_large:
            chunks.append(chunk)
        # Some of what is too large is read all the same: a client that is still sending would see its
        # connection reset instead of the answer.
        elif size > most + _DISCARDED_BYTES:
            break
    if too_large:
        raise _too_large(most)
    return b"".join(chunks)


def _gunzip(raw: bytes, most: int) -> bytes:
    """All members of a gzip body, as long as they stay within the limit."""
    text = b""
    while raw:
        member = zlib.decompressobj(_GZIP)
        try:
            text += member.decompress(raw, most + 1 - len(text))
        except zlib.error:
            raise Problem("malformed-body", "the body is not valid gzip") from None
        if len(text) > most:
            raise _too_large(most)
        if not member.eof:
            raise Problem("malformed-body", "the gzip body ends before its end")
        raw = member.unused_data
    return text


def _too_large(most: int) -> Problem:
    return Problem("too-large", f"the body has more than {most:,} bytes")
