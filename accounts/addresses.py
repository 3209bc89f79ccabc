"""Addresses of clients, as what they do is counted by them."""

from ipaddress import ip_address, ip_network

_IPV6_NETWORK = 64
"""Bits: a subscriber has a whole /64 network, so single addresses are not worth counting."""


def counted_address(text: str) -> str | None:
    """Return what this address is counted by: for IPv6 its network. None for what is no address, as of a unix socket."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ip_network((address, _IPV6_NETWORK), strict=False).network_address)
