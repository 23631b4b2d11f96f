"""What a request says: its body, which is JSON in UTF-8, plain or gzip, bounded in size and time; and no unknown name.

A misspelt name is refused before anything looks at the values: `tennant` would select every queue.
"""

import asyncio
import zlib
from collections.abc import Callable, Collection, Coroutine
from email.message import Message
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from api.problem import Problem, invalid
from streams.domain.fields import OWN_PREFIX, FieldTwice, counted, first_twice, read_json, unknown
from streams.settings.api import ApiSettings

_DISCARDED_BYTES = 14 << 20
_GZIP = 16 + zlib.MAX_WBITS


class CheckedRoute(APIRoute):
    """A route whose query, and body where it has one, are checked and read by this module."""

    @property
    def body_fields(self) -> Collection[str]:
        """The names of what the body may have."""
        model = self.body_field.field_info.annotation if self.body_field is not None else None
        return model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else ()

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, given a body that was read already."""
        handle = super().get_route_handler()
        body_fields = None if self.body_field is None else self.body_fields
        query_fields = [field.alias for field in self.dependant.query_params]

        async def read_and_handle(request: Request) -> Response:
            _check_query(request, query_fields)
            if body_fields is not None:
                text, value = await read_body(request)
                if type(value) is dict:
                    value = counted(value, body_fields)
                    if _is_lax(request):
                        value = {name: value[name] for name in body_fields if name in value}
                # Where FastAPI looks for what was read before.
                request._body, request._json = text, value
            return await handle(request)

        return read_and_handle


def _is_lax(request: Request) -> bool:
    settings: ApiSettings = request.app.state.settings
    return settings.api_unknown_fields == "ignore"


def _check_query(request: Request, known: Collection[str]) -> None:
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known and not name.startswith(OWN_PREFIX) and not _is_lax(request):
            raise invalid("query", name, unknown(name, known, "parameter"))
    if (twice := first_twice(name for name in names if name in known)) is not None:
        raise invalid("query", twice, f"{twice} is there twice")


async def read_body(request: Request) -> tuple[bytes, Any]:
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
        return text, read_json(text)
    except FieldTwice as error:
        raise invalid("body", error.name, str(error)) from None
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
