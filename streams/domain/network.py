"""Networks and addresses: which belongs to which, whatever form IPv4 comes in."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

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
