"""Addresses of clients, as what they do is counted by them."""

from ipaddress import ip_address, ip_network

_IPV6_NETWORK = 64
"""Bits: a subscriber has a whole /64 network, so single addresses are not worth counting."""

_NEIGHBOURS = {4: 24, 6: 48}
"""Bits of the networks that one organisation has, by the version of IP."""


def counted_address(text: str) -> str | None:
    """Return what this address is counted by: for IPv6 its network. None for what is no address, as of a unix socket."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ip_network((address, _IPV6_NETWORK), strict=False).network_address)


def counted_network(text: str) -> str | None:
    """Return the network of this address: of IPv4 /24, of IPv6 /48. None for what is no address, as of a unix socket."""
    address = counted_address(text)
    if address is None:
        return None
    version = ip_address(address).version
    return str(ip_network((address, _NEIGHBOURS[version]), strict=False))
