"""The names that a browser can ask this machine by."""

import socket
from ipaddress import ip_address

WILDCARDS = {"0.0.0.0": 4, "::": 6}  # noqa: S104  compared with, not bound to
"""The values of HOST that listen on all addresses, with the version of IP."""


def host_names(host: str) -> list[str]:
    """Return the names of a server that listens on `host`, as URLs have them.

    For a wildcard they are those of the whole machine on its networks: the addresses of its interfaces, its name, and that of
    multicast DNS (RFC 6762, section 3). Names that only a name server knows are not looked up, since that may take long.
    All are safe to answer to: DNS rebinding needs a name of the attacker's own.
    """
    version = WILDCARDS.get(host)
    if version is None:
        return [url_host(host)]
    # Only here, since the import takes 50 ms.
    import psutil

    addresses = [
        address
        for interface in psutil.net_if_addrs().values()
        for entry in interface
        if entry.family in (socket.AF_INET, socket.AF_INET6)
        # A zone, as in fe80::1%eth0, cannot be in a URL.
        and not (address := ip_address(entry.address.partition("%")[0])).is_link_local
        and not address.is_loopback
        and address.version == version
    ]
    name = socket.gethostname().partition(".")[0].lower()
    return [*map(url_host, sorted(map(str, addresses))), name, f"{name}.local"]


def url_host(host: str) -> str:
    """Return a host as URLs have it: IPv6 addresses in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]" if ":" in host else host
