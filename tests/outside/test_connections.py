"""Clients that dribble, stall, talk rubbish or come in a thousand: others are served, and nothing of them stays."""

import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from itertools import chain, repeat
from pathlib import Path

import httpx
import pytest

from api.connection import raise_file_limit
from streams.settings.settings import load_settings
from tests.api.processes import ApiProcess, environment
from tests.api.running import CANCEL
from tests.outside.conftest import NO_KAFKA
from tests.outside.wire import GET, WAIT_S, Address, post, serving

SETTINGS = load_settings(bootstrap_servers="127.0.0.1:1")
CROWD = 1_000


@pytest.fixture
async def hasty() -> AsyncIterator[Address]:
    """An API of little patience: half a second for a head, one for a body, one and a half for an answer."""
    patience = {"api_head_s": 0.5, "api_body_s": 1.0, "api_read_s": 1.5}
    async with serving(SETTINGS.model_copy(update=patience)) as address:
        yield address


# ---- slow


async def test_a_head_that_dribbles_is_cut_off(hasty: Address) -> None:
    (answer,) = await hasty.exchange(*(bytes([byte]) for byte in post(b"{}")), pause_s=0.02)
    assert (answer.status, answer.problem["type"]) == (408, "/docs#too-slow")
    assert dict(answer.headers)["connection"] == "close"


async def test_a_connection_on_which_nothing_comes_is_cut_off(hasty: Address) -> None:
    (answer,) = await hasty.exchange()
    assert answer.status == 408


async def test_a_second_head_that_dribbles_is_cut_off(hasty: Address) -> None:
    first, second = await hasty.exchange(GET, *(bytes([byte]) for byte in GET), pause_s=0.05)
    assert (first.status, second.status) == (200, 408)


async def test_a_body_that_dribbles_is_cut_off(hasty: Address) -> None:
    (answer,) = await hasty.exchange(post(b"", length=1_000), *repeat(b" ", 500), pause_s=0.02)
    assert (answer.status, answer.problem["type"]) == (408, "/docs#too-slow")


async def test_a_body_that_nobody_waits_for_any_more_is_cut_off(hasty: Address) -> None:
    """Answered long ago: uvicorn would go on reading as long as something comes."""
    request = post(b"", length=1_000).replace(b"application/json", b"text/plain")
    (answer,) = await hasty.exchange(request, *repeat(b" ", 900), pause_s=0.02)
    assert answer.status == 415
    assert hasty.unsent > 0


async def test_an_answer_that_nobody_reads_is_given_up(hasty: Address) -> None:
    before = files_of(os.getpid())
    reader, writer = await hasty.connect()
    transport = writer.transport
    transport.pause_reading()  # type: ignore[attr-defined]
    documentation = b"GET /docs HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    try:
        # As many answers as no buffer between us holds.
        for _ in range(2_000):
            writer.write(documentation)
        async with asyncio.timeout(WAIT_S):
            while files_of(os.getpid()) > before + 1:  # the server's end is in this process, too
                await asyncio.sleep(0.05)
    finally:
        transport.abort()
    assert not reader.at_eof()


async def test_while_many_dribble_others_are_served(tmp_path: Path) -> None:
    """As the process does it, with the time-out that it was given."""
    head_s = 2.0
    with ApiProcess(environment(NO_KAFKA | {"XFERQ_API_HEAD_S": str(head_s)}, tmp_path)) as server:
        await _many_dribble(Address(server.url), server.url, head_s)


async def _many_dribble(address: Address, url: str, head_s: float) -> None:
    started = time.monotonic()
    slow = [
        asyncio.create_task(address.exchange(*chain([b"GET / HTTP/1.1\r\n"], repeat(b"X", 200)), pause_s=0.1))
        for _ in range(100)
    ]
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=WAIT_S) as client:
        while not all(task.done() for task in slow):
            assert (await client.get("/livez")).status_code == 200
            await asyncio.sleep(0.2)
    assert {answer.status for task in slow for answer in task.result()} == {408}
    assert time.monotonic() - started >= head_s


# ---- many


async def test_a_thousand_connections_at_once(server: ApiProcess) -> None:
    raise_file_limit(SETTINGS.api_connections)  # for this process's ends of them
    address = Address(server.url)
    before = files_of(server.pid)
    started = time.monotonic()
    crowd = await asyncio.gather(*(address.connect() for _ in range(CROWD)))
    try:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=WAIT_S) as client:
            assert (await client.get("/livez")).status_code == 200
            assert (await client.get(CANCEL)).status_code == 503  # there is no Kafka
        assert files_of(server.pid) > before + CROWD // 2
        for _, writer in crowd:  # and all of them, at once
            writer.write(GET)
        is_slow = time.monotonic() - started > SETTINGS.api_head_s / 2  # on such a day some are cut off before
        heads = await asyncio.gather(*(reader.readuntil(b"\r\n\r\n") for reader, _ in crowd))
        assert {head.split(b" ")[1] for head in heads} <= ({b"200", b"408"} if is_slow else {b"200"})
    finally:
        for _, writer in crowd:
            writer.close()
    async with asyncio.timeout(WAIT_S):
        while files_of(server.pid) > before + 5:  # others of this test's may be on their way
            await asyncio.sleep(0.05)
    assert "Traceback" not in "".join(server.log)


def test_as_many_files_as_there_may_be_connections() -> None:
    """Where the system gives a process a thousand files, as most do, and lets it have more."""
    program = (
        "import resource as r; from api.connection import *; "
        "r.setrlimit(r.RLIMIT_NOFILE, (1024, r.getrlimit(r.RLIMIT_NOFILE)[1])); "
        "few = max_connections(2048); raise_file_limit(2048); print(few, max_connections(2048))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    few, many = map(int, result.stdout.split())
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert few == 1024 - 128
    assert many == (2048 if hard == resource.RLIM_INFINITY else min(2048, hard - 128))


async def test_beyond_the_most_connections_the_idlest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.connection.max_connections", lambda _: 5)
    async with serving(SETTINGS) as address:
        busy_reader, busy = await address.connect()
        busy.write(post(b"{", length=5))  # oldest of all, but at work
        await asyncio.sleep(0.1)
        idle = [await address.connect() for _ in range(4)]
        (answer,) = await address.exchange(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert answer.status == 200
        assert await idle[0][0].read() == b""
        assert not any(reader.at_eof() for reader, _ in idle[1:])
        busy.write(b'"a":}')
        assert (await busy_reader.readuntil(b"\r\n\r\n")).split(b" ")[1] == b"400"
        for _, writer in [*idle, (busy_reader, busy)]:
            writer.close()


async def test_more_requests_than_are_worked_on_are_turned_away() -> None:
    async with serving(SETTINGS.model_copy(update={"api_requests": 3})) as address:
        held = [await address.connect() for _ in range(3)]
        for _, writer in held:
            writer.write(post(b"{", length=2))
        await asyncio.sleep(0.2)
        (answer,) = await address.exchange(post(b"{}", more=["Connection: close"]))
        assert (answer.status, answer.problem["type"]) == (503, "/docs#busy")
        assert int(dict(answer.headers)["retry-after"]) >= 1
        (answer,) = await address.exchange(post(b"{}", more=["X-Forwarded-For: 203.0.113.9", "Connection: close"]))
        assert answer.status == 401  # whom it doesn't know takes no place, and learns nothing of them
        (answer,) = await address.exchange(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert answer.status == 200
        for reader, writer in held:
            writer.write(b"}")
            assert (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1] == b"422"
            writer.close()


# ---- large


@pytest.mark.parametrize("most", [2_000, 64 << 10])
async def test_a_large_head_in_one_piece(most: int) -> None:
    """h11 itself looks only while a head grows, and takes one of any size that comes in a single read."""
    async with serving(SETTINGS.model_copy(update={"api_head_bytes": most})) as address:
        for size, status in ((most - 200, 200), (most + 1, 400)):
            for raw in (
                GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\nX: " + b"y" * size + b"\r\n\r\n"),
                GET.replace(b"/livez", b"/livez?" + b"y" * size).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
            ):
                (answer,) = await address.exchange(raw)
                assert answer.status == status
        assert answer.problem["type"] == "/docs#malformed-request"


async def test_a_body_is_as_large_as_a_setting_says() -> None:
    async with serving(SETTINGS.model_copy(update={"api_body_bytes": 1_000})) as address:
        for size, status in ((1_000, 422), (1_001, 413)):
            body = b'{"a":"' + b"y" * (size - 8) + b'"}'
            (answer,) = await address.exchange(post(body, more=["Connection: close"]))
            assert answer.status == status
        assert "1,000" in answer.problem["detail"]


# ---- rubbish


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: localhost\r\n\r\n",
        b"GET /livez\x00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\x00b\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX : y\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1, 2\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 1_000_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 200_000 + b"\r\n",
        b"\r\n" * 500_000,
        b"\n",
    ],
)
async def test_what_is_no_http_gets_a_problem(server: ApiProcess, raw: bytes) -> None:
    answer = (await Address(server.url).exchange(raw, close=True))[-1]
    assert (answer.status, answer.problem["type"]) == (400, "/docs#malformed-request")
    assert dict(answer.headers)["connection"] == "close"


async def test_what_is_no_http_or_wants_another_protocol_fills_no_log(server: ApiProcess) -> None:
    before = len(server.log)
    upgrade = b"Connection: Upgrade\r\nUpgrade: %b\r\n\r\n"
    for raw in (
        b"rubbish\r\n\r\n",
        *(GET.replace(b"\r\n\r\n", b"\r\n" + upgrade % to) for to in (b"websocket", b"h2c")),
    ):
        assert await Address(server.url).exchange(raw, close=True)
    await asyncio.sleep(0.3)  # until what it says is here
    assert [line for line in server.log[before:] if " api." not in line] == []


@pytest.mark.parametrize("after", [b"rubbish\r\n\r\n", b"\x00" * 100, b"GET"])
async def test_rubbish_after_a_request_is_not_taken_for_one(server: ApiProcess, after: bytes) -> None:
    first, *more = await Address(server.url).exchange(GET + after, close=True)
    assert first.status == 200
    assert [answer.status for answer in more] in ([], [400])


async def test_chunks_that_are_none(server: ApiProcess) -> None:
    """While the body is read, and after it was answered already."""
    address = Address(server.url)
    head = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    (answer,) = await address.exchange(head + b"5\r\nab", b"xyz!\r\n", b"rubbish\r\n\r\n", pause_s=0.1, close=True)
    assert answer.status == 400
    text = head.replace(b"application/json", b"text/plain")
    answers = await address.exchange(text + b"5\r\n", b"rubbish\r\n\r\n", pause_s=0.1, close=True)
    assert [answer.status for answer in answers] in ([415], [400])  # whichever comes first
    assert "Traceback" not in "".join(server.log)


async def test_one_length_and_another(server: ApiProcess) -> None:
    """What a proxy might read otherwise than we do, to smuggle a request past it, is one request or none."""
    body = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    for more in (["Transfer-Encoding: chunked"], ["Content-Length: 3"], ["Transfer-Encoding: chunked, identity"]):
        for path in (CANCEL, "/livez"):
            answers = await Address(server.url).exchange(post(body, path=path, more=more), close=True)
            assert [answer.status for answer in answers] in ([400], [501]), more


# ---- hosts


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "[::", "@", ""]
)
async def test_a_page_that_was_made_to_stand_for_this_machine(server: ApiProcess, host: str) -> None:
    """DNS rebinding: for the browser all of this is one and the same site, but it still says whose."""
    raw = post(b"{}", more=["Connection: close"]).replace(b"127.0.0.1", host.encode())
    (answer,) = await Address(server.url).exchange(raw)
    assert (answer.status, answer.problem["type"]) == (421, "/docs#wrong-host")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1:80", "localhost", "LOCALHOST:1", "x.localhost", "[::1]:80"])
async def test_the_names_of_this_machine(server: ApiProcess, host: str) -> None:
    raw = post(b"{}", more=["Connection: close"]).replace(b"127.0.0.1", host.encode())
    (answer,) = await Address(server.url).exchange(raw)
    assert answer.status == 422


# ---- the request's first line


def a_get(target: str, *, method: str = "GET", host: str = "127.0.0.1") -> bytes:
    """A request without a body, the last one of its connection."""
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


@pytest.mark.parametrize("path", ["/livez", "/docs", f"{CANCEL}?limit=1", "/metrics"])
async def test_a_whole_url_is_its_path(server: ApiProcess, path: str) -> None:
    address = Address(server.url)
    (answer,) = await address.exchange(a_get(path))
    for host in ("http://127.0.0.1:8000", "HTTP://localhost", "https://[::1]:1"):
        (whole,) = await address.exchange(a_get(host + path))
        assert whole.status == answer.status
    (found,) = await address.exchange(a_get("http://localhost"))
    assert (found.status, dict(found.headers)["location"]) == (307, "/docs")


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "10.0.0.1", "evil.example@evil.example"]
)
async def test_the_host_of_a_whole_url_is_the_one_that_counts(server: ApiProcess, host: str) -> None:
    (answer,) = await Address(server.url).exchange(a_get(f"http://{host}/docs", host="localhost"))
    assert (answer.status, answer.problem["type"]) == (421, "/docs#wrong-host")
    (answer,) = await Address(server.url).exchange(a_get("http://localhost/docs", host="evil.example"))
    assert answer.status == 200


async def test_head_has_the_head_of_get_and_no_body(server: ApiProcess) -> None:
    address = Address(server.url)
    for path in ("/livez", "/docs", "/nope"):
        (got,) = await address.exchange(a_get(path))
        (headed,) = await address.exchange(a_get(path, method="HEAD"))
        names = ("content-length", "content-type")
        assert headed.status == got.status
        assert [dict(headed.headers)[name] for name in names] == [dict(got.headers)[name] for name in names]
        assert headed.body == b""


@pytest.mark.parametrize("path", ["/livez", "/docs"])
async def test_a_get_with_the_body_of_kcli(server: ApiProcess, path: str) -> None:
    request = a_get(path).replace(b"\r\n\r\n", b"\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\nnull")
    request = request.replace(b"Connection: close\r\n", b"")
    answers = await Address(server.url).exchange(request, request, close=True)
    assert [answer.status for answer in answers] == [200, 200]


def files_of(pid: int) -> int:
    """How many files a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
