"""Requests to one HTTP server, and what it answers; with Python's own HTTP client, which starts in no time."""

import json
import os
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from api.proxies import Proxy, proxy_of, socks_connection, tunnel_connection
from streams.errors import InvalidSettings

_PORTS = {"http": 80, "https": 443}
_MOST_BYTES = 64 << 20
"""Of an answer: a thousand statuses have a few."""


class NotReached(OSError):
    """There is no connection, so nothing was asked; the cause says why."""


class NoAnswer(Exception):
    """It may have been asked, and there is no answer that is HTTP."""


class NoAnswerInTime(NoAnswer):
    """It did not answer in time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answers."""

    status: int
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether its status is one of 200 to 299."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(self.body)


class Transport:
    """The way to one server: a connection for each request."""

    def __init__(
        self,
        url: str,
        *,
        user: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: of the server; a path in it goes before all others.
            user: a user and the password; None: those in the URL, if there are any.
            tls: None: as the system does it.
            environment: whose variables name proxies.

        Raises:
            ValueError: the URL is none.
            InvalidSettings: the environment names a proxy that can't be used.
        """
        parts = urlsplit(url)
        if parts.scheme not in _PORTS:
            raise ValueError("it must begin with http:// or https://")
        if not parts.hostname:
            raise ValueError("it has no host")
        self._scheme, self._host = parts.scheme, parts.hostname
        self._name = f"[{self._host}]" if ":" in self._host else self._host.encode("idna").decode()
        self._port = parts.port or _PORTS[parts.scheme]
        self._path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
        self._tls = tls
        self.proxy = proxy_of(self._scheme, self._host, self._port, environment)
        if self.proxy is not None and self.proxy.scheme == self._scheme == "https":
            raise InvalidSettings(f"{self.proxy} can't be used for https: it has to be one of http:// or socks5://")
        if user is None and parts.username is not None:
            user = (unquote(parts.username), unquote(parts.password or ""))
        self._headers = {} if user is None else {"Authorization": _basic(*user)}

    def exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        connect_s: float,
        timeout_s: float,
    ) -> Answer:
        """Ask, and wait for the answer.

        Args:
            body: what is sent as JSON; None: nothing.
            timeout_s: for the whole answer, from the request on.

        Raises:
            NotReached: nothing was asked.
            NoAnswer: it may have been.
            UnicodeError, ValueError: something of it can't be sent.
        """
        target = self._path + path + (f"?{urlencode(query)}" if query else "")
        more = {**self._headers, "Connection": "close", **(headers or {})}
        data = None
        if body is not None:
            data = json.dumps(body, ensure_ascii=False).encode()
            more["Content-Type"] = "application/json"
        proxy = self.proxy
        if proxy is not None and not proxy.is_socks and self._scheme == "http":
            target = f"http://{self._name}:{self._port}{target}"
            more |= _login(proxy)
        with closing(self._connect(connect_s)) as connection:
            try:
                with _within(timeout_s, connection.sock):
                    connection.request(method, target, data, more)
                    answer = connection.getresponse()
                    return Answer(answer.status, _body(answer))
            except TimeoutError as error:
                raise NoAnswerInTime from error
            except (OSError, HTTPException) as error:
                raise NoAnswer(str(error) or type(error).__name__) from error

    def _connect(self, timeout_s: float) -> HTTPConnection:
        proxy = self.proxy
        by_tunnel = proxy is not None and (proxy.is_socks or self._scheme == "https")
        if proxy is None or by_tunnel:
            scheme, host, port = self._scheme, self._host, self._port
        else:
            scheme, host, port = proxy.scheme, proxy.host, proxy.port
        connection = (
            HTTPSConnection(host, port, timeout=timeout_s, context=self._context())
            if scheme == "https"
            else HTTPConnection(host, port, timeout=timeout_s)
        )
        try:
            if proxy is not None and by_tunnel:
                connection.sock = self._tunnel(proxy, timeout_s)
            else:
                connection.connect()
        except (OSError, HTTPException) as error:
            connection.close()
            raise NotReached(str(error)) from error
        return connection

    def _tunnel(self, proxy: Proxy, timeout_s: float) -> socket.socket:
        """Not `http.client`'s own: Python 3.11 names an address without brackets there, and no name beyond ASCII."""
        if proxy.is_socks:
            tunnel = socks_connection(proxy, self._host, self._port, timeout_s)
        else:
            tunnel = tunnel_connection(proxy, f"{self._name}:{self._port}", _login(proxy), timeout_s)
        return tunnel if self._scheme == "http" else self._context().wrap_socket(tunnel, server_hostname=self._host)

    def _context(self) -> ssl.SSLContext:
        return self._tls or ssl.create_default_context()


def _login(proxy: Proxy) -> dict[str, str]:
    return {} if proxy.user is None else {"Proxy-Authorization": _basic(proxy.user, proxy.password)}


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@contextmanager
def _within(timeout_s: float, connection: socket.socket) -> Iterator[None]:
    """End the connection after this time, and with it what the block does: each single byte may come in time.

    Raises:
        TimeoutError: it has ended so.
    """
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not TLS's, which is another thread's at work

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    timer.start()
    try:
        connection.settimeout(None)
        yield
    except (OSError, HTTPException) as error:
        if is_late.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
    if is_late.is_set():  # what has no length ends with its connection
        raise TimeoutError


def _body(answer: HTTPResponse) -> bytes:
    length = answer.length
    body = answer.read(_MOST_BYTES + 1) if length is None else answer.read() if length <= _MOST_BYTES else None
    if body is None or len(body) > _MOST_BYTES:
        raise HTTPException(f"its answer is larger than {_MOST_BYTES >> 20} MiB")
    return body
