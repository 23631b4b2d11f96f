"""Where the API listens, and by which names it may be asked there."""

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from streams.domain.network import parse_address
from streams.errors import InvalidSettings
from streams.settings.api import ApiSettings

DEFAULT_HOST = "127.0.0.1"


def require_guarded(settings: ApiSettings) -> None:
    """See that only this machine can reach the API, or that others have a way to say who they are, and in secret.

    Raises:
        InvalidSettings: it is not so; the message names the settings.
    """
    host = settings.api_listen_host
    if is_loopback(host):
        return
    trusts_others = not all(network.is_loopback for network in settings.api_trusted_hosts)
    if not (settings.api_users_file or settings.api_tls_client_ca or trusts_others):
        raise InvalidSettings(
            f"refusing to listen on {host}: nobody but this machine could use the API there. XFERQ_API_USERS_FILE, "
            "XFERQ_API_TLS_CLIENT_CA or XFERQ_API_TRUSTED_HOSTS let others in; --unprotected lets everybody in, who "
            "can move all mail then"
        )
    if settings.api_users_file and not settings.api_tls_cert and not settings.api_trusted_proxies:
        raise InvalidSettings(
            f"refusing to listen on {host}: passwords would cross the network in plain text. XFERQ_API_TLS_CERT and "
            "XFERQ_API_TLS_KEY make it TLS; where a proxy does, name that in XFERQ_API_TRUSTED_PROXIES. --unprotected "
            "asks for no password, and lets everybody in"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address, or all that the name stands for."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host else []
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(entry[4][0]).is_loopback for entry in found)


def url_host(host: str) -> str:
    """The host of a URL by which this machine reaches a server that listens on this address or name."""
    try:
        address = ipaddress.ip_address(host or "0.0.0.0")  # noqa: S104 - looked at, not listened on
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return host if address.version == 4 else f"[{host}]"


def is_own_host(header: str, names: Collection[str] = ()) -> bool:
    """Whether a Host header names this machine as `names` do, or by itself; never by asking what a name stands for.

    A page from elsewhere whose name was made to stand for 127.0.0.1 (DNS rebinding) still sends that name.
    """
    own = {name.lower() for name in names if name}
    try:
        host = urlsplit(f"//{header}").hostname or ""
        if host == "localhost" or host.endswith(".localhost") or host in own:
            return True
        address = parse_address(host)
    except ValueError:
        return False
    return address.is_loopback or str(address) in own
