"""Networks: IPv4, IPv6, and IPv4 that looks like IPv6."""

import pytest

from streams.domain.network import is_within, parse_address, parse_host, parse_network, parse_server


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


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("kafka:9092", "kafka", 9092),
        (" kafka-1.example:1 ", "kafka-1.example", 1),
        ("10.0.0.1:65535", "10.0.0.1", 65_535),
        ("[::1]:9092", "::1", 9092),
        ("[fe80::1%eth0]:9092", "fe80::1%eth0", 9092),
    ],
)
def test_a_server(text: str, host: str, port: int) -> None:
    assert parse_server(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        *("", "kafka", "kafka:", ":9092", "kafka:0", "kafka:65536", "kafka:9O92", "kafka:\u0661", "kafka:9092/x"),
        *("::1:9092", "::1", "2001:db8::1:9092", "fe80::1%eth0:9092", "[::1]", "[::1", "[kafka]:9092", "[]:9092"),
        *("PLAINTEXT://kafka:9092", "//kafka:9092", "u@kafka:9092", "a b:9092", "a\nb:9092", "kafka:9092;kafka:9093"),
    ],
)
def test_what_is_no_server(text: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        parse_server(text)


@pytest.mark.parametrize("text", ["::1:9092", "2001:db8::1:9092", "fe80::1%eth0:9092"])
def test_an_address_without_brackets_is_told_how_to_have_them(text: str) -> None:
    with pytest.raises(ValueError, match=r"an IPv6 address is in brackets: \[::1\]:9092"):
        parse_server(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Xfer.Example", "xfer.example"),
        ("api", "api"),
        ("my_host.", "my_host."),
        ("xn--mller-kva.example", "xn--mller-kva.example"),
        ("10.0.0.1", "10.0.0.1"),
        ("[2001:DB8:0:0::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
    ],
)
def test_a_host(text: str, host: str) -> None:
    assert parse_host(text) == host
    assert parse_host(host) == host


@pytest.mark.parametrize(
    "text",
    [
        *("", "http://xfer.example", "xfer.example:8000", "[::1]:8000", "xfer.example/", "*.example", "a b", "a..b"),
        *(
            "m\u00fcller.example",
            "-a",
            "a-",
            "x" * 64,
            "a." * 127 + "a",
            "10.0.0.256",
            "1.2.3",
            "user@xfer",
            "xfer,api",
        ),
    ],
)
def test_what_no_request_could_ask_for(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no host: write a name|is not how a browser asks"):
        parse_host(text)
