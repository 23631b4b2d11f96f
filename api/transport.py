"""Requests to one HTTP server, and what it answers; with Python's own HTTP client, which starts in no time."""

import json
import os
import ssl
from base64 import b64encode
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from api.proxies import Proxy, proxy_of, socks_connection
from streams.errors import InvalidSettings

_PORTS = {"http": 80, "https": 443}


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
        self._host.encode("idna")
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
            host = f"[{self._host}]" if ":" in self._host else self._host.encode("idna").decode()
            target = f"http://{host}:{self._port}{target}"
            more |= _login(proxy)
        with closing(self._connect(connect_s)) as connection:
            try:
                if connection.sock is not None:
                    connection.sock.settimeout(timeout_s)
                connection.request(method, target, data, more)
                answer = connection.getresponse()
                return Answer(answer.status, answer.read())
            except TimeoutError as error:
                raise NoAnswerInTime from error
            except (OSError, HTTPException) as error:
                raise NoAnswer(str(error) or type(error).__name__) from error

    def _connect(self, timeout_s: float) -> HTTPConnection:
        proxy = self.proxy
        connection = self._connection(timeout_s)
        try:
            if proxy is not None and proxy.is_socks:
                connection.sock = socks_connection(proxy, self._host, self._port, timeout_s)
                if isinstance(connection, HTTPSConnection):
                    connection.sock = self._context().wrap_socket(connection.sock, server_hostname=self._host)
            else:
                connection.connect()
        except (OSError, HTTPException) as error:
            connection.close()
            raise NotReached(str(error)) from error
        return connection

    def _connection(self, timeout_s: float) -> HTTPConnection:
        proxy = self.proxy
        if proxy is None or proxy.is_socks:
            if self._scheme == "http":
                return HTTPConnection(self._host, self._port, timeout=timeout_s)
            return HTTPSConnection(self._host, self._port, timeout=timeout_s, context=self._context())
        if self._scheme == "https":
            connection = HTTPSConnection(proxy.host, proxy.port, timeout=timeout_s, context=self._context())
            connection.set_tunnel(self._host, self._port, _login(proxy))
            return connection
        kind = HTTPSConnection if proxy.scheme == "https" else HTTPConnection
        return kind(proxy.host, proxy.port, timeout=timeout_s)

    def _context(self) -> ssl.SSLContext:
        return self._tls or ssl.create_default_context()


def _login(proxy: Proxy) -> dict[str, str]:
    return {} if proxy.user is None else {"Proxy-Authorization": _basic(proxy.user, proxy.password)}


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()
