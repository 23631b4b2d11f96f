"""Where the API listens: on loopback, as long as it has no access control."""

import ipaddress
import socket

from streams.errors import Misconfigured

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000


def require_loopback(host: str) -> None:
    """See that only this machine can reach the address.

    Raises:
        Misconfigured: others can.
    """
    if not is_loopback(host):
        raise Misconfigured(
            f"refusing to listen on {host}: the API has no access control yet, so whoever reaches it can move all "
            "mail. Keep it on 127.0.0.1, or, where something else guards it, add --unprotected"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address, or all that the name stands for."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host else []
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(entry[4][0]).is_loopback for entry in found)
