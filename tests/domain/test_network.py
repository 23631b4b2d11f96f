"""Networks: IPv4, IPv6, and IPv4 that looks like IPv6."""

import pytest

from streams.domain.network import is_within, parse_address, parse_network


@pytest.mark.parametrize(
    ("address", "networks", "expected"),
    [
        ("127.0.0.1", "127.0.0.0/8", True),
        ("128.0.0.1", "127.0.0.0/8", False),
        ("::1", "::1/128", True),
        ("::2", "::1/128", False),
        ("::ffff:127.0.0.1", "127.0.0.0/8", True),
        ("::ffff:7f00:1", "127.0.0.0/8", True),
        ("::ffff:10.0.0.1", "127.0.0.0/8", False),
        ("10.1.2.3", "::ffff:10.0.0.0/104", True),
        ("11.1.2.3", "::ffff:10.0.0.0/104", False),
        # Mapped addresses are addresses of IPv4 and belong to no network of IPv6, not even to all of it.
        ("::ffff:10.0.0.1", "::/0", False),
        ("2001:db8::1", "2001:db8::/32 0.0.0.0/0", True),
        ("2001:db9::1", "2001:db8::/32 0.0.0.0/0", False),
        ("192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::/10", True),
        ("127.0.0.1", "", False),
    ],
)
def test_what_is_within(address: str, networks: str, expected: bool) -> None:
    assert is_within(parse_address(address), map(parse_network, networks.split())) is expected


def test_who_is_not_known_is_nowhere() -> None:
    assert not is_within(None, [parse_network("0.0.0.0/0"), parse_network("::/0")])


@pytest.mark.parametrize(
    "text", ["", "10.0.0.1/8", "10.0.0.0/33", "::1/129", "localhost", "10.0.0.0/8,", "010.0.0.0/8"]
)
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_network(text)
