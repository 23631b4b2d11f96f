"""The command line's HTTP: proxies of every form that the environment may name, and what is no URL."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat

import pytest
import trustme

from api import client as client_module
from api import transport as transport_module
from api.client import ApiClient
from api.proxies import proxy_of
from api.transport import Answer, NoAnswer, NoAnswerInTime, NotReached, Transport
from streams.errors import InvalidSettings, Unavailable
from tests.support.patience import WAIT_S


class Server(ThreadingHTTPServer):
    """An API, or an HTTP proxy, that answers with what it was asked."""

    daemon_threads = True
    to: tuple[str, int] = ("", 0)
    """Where CONNECT leads, whatever it names."""
    asked: list[str]
    """What it named, and the Host header."""


class Echo(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        text = (
            f"{self.path} {self.headers['Host']} {self.headers['Proxy-Authorization']} {self.headers['Authorization']}"
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_CONNECT(self) -> None:
        if self.headers["Proxy-Authorization"] is None:
            self.send_error(407)
            return
        self.server.asked.append(f"{self.path} {self.headers['Host']}")
        self.send_response(200)
        self.end_headers()
        joined(self.connection, self.server.to)

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def served(
    tls: ssl.SSLContext | None = None, to: tuple[str, int] = ("", 0), asked: list[str] | None = None
) -> Iterator[int]:
    """The port of a server."""
    with Server(("127.0.0.1", 0), Echo) as server:
        server.to, server.asked = to, [] if asked is None else asked
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def joined(client: socket.socket, to: tuple[str, int]) -> None:
    """Carry bytes between the two until both have ended."""
    with socket.create_connection(to, WAIT_S) as other:

        def carry(a: socket.socket, b: socket.socket) -> None:
            try:
                while data := a.recv(4096):
                    b.sendall(data)
                b.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        back = threading.Thread(target=carry, args=(other, client), daemon=True)
        back.start()
        carry(client, other)
        back.join(WAIT_S)


@contextmanager
def socks(to: tuple[str, int], login: bytes | None = None, refusal: int = 0) -> Iterator[tuple[int, list[bytes]]]:
    """The port of a SOCKS 5 proxy that always leads to the same server, and whom it was asked for."""
    asked: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, client.makefile("rb") as reader:
                methods = reader.read(reader.read(2)[1])
                wanted = 0 if login is None else 2
                client.sendall(bytes([5, wanted if wanted in methods else 255]))
                if wanted not in methods:
                    continue
                if login is not None:
                    user = reader.read(reader.read(2)[1])
                    is_right = user + b":" + reader.read(reader.read(1)[0]) == login
                    client.sendall(b"\x01\x00" if is_right else b"\x01\x01")
                kind = reader.read(4)[3:]
                if kind:
                    asked.append(reader.read({1: 4, 4: 16}.get(kind[0]) or reader.read(1)[0]))
                    reader.read(2)
                    client.sendall(bytes([5, refusal, 0, 1]) + b"\x00" * 6)
                    if not refusal:
                        joined(client, to)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1], asked
        listener.shutdown(socket.SHUT_RDWR)


def get(url: str, environment: dict[str, str], tls: ssl.SSLContext | None = None) -> Answer:
    transport = Transport(url, tls=tls, environment=environment)
    return transport.exchange("GET", "/x", query={"a": "\u00fc"}, connect_s=WAIT_S, timeout_s=WAIT_S)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def secured(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("api.example", "127.0.0.1", "2001:db8::1", "b\u00fccher.example").configure_cert(context)
    return context


# ---- by which way


def test_directly(secured: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    with served() as port, served(secured) as safe:
        env = {"http_proxy": "http://127.0.0.1:1", "all_proxy": "http://127.0.0.1:1"}  # never to this machine
        assert get(f"http://u:p%40@127.0.0.1:{port}/b%C3%BC/", env).body.decode() == (
            f"/b%C3%BC/x?a=%C3%BC 127.0.0.1:{port} None Basic dTpwQA=="
        )
        assert get(f"https://127.0.0.1:{safe}", env, trusting).status == 200


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_an_http_proxy(name: str) -> None:
    with served() as port:
        for value in (f"http://me:w%40rd@127.0.0.1:{port}", f"me:w%40rd@127.0.0.1:{port}/"):
            said = get("http://api.example:80/b", {name: value}).body.decode()
            assert said == "http://api.example:80/b/x?a=%C3%BC api.example:80 Basic bWU6d0ByZA== None"


def test_tls_through_an_http_proxy(secured: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    with served(secured) as safe, served(to=("127.0.0.1", safe)) as port:
        env = {"https_proxy": f"http://me:word@127.0.0.1:{port}", "http_proxy": "http://127.0.0.1:1"}
        # The proxy's password is the proxy's alone.
        assert get("https://api.example", env, trusting).body.decode() == "/x?a=%C3%BC api.example None None"
        with pytest.raises(NotReached, match="407"):
            get("https://api.example", {"https_proxy": f"http://127.0.0.1:{port}"}, trusting)
        with pytest.raises(NotReached, match="CERTIFICATE_VERIFY_FAILED"):
            get("https://other.example", env, trusting)


@pytest.mark.parametrize(
    ("host", "named"),
    [("[2001:db8::1]", "[2001:db8::1]"), ("b\u00fccher.example", "xn--bcher-kva.example"), ("192.0.2.7", None)],
)
def test_whom_an_http_proxy_is_asked_for(
    host: str, named: str | None, secured: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    asked: list[str] = []
    with served(secured) as safe, served(to=("127.0.0.1", safe), asked=asked) as port:
        env = {"https_proxy": f"http://me:word@127.0.0.1:{port}", "http_proxy": f"http://me:word@127.0.0.1:{port}"}
        if named is None:
            with pytest.raises(NotReached, match="CERTIFICATE_VERIFY_FAILED"):
                get(f"https://{host}", env, trusting)
            return
        assert get(f"https://{host}", env, trusting).body.decode() == f"/x?a=%C3%BC {named} None None"
        assert asked == [f"{named}:443 {named}:443"]
        said = get(f"http://{host}:8000", env).body.decode()
        assert said.startswith(f"http://{named}:8000/x?a=%C3%BC {named}")


@pytest.mark.parametrize("password", ["p/w", "1/2", "p@w", "p:w", "p%2Fw"])
def test_whatever_a_proxy_s_password_is_made_of(password: str) -> None:
    proxy = proxy_of("http", "api.example", 80, {"http_proxy": f"http://me:{password}@proxy.example:3128/"})
    assert proxy is not None
    assert (proxy.host, proxy.port, proxy.user) == ("proxy.example", 3128, "me")
    assert proxy.password == password.replace("%2F", "/")


# ---- what an answer may take


@contextmanager
def answering(pieces: Iterator[bytes]) -> Iterator[int]:
    """The port of a server that answers one request with these pieces."""

    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client, suppress(OSError):
            client.recv(65_536)
            for piece in pieces:
                client.sendall(piece)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,), daemon=True)
        server.start()
        yield listener.getsockname()[1]
        server.join(WAIT_S)
        assert not server.is_alive(), "nobody has ended the connection"


def dribbled(head: bytes, is_over: threading.Event) -> Iterator[bytes]:
    """A byte every now and then, for ever: each comes in time."""
    yield head
    while not is_over.wait(0.02):
        yield b"x"


@pytest.mark.parametrize(
    "head",
    [b"", b"HTTP/1.1 200 OK\r\nX-", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"],
)
def test_an_answer_that_dribbles_ends(head: bytes) -> None:
    is_over = threading.Event()
    with answering(dribbled(head, is_over)) as port:
        transport = Transport(f"http://127.0.0.1:{port}", environment={})
        with pytest.raises(NoAnswerInTime):
            transport.exchange("GET", "/x", connect_s=WAIT_S, timeout_s=0.3)
        is_over.set()


@pytest.mark.parametrize("length", [b"", b"Content-Length: 99999999999\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_an_answer_that_is_too_large(length: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "_MOST_BYTES", 1 << 20)
    piece = b"x" * 65_536
    piece = b"10000\r\n" + piece + b"\r\n" if b"chunked" in length else piece
    with answering(chain([b"HTTP/1.1 200 OK\r\n" + length + b"\r\n"], repeat(piece))) as port:
        transport = Transport(f"http://127.0.0.1:{port}", environment={})
        with pytest.raises(NoAnswer, match="its answer is larger than 1 MiB"):
            transport.exchange("GET", "/x", connect_s=WAIT_S, timeout_s=WAIT_S)


def test_an_answer_that_breaks_off() -> None:
    with answering(iter([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"12345"])) as port:
        transport = Transport(f"http://127.0.0.1:{port}", environment={})
        with pytest.raises(NoAnswer, match="IncompleteRead"):
            transport.exchange("GET", "/x", connect_s=WAIT_S, timeout_s=WAIT_S)


def test_a_wait_ends_in_time_although_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_LEAST_S", 0.1)
    is_over = threading.Event()
    with answering(dribbled(b"", is_over)) as port, ApiClient(f"http://127.0.0.1:{port}") as client:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            client.wait("c", timeout_s=0.2)
        is_over.set()
    with ApiClient("http://127.0.0.1:1") as client, pytest.raises(Unavailable, match="can't reach the api"):
        client.wait("c", timeout_s=0.2)
    assert time.monotonic() - began < client_module._PATIENCE_S


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks"])
def test_a_socks_proxy(scheme: str, secured: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    with served() as port, socks(("127.0.0.1", port), b"me:w@rd") as (proxy, asked):
        env = {"ALL_PROXY": f"{scheme}://me:w%40rd@127.0.0.1:{proxy}"}
        assert get("http://api.example", env).body.decode() == "/x?a=%C3%BC api.example None None"
        assert get("http://192.0.2.7", env).status == get("http://[2001:db8::1]", env).status == 200
        assert asked == [b"api.example", bytes([192, 0, 2, 7]), b"\x20\x01\x0d\xb8" + b"\0" * 11 + b"\x01"]
        for login, what in (("me:no@", "does not accept"), ("", "wants a user and a password")):
            with pytest.raises(NotReached, match=what):
                get("http://api.example", {"ALL_PROXY": f"{scheme}://{login}127.0.0.1:{proxy}"})
    with served(secured) as safe, socks(("127.0.0.1", safe)) as (proxy, _):
        assert get("https://api.example", {"all_proxy": f"{scheme}://127.0.0.1:{proxy}"}, trusting).status == 200


def test_a_socks_proxy_that_does_not_want_to() -> None:
    with socks(("", 0), refusal=5) as (proxy, _), pytest.raises(NotReached, match="connection refused"):
        get("http://api.example", {"all_proxy": f"socks5://127.0.0.1:{proxy}"})


def test_what_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@127.0.0.1:1")
    with pytest.raises(Unavailable) as caught:
        ApiClient("http://api.example").status("x")
    assert "by way of the proxy socks5://127.0.0.1:1 (ALL_PROXY)" in str(caught.value)
    assert "XFERQ_API_URL" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["socks4://127.0.0.1:1", "ftp://x", "http://", "http://h:99999", "http://[", "h:me@x:p"]
)
def test_what_is_no_proxy_is_said_without_its_password(value: str) -> None:
    with pytest.raises(InvalidSettings, match=r"^HTTP_PROXY names no proxy") as caught:
        Transport("http://api.example", environment={"HTTP_PROXY": value})
    assert "h:" not in str(caught.value)
    assert Transport("http://api.example", environment={"HTTP_PROXY": value, "NO_PROXY": "api.example"}).proxy is None


def test_tls_to_a_proxy_serves_plain_http_only() -> None:
    env = {"all_proxy": "https://proxy.example"}
    assert Transport("http://api.example", environment=env).proxy is not None
    with pytest.raises(InvalidSettings, match="all_proxy"):
        Transport("https://api.example", environment=env)


@pytest.mark.parametrize(
    ("no_proxy", "host", "is_exempt"),
    [
        ("", "api.example", False),
        ("*", "api.example", True),
        ("api.example", "api.example", True),
        ("example", "api.example", True),
        (".example", "API.example.", True),
        ("*.example", "api.example", True),
        ("pi.example", "api.example", False),
        ("other, api.example ,", "api.example", True),
        ("other api.example", "api.example", True),
        ("api.example:8000", "api.example", True),
        ("api.example:80", "api.example", False),
        ("fd00::/8", "api.example", False),
        ("fd00::/8", "fd12::1", True),
        ("[fd00::]/8", "fd12::1", True),
        ("[fd12::1]", "fd12::1", True),
        ("[fd12::1]:8000", "fd12::1", True),
        ("[fd12::1]:80", "fd12::1", False),
        ("fd12:0::1", "fd12::1", True),
        ("localhost,127.0.0.1,[::1]", "api.example", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.1.2.3/8", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:8000", "10.1.2.3", True),
        ("10.0.0.0/99,[,:,::,]", "10.1.2.3", False),
    ],
)
def test_what_no_proxy_lists(no_proxy: str, host: str, is_exempt: bool) -> None:
    env = {"http_proxy": "http://proxy.example", "no_proxy": no_proxy}
    assert (proxy_of("http", host, 8000, env) is None) is is_exempt


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_this_machine_is_never_reached_by_a_proxy(host: str) -> None:
    assert proxy_of("http", host, 80, {"http_proxy": "http://proxy.example"}) is None


# ---- what is no URL


@pytest.mark.parametrize(
    "url", ["", "x", "//h", "ftp://h", "http://", "http://[", "http://h:x", "http://h:70000", "http://a..b"]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(Unavailable, match="XFERQ_API_URL"):
        ApiClient(url)
