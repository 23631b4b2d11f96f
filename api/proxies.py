"""The proxies that the environment names, for the command line's way to the API.

As curl reads the variables: `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in either case, the lower one
first. What `no_proxy` lists may be a name and all below it, an address, a network, each with a port, or `*`.
"""

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPResponse
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from streams.errors import InvalidSettings

_PORTS = {"http": 80, "https": 443, "socks": 1080, "socks5": 1080, "socks5h": 1080}
_REFUSALS = ("unknown", "a failure", "not allowed", "network unreachable", "host unreachable", "connection refused")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and the variable that names it."""

    variable: str
    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str = ""

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS 5, not HTTP."""
        return self.scheme.startswith("socks")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port} ({self.variable})"


def proxy_of(scheme: str, host: str, port: int, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy by which a URL of this scheme and host is to be reached; None: it is to be reached directly.

    Raises:
        InvalidSettings: the variable names none that can be used.
    """
    if host == "localhost" or _is_loopback(host) or _is_exempt(host, port, _get(environment, "no_proxy")[1]):
        return None
    for name in (f"{scheme}_proxy", "all_proxy"):
        variable, text = _get(environment, name)
        if text:
            return _parse(variable, text)
    return None


def socks_connection(proxy: Proxy, host: str, port: int, timeout_s: float) -> socket.socket:
    """A connection to a host by way of a SOCKS 5 proxy (RFC 1928, RFC 1929), which looks its name up.

    Raises:
        OSError: there is none, or the proxy does not want to.
    """
    connection = socket.create_connection((proxy.host, proxy.port), timeout_s)
    try:
        with connection.makefile("rb") as answers:

            def ask(request: bytes, size: int) -> bytes:
                connection.sendall(request)
                answer = answers.read(size)
                if len(answer) < size or answer[0] not in (5, 1):
                    raise ConnectionError("it does not speak SOCKS 5")
                return answer

            method = ask(b"\x05\x02\x00\x02" if proxy.user is not None else b"\x05\x01\x00", 2)[1]
            if method == 2 and proxy.user is not None:
                user, password = proxy.user.encode(), proxy.password.encode()
                login = struct.pack(f"!BB{len(user)}sB{len(password)}s", 1, len(user), user, len(password), password)
                if ask(login, 2)[1] != 0:
                    raise ConnectionError("it does not accept the user and the password")
            elif method != 0:
                raise ConnectionError("it wants a user and a password")
            _, status, _, kind = ask(b"\x05\x01\x00" + _socks_address(host) + struct.pack("!H", port), 4)
            if status != 0:
                raise ConnectionError(f"it says: {_REFUSALS[status] if status < len(_REFUSALS) else status}")
            answers.read({1: 4, 4: 16}.get(kind) or answers.read(1)[0])
            answers.read(2)
    except (IndexError, struct.error) as error:
        connection.close()
        raise ConnectionError("it breaks off, or its user or password is longer than 255 bytes") from error
    except BaseException:
        connection.close()
        raise
    return connection


def tunnel_connection(proxy: Proxy, authority: str, headers: Mapping[str, str], timeout_s: float) -> socket.socket:
    """A connection to `host:port` by way of an HTTP proxy (CONNECT), with these headers for the proxy.

    Raises:
        OSError, HTTPException: there is none, or the proxy does not want to.
    """
    connection = socket.create_connection((proxy.host, proxy.port), timeout_s)
    try:
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *map(": ".join, headers.items()), "", ""]
        connection.sendall("\r\n".join(lines).encode("ascii"))
        with HTTPResponse(connection, method="CONNECT") as answer:
            answer.begin()
            if answer.status != 200:
                raise ConnectionError(f"it says: {answer.status} {answer.reason}")
    except BaseException:
        connection.close()
        raise
    return connection


def _socks_address(host: str) -> bytes:
    try:
        address = ip_address(host)
    except ValueError:
        name = host.encode("idna")
        return bytes([3, len(name)]) + name
    return (b"\x01" if address.version == 4 else b"\x04") + address.packed


def _get(environment: Mapping[str, str], name: str) -> tuple[str, str]:
    variable = name if name in environment else name.upper()
    return variable, environment.get(variable, "").strip()


def _parse(variable: str, text: str) -> Proxy:
    scheme, separator, rest = text.partition("://")
    # A proxy has no path: whatever stands before the last @ is a user and a password.
    login, at, place = (rest if separator else text).rpartition("@")
    scheme = scheme.lower() if separator else "http"
    try:
        parts = urlsplit(f"//{place}")
        if scheme in _PORTS and parts.hostname:
            user, _, password = map(unquote, login.partition(":"))
            return Proxy(variable, scheme, parts.hostname, parts.port or _PORTS[scheme], user if at else None, password)
    except ValueError:
        pass
    # Not the value: there may be a password in it.
    raise InvalidSettings(
        f"{variable} names no proxy that can be used: http://, https:// and socks5:// can. NO_PROXY names hosts "
        "that are reached without"
    )


def _is_exempt(host: str, port: int, listed: str) -> bool:
    """Whether `no_proxy` has the host."""
    host = host.lower().rstrip(".")
    for entry in listed.lower().replace(",", " ").split():
        name, only = _without_port(entry)
        if only is not None and only != port:
            continue
        domain = name.lstrip("*").strip(".")
        if name == "*" or _is_in_network(host, name) or (domain and f".{host}".endswith(f".{domain}")):
            return True
    return False


def _without_port(entry: str) -> tuple[str, int | None]:
    """A name, address or network, and the port that stands behind it."""
    if entry.startswith("["):
        inner, _, rest = entry[1:].partition("]")
        port = rest.removeprefix(":")
        return inner + (rest if rest.startswith("/") else ""), int(port) if port.isdecimal() else None
    name, _, port = entry.rpartition(":")
    return (name, int(port)) if port.isdecimal() and ":" not in name and name else (entry, None)


def _is_in_network(host: str, network: str) -> bool:
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
