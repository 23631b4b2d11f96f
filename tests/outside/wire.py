"""HTTP by hand: bytes on a connection, as no well-behaved client would send them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import orjson
import uvicorn

from api.app import create_app
from api.server import connection_config, listen
from streams.settings.settings import Settings
from tests.api.running import CANCEL
from tests.support.patience import WAIT_S


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response, taken apart; headers in their order, names in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The problem in it, having seen that it is one."""
        assert dict(self.headers)["content-type"] == "application/problem+json", self
        problem: dict[str, Any] = orjson.loads(self.body)
        assert problem["status"] == self.status
        return problem


def parsed(raw: bytes) -> list[Answer]:
    """All responses in what came over a connection; each must say its length, or be the last one."""
    found = []
    while raw:
        head, separator, raw = raw.partition(b"\r\n\r\n")
        assert separator, head
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ")
        assert version == "HTTP/1.1", first
        headers = tuple((name.lower(), value) for name, _, value in (line.partition(": ") for line in lines))
        assert all(name for name, _ in headers), lines
        length = int(dict(headers).get("content-length", len(raw)))
        found.append(Answer(int(status), headers, raw[:length]))
        raw = raw[length:]
    return found


def post(body: bytes, *, path: str = CANCEL, length: int | None = None, more: Sequence[str] = ()) -> bytes:
    """A request with a body, of which the head says that it is `length` bytes long."""
    size = len(body) if length is None else length
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {size}",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


GET = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Address:
    """Where a server listens."""

    def __init__(self, url: str) -> None:
        self.host, _, port = url.removeprefix("http://").partition(":")
        self.port = int(port)
        self.unsent = 0
        """How many parts of the last exchange the server did not wait for."""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection."""
        return await asyncio.open_connection(self.host, self.port)

    async def exchange(self, *parts: bytes, pause_s: float = 0.0, close: bool = False) -> list[Answer]:
        """Send the parts with pauses between them, and read until the server closes the connection.

        Args:
            close: close our side once all is sent.
        """
        reader, writer = await self.connect()
        try:
            async with asyncio.timeout(WAIT_S):
                reading = asyncio.create_task(_all_of(reader))
                self.unsent = len(parts)
                for part in parts:
                    if reading.done():
                        break
                    writer.write(part)
                    try:
                        await writer.drain()
                    except ConnectionError:
                        break
                    self.unsent -= 1
                    await asyncio.sleep(pause_s)
                if close:
                    with suppress(OSError):  # closed already
                        writer.write_eof()
                return parsed(await reading)
        finally:
            writer.close()


async def _all_of(reader: asyncio.StreamReader) -> bytes:
    """What comes until the end, however that comes about."""
    raw = b""
    try:
        while part := await reader.read(1 << 16):
            raw += part
    except ConnectionError:
        pass
    return raw


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Address]:
    """The API within the test's process but on a real socket, so that its time-outs can be shortened."""
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(connection_config(create_app(settings), settings))
    task = asyncio.create_task(server._serve(sockets=[listener]))
    try:
        while not server.started:
            await asyncio.sleep(0.01)
        yield Address("http://{}:{}".format(*listener.getsockname()[:2]))
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, WAIT_S)
        listener.close()
