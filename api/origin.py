"""Where a request comes from: the other end of its connection, or the one that a trusted proxy names."""

from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from streams.domain.network import Address, Network, is_within, parse_address


def peer_of(scope: Scope) -> Address | None:
    """The address of the other end of the request's connection; None where it has none."""
    client = scope.get("client")
    try:
        return parse_address(client[0]) if client else None
    except ValueError:
        return None


def origin_of(scope: Scope, proxies: Sequence[Network]) -> Address | None:
    """The address that a request really comes from; None where that is not known for sure.

    X-Forwarded-For counts where a trusted proxy has written it, and of it only what trusted proxies have written:
    the rest, to the left, is what the client itself has sent.
    """
    headers = Headers(scope=scope)
    forwarded = headers.getlist("x-forwarded-for")
    peer = peer_of(scope)
    if not is_within(peer, proxies):
        # Through a proxy that nobody has named all would look like neighbours of this machine.
        return None if forwarded or "forwarded" in headers else peer
    found = None
    for hop in reversed(list(_hops(forwarded))):
        found = _address_in(hop)
        if not is_within(found, proxies):
            break
    return found


def _hops(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        yield from line.split(",")


def _address_in(hop: str) -> Address | None:
    """The address in a hop, which may come with a port."""
    try:
        return parse_address(hop.strip())
    except ValueError:
        pass
    try:
        return parse_address(urlsplit(f"//{hop.strip()}").hostname or "")
    except ValueError:
        return None
