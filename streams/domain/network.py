"""Networks, addresses and hosts: which belongs to which, and how they are written."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,254}}\Z){_LABEL}(?:\.{_LABEL})*\.?")
_PORTS = range(1, 65_536)
_MAPPED = IPv6Network("::ffff:0:0/96")


def parse_address(text: str) -> Address:
    """An address; one of IPv4 that was written as IPv6 (`::ffff:192.0.2.1`) is that of IPv4.

    Raises:
        ValueError: it is none.
    """
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def parse_network(text: str) -> Network:
    """A network in CIDR notation, or a single address; one of mapped IPv4 addresses is that of IPv4.

    Raises:
        ValueError: it is none, or has bits behind its prefix: its author meant another one.
    """
    network = ip_network(text.strip())
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def is_within(address: Address | None, networks: Iterable[Network]) -> bool:
    """Whether an address belongs to one of the networks; one that is not known does not."""
    return address is not None and any(address in network for network in networks)


def parse_server(text: str) -> tuple[str, int]:
    """Host and port of `host:port`; an address of IPv6 is in brackets, as Kafka's own clients differ on it without.

    Raises:
        ValueError: it is none, with what is wrong.
    """
    text = text.strip()
    host, _, port = text.rpartition(":")
    wrong = f"{text!r} is not host:port"
    if not (port.isascii() and port.isdigit() and int(port) in _PORTS):
        raise ValueError(wrong)
    if host.startswith("[") and host.endswith("]"):
        try:
            IPv6Address(host[1:-1])
        except ValueError:
            raise ValueError(wrong) from None
        return host[1:-1], int(port)
    if ":" in host and "/" not in host:
        raise ValueError(f"{wrong}; an IPv6 address is in brackets: [::1]:9092")
    if not host.isprintable() or not host or any(letter in " /@[]:" for letter in host):
        raise ValueError(wrong)
    return host, int(port)


def parse_host(text: str) -> str:
    """A host as a browser's Host header has it, without its port: a name in lower case, or an address.

    Raises:
        ValueError: no request could name it so.
    """
    host = text.strip().lower()
    try:
        return str(parse_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host))
    except ValueError:
        pass
    if not host.isascii():
        raise ValueError(f"{text!r} is not how a browser asks for it: write its ASCII form, xn--...")
    if _NAME.fullmatch(host) is None or host.rstrip(".").rpartition(".")[2].isdigit():
        raise ValueError(f"{text!r} is no host: write a name or an address, without scheme, port, path or wildcard")
    return host
