"""The API as a process: what a real connection sees, where it listens, how it ends."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from api.address import is_loopback
from api.app import create_app
from api.server import listen
from streams.settings.settings import Settings
from tests.api.processes import ApiProcess, environment, xferq
from tests.api.running import CANCEL, JSON, MAX_BODY_BYTES, problem_of, running
from tests.support.patience import WAIT_S

NO_KAFKA = {"XFERQ_BOOTSTRAP_SERVERS": "127.0.0.1:1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """An API without Kafka."""
    with ApiProcess(environment(NO_KAFKA, tmp_path_factory.mktemp("home"))) as running:
        yield running


@pytest.fixture
def client(server: ApiProcess) -> Iterator[httpx.Client]:
    """A client of it."""
    with httpx.Client(base_url=server.url, trust_env=False, timeout=WAIT_S) as client:
        yield client


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 8 << 20])
def test_a_body_that_is_too_large_gets_its_answer(client: httpx.Client, size: int) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(size // 65536 + 1):
            yield b" " * 65536

    # Not a reset connection, though the client is still sending when it is clear.
    problem_of(client.post(CANCEL, content=b" " * size, headers=JSON), 413, "too-large")
    problem_of(client.post(CANCEL, content=chunks(), headers=JSON), 413, "too-large")
    assert client.get("/livez").status_code == 200


def test_a_client_that_gives_up_harms_nobody(server: ApiProcess, client: httpx.Client) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    for sent in (b"POST", b"\x16\x03\x01\x00\xff" * 20, b"GET / HTTP/1.1\r\nHost"):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(sent)
    request = f"POST {CANCEL} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(request.encode())
    assert client.get("/livez").status_code == 200
    assert "Traceback" not in "".join(server.log)


async def test_a_body_that_does_not_come() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    settings = Settings(bootstrap_servers="127.0.0.1:1", api_body_s=0.05)
    async with running(create_app(settings), is_ready=False) as client:
        problem_of(await client.post(CANCEL, content=body(), headers=JSON), 408, "too-slow")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_it_is_told_to(tmp_path: Path, number: signal.Signals) -> None:
    with ApiProcess(environment(NO_KAFKA, tmp_path)) as server:
        with httpx.Client(trust_env=False) as client:
            assert client.get(f"{server.url}/livez").status_code == 200  # kept alive, and no reason to wait
            assert server.end(number) == 0
        with pytest.raises(httpx.ConnectError), httpx.Client(trust_env=False) as client:
            client.get(f"{server.url}/livez")


def test_the_port_is_taken(server: ApiProcess, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    result = xferq("api", "--port", port, env=environment(NO_KAFKA, tmp_path), status=1)
    assert f"127.0.0.1 port {port}" in result.stderr
    assert "--port" in result.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "nobody.invalid"])  # noqa: S104
def test_others_are_not_let_in(tmp_path: Path, host: str) -> None:
    result = xferq("api", "--port", "0", "--host", host, env=environment(NO_KAFKA, tmp_path), status=2)
    assert "--unprotected" in result.stderr


def test_others_are_let_in_where_somebody_says_so(tmp_path: Path) -> None:
    env = environment(NO_KAFKA, tmp_path)
    options = ["--host", "0.0.0.0", "--unprotected"]  # noqa: S104
    with ApiProcess(env, *options) as server, httpx.Client(trust_env=False) as client:
        assert client.get(f"{server.url}/livez").status_code == 200


def test_no_part_of_an_answer_waits_for_the_receipt_of_another() -> None:
    """Head and body are two writes: with Nagle's algorithm the second one waits 40 ms for the client's receipt."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_what_is_loopback() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "", "a.invalid", "x" * 300))  # noqa: S104
