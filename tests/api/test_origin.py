"""Where a request comes from: proxies are believed where they are ours, and nobody else is."""

import pytest

from api.address import is_own_host
from api.origin import origin_of
from streams.domain.network import parse_network

PROXIES = "10.0.0.0/8 ::1"


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        # No proxy: the peer itself, if it speaks for nobody else.
        ("203.0.113.9", [], "203.0.113.9"),
        ("::ffff:203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["127.0.0.1"], None),
        ("127.0.0.1", ["127.0.0.1"], None),
        # A proxy: whom it names, however much stands to the left.
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["127.0.0.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["127.0.0.1", "203.0.113.9"], "203.0.113.9"),
        ("::ffff:10.0.0.1", ["2001:db8::9"], "2001:db8::9"),
        ("::1", ["::ffff:127.0.0.1"], "127.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::9]:4711"], "2001:db8::9"),
        # Proxies behind proxies.
        ("10.0.0.1", ["127.0.0.1, 203.0.113.9, 10.0.0.2,10.0.0.3"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.7, 10.0.0.2"], "10.0.0.7"),
        # A proxy that doesn't say for whom, or rubbish: nobody.
        ("10.0.0.1", [], None),
        ("10.0.0.1", [""], None),
        ("10.0.0.1", ["127.0.0.1, unknown"], None),
        ("10.0.0.1", ["127.0.0.1, "], None),
        ("10.0.0.1", ["127.0.0.1, unknown, 10.0.0.2"], None),
        ("10.0.0.1", ["127.0.0.1, [::1"], None),
        # No address at all, as on a socket in the file system.
        (None, [], None),
        ("/run/socket", [], None),
    ],
)
def test_where_a_request_comes_from(peer: str | None, forwarded: list[str], expected: str | None) -> None:
    scope = {
        "type": "http",
        "client": None if peer is None else (peer, 1),
        "headers": [(b"x-forwarded-for", line.encode()) for line in forwarded],
    }
    found = origin_of(scope, [parse_network(text) for text in PROXIES.split()])
    assert (None if found is None else str(found)) == expected


def test_another_way_to_say_it_was_forwarded() -> None:
    scope = {"type": "http", "client": ("127.0.0.1", 1), "headers": [(b"forwarded", b"for=127.0.0.1")]}
    assert origin_of(scope, []) is None


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("xfer.example", True),
        ("XFER.example:8000", True),
        ("192.0.2.7", True),
        ("[2001:DB8:0::7]:80", True),
        ("localhost", True),
        ("evil.example", False),
        ("xfer.example.evil.example", False),
        ("192.0.2.8", False),
        ("", False),
    ],
)
def test_names_of_this_machine(host: str, expected: bool) -> None:
    assert is_own_host(host, ["Xfer.Example", "192.0.2.7", "2001:db8::7", ""]) is expected
