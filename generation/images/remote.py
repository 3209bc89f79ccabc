"""Fetch a picture from a user's URL without giving the user access to this machine's network (no SSRF).

A host name is resolved once, all its addresses are checked, and the connection goes to a checked address; so a later answer
of the name server has no effect. Each redirect is checked like the URL itself. No proxy, cookie or credential of this machine
is used. Remaining risk: a public address of this machine counts as public.
"""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from ssl import SSLContext
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore2

MAX_REDIRECTS = 3
MAX_URL_LENGTH = 4000
"""Longest URL in characters, also of a redirect. Signed URLs are long."""

MAX_ADDRESSES = 4
"""Number of addresses of a name that are tried."""

_PORTS = {"http": 80, "https": 443}
_MIN_OTHER_PORT = 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_URL = re.compile(rf"[!-~]{{1,{MAX_URL_LENGTH}}}")
_AUTHORITY = re.compile(r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]{1,254}))(?::(?P<port>[0-9]{1,5})?)?", re.I)
_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)+[a-z0-9-]{1,63}", re.I)
# Resolvers read all of these as IPv4 addresses: 127.1, 2130706433, 0x7f.1, 0177.0.0.1.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.I)

_IPV6_UNICAST = ip_network("2000::/3")
"""The addresses that IANA assigns for the public internet; none of the mapped, compatible and NAT64 addresses."""

_NOT_PUBLIC = tuple(
    ip_network(block)
    for block in (
        "100.64.0.0/10",  # carrier-grade NAT
        "168.63.129.16/32",  # Azure's platform services for its virtual machines
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)

_NO_HOST = "The URL has no valid host; it must be like https://example.org/picture.png."
_UNREACHABLE = (
    "The URL's server cannot be reached from here. Only servers on the public internet are; check the URL, or send the "
    "picture itself."
)
_TOO_SLOW = "The URL's server did not send the picture in time; send the picture itself."
_BROKEN = "The URL's server broke the connection off or does not speak HTTP/1.1; send the picture itself."
_NO_TLS = (
    "No secure connection to the URL's server could be made: its certificate must be valid, for this name, and issued by "
    "a well-known authority."
)
_SEND_OTHER = "send the URL where the picture itself is."

AddressRule = Callable[[IPv4Address | IPv6Address], bool]
"""Returns whether an address may be connected to."""


class RemoteRefused(Exception):
    """The URL may not be fetched, or its response is not acceptable. `message` is a sentence for the user."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether this is an ordinary address of the public internet, by IANA's registries of special addresses.

    Addresses that embed another address (mapped, compatible, NAT64, 6to4, Teredo) are never public.
    """
    if isinstance(address, IPv6Address) and (address.scope_id is not None or address not in _IPV6_UNICAST):
        return False
    special = address.is_multicast or address.is_reserved or any(address in block for block in _NOT_PUBLIC)
    return address.is_global and not special


def check(url: str, allow: AddressRule = is_public) -> None:
    """Check the text of a URL, without any network. Raises `RemoteRefused`.

    Allowed are http and https, ports 80, 443 and from 1024, full host names, and addresses that `allow` accepts.
    """
    _parse(url, allow)


def fetch(url: str, *, max_bytes: int, seconds: float, allow: AddressRule = is_public) -> bytes:
    """Return the body of the response with status 200, at most `max_bytes` long, of any content type.

    Look-ups, at most `MAX_REDIRECTS` redirects and the body together take at most `seconds`. Every address that a name
    resolves to must be accepted by `allow`. Raises `RemoteRefused`.
    """
    backend = _CheckedBackend(allow, time.monotonic() + seconds)
    with httpcore2.ConnectionPool(network_backend=backend) as pool:
        for _ in range(MAX_REDIRECTS + 1):
            target = _parse(url, allow)
            try:
                with pool.stream("GET", target, headers=_headers(target)) as response:
                    if response.status not in _REDIRECTS:
                        return _read_body(response, max_bytes)
                    url = _redirect_url(url, response)
            except httpcore2.TimeoutException as error:
                raise RemoteRefused(_TOO_SLOW) from error
            except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
                raise RemoteRefused(_BROKEN) from error
    raise RemoteRefused(f"The URL redirects more than {MAX_REDIRECTS} times; {_SEND_OTHER}")


def _parse(url: str, allow: AddressRule) -> httpcore2.URL:
    """Return the checked parts of a URL. Nothing else parses the text, so nothing can understand it differently."""
    if not _URL.fullmatch(url):
        raise RemoteRefused(
            f"The URL must be of 1 to {MAX_URL_LENGTH} printable ASCII characters without spaces; write others "
            "percent-encoded, and host names as xn--."
        )
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise RemoteRefused(_NO_HOST) from error
    if parts.scheme not in _PORTS:
        raise RemoteRefused("The URL must begin with http:// or https://.")
    if "@" in parts.netloc:
        raise RemoteRefused("The URL must not contain a user name or password.")
    authority = _AUTHORITY.fullmatch(parts.netloc)
    if authority is None:
        raise RemoteRefused(_NO_HOST)
    port = int(authority["port"] or _PORTS[parts.scheme])
    if port not in _PORTS.values() and not _MIN_OTHER_PORT <= port <= 65_535:
        raise RemoteRefused(f"The URL's port must be 80, 443, or {_MIN_OTHER_PORT} to 65535.")
    host = _parse_host(authority["ipv6"] or authority["name"], allow)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return httpcore2.URL(scheme=parts.scheme, host=host, port=port, target=target)


def _parse_host(host: str, allow: AddressRule) -> str:
    host = host.lower().removesuffix(".")
    if ":" in host or _NUMERIC.fullmatch(host):
        try:
            address = ip_address(host)
        except ValueError as error:
            raise RemoteRefused(
                "The URL's host is a number; write an IPv4 address as four decimal numbers, or a host name."
            ) from error
        if not allow(address):
            raise RemoteRefused("The URL's address is not on the public internet.")
        return str(address)
    if not _NAME.fullmatch(host):
        raise RemoteRefused("The URL's host must be a full name, such as example.org.")
    return host


def _headers(url: httpcore2.URL) -> list[tuple[str, str]]:
    # httpcore2's own Host header has no brackets around IPv6 addresses.
    host = url.host.decode("ascii")
    host = f"[{host}]" if ":" in host else host
    return [
        ("Host", host if url.port == _PORTS[url.scheme.decode("ascii")] else f"{host}:{url.port}"),
        ("User-Agent", "Dreamsite (fetches a picture that a user named)"),
        ("Accept", "image/*"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
    ]


def _header_values(response: httpcore2.Response, name: bytes) -> list[str]:
    return [value.decode("latin-1") for header, value in response.headers if header.lower() == name]


def _redirect_url(url: str, response: httpcore2.Response) -> str:
    """Return the URL that a redirect of `url` leads to."""
    locations = _header_values(response, b"location")
    if len(locations) != 1 or not _URL.fullmatch(locations[0]):
        raise RemoteRefused(f"The URL's server redirects to nowhere; {_SEND_OTHER}")
    try:
        target = urljoin(url, locations[0])
    except ValueError as error:
        raise RemoteRefused(f"The URL's server redirects to nowhere; {_SEND_OTHER}") from error
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http":
        raise RemoteRefused(f"The URL redirects from https to http; {_SEND_OTHER}")
    return target


def _read_body(response: httpcore2.Response, max_bytes: int) -> bytes:
    if response.status != 200:
        raise RemoteRefused(f"The URL's server answered with status {response.status}; it must be 200, with a picture.")
    if any(coding.strip().lower() != "identity" for coding in _header_values(response, b"content-encoding")):
        raise RemoteRefused("The URL's server sends the picture compressed, although the request forbids it.")
    too_large = f"The file at the URL has more than {max_bytes:,} bytes, the most allowed; send a smaller picture."
    if any(int(length) > max_bytes for length in _header_values(response, b"content-length")):
        raise RemoteRefused(too_large)
    body = bytearray()
    for piece in response.iter_stream():
        body += piece
        if len(body) > max_bytes:
            raise RemoteRefused(too_large)
    return bytes(body)


class _CheckedBackend(httpcore2.NetworkBackend):
    """Connects to a name only if `allow` accepts all of its addresses.

    `deadline` is in seconds of the monotonic clock; after it every operation raises `RemoteRefused`.
    """

    def __init__(self, allow: AddressRule, deadline: float) -> None:
        self._allow = allow
        self._deadline = deadline
        self._backend = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        addresses = _resolve(host, port, _seconds_until(self._deadline))
        # The same message for a private address and for none, so that it tells nothing about the network here.
        if not addresses or not all(map(self._allow, addresses)):
            raise RemoteRefused(_UNREACHABLE)
        candidates = addresses[:MAX_ADDRESSES]
        for index, address in enumerate(candidates):
            seconds = _seconds_until(self._deadline) / (len(candidates) - index)
            with suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                stream = self._backend.connect_tcp(str(address), port, seconds)
                return _DeadlineStream(stream, self._deadline)
        raise RemoteRefused(_UNREACHABLE)


class _DeadlineStream(httpcore2.NetworkStream):
    """A stream whose operations all end before one deadline."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _seconds_until(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _seconds_until(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        try:
            stream = self._stream.start_tls(ssl_context, server_hostname, _seconds_until(self._deadline))
        except httpcore2.ConnectError as error:
            raise RemoteRefused(_NO_TLS) from error
        except RemoteRefused:
            # httpcore2 does not close a stream that it has not returned yet.
            self.close()
            raise
        return _DeadlineStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _seconds_until(deadline: float) -> float:
    """Return the seconds until the deadline, above 0. Raises `RemoteRefused` after it."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise RemoteRefused(_TOO_SLOW)
    return seconds


def _resolve(host: str, port: int, seconds: float) -> list[IPv4Address | IPv6Address]:
    """Look a host up once and return all its addresses in order of preference; none if the look-up fails."""
    addresses: list[IPv4Address | IPv6Address] = []

    def look_up() -> None:
        with suppress(OSError, ValueError):
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses.extend([ip_address(entry[4][0]) for entry in entries])

    # A thread, since the system's resolver has no time limit. Its late answer is ignored.
    thread = threading.Thread(target=look_up, name="resolve", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise RemoteRefused(_TOO_SLOW)
    return addresses
