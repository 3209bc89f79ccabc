"""A picture's bytes from a URL that a user gave, without lending that user this machine's place in the network.

A host name is resolved once, all its addresses are judged, and the connection goes to one that was judged, so a second
answer of its name server changes nothing. Each redirect is judged like the URL itself. No proxy, cookie or credential of
this machine is used. What remains: a public address of this machine counts as public.
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

import httpcore

MAX_REDIRECTS = 3
MAX_URL_LENGTH = 4000
"""Longest URL in characters, one that a redirect leads to included: signed ones are long."""

MAX_ADDRESSES = 4
"""How many addresses of one name are tried."""

_PORTS = {"http": 80, "https": 443}
_FIRST_FREE_PORT = 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_PRINTABLE = re.compile(rf"[!-~]{{1,{MAX_URL_LENGTH}}}")
_AUTHORITY = re.compile(r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]{1,254}))(?::(?P<port>[0-9]{1,5})?)?", re.I)
_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)+[a-z0-9-]{1,63}", re.I)
# What resolvers read as an IPv4 address: also 127.1, 2130706433, 0x7f.1 and 0177.0.0.1.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.I)

_IPV6_UNICAST = ip_network("2000::/3")
"""All that is given out to the public internet. Mapped, compatible and NAT64 addresses lie outside it."""

_NOT_PUBLIC = tuple(
    ip_network(block)
    for block in (
        "100.64.0.0/10",  # carrier-grade NAT
        "168.63.129.16/32",  # Azure's platform, which answers its own guests only
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

Judge = Callable[[IPv4Address | IPv6Address], bool]


class RemoteRefused(Exception):
    """A URL that is not fetched, or whose answer is not taken. `message` is a sentence for people."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is an ordinary one of the public internet, by IANA's registries of special addresses.

    Addresses that wrap another one (mapped, compatible, NAT64, 6to4, Teredo) are not, whatever they wrap.
    """
    if isinstance(address, IPv6Address) and (address.scope_id is not None or address not in _IPV6_UNICAST):
        return False
    special = address.is_multicast or address.is_reserved or any(address in block for block in _NOT_PUBLIC)
    return address.is_global and not special


def check(url: str, allow: Judge = is_public) -> None:
    """Judge a URL as it is written, without any network. Raises `RemoteRefused`.

    Allowed are http and https, ports 80, 443 and from 1024, full host names, and addresses that `allow` accepts.
    """
    _judged(url, allow)


def fetch(url: str, *, max_bytes: int, seconds: float, allow: Judge = is_public) -> bytes:
    """The body that the URL's server answers with status 200, at most `max_bytes` long, whatever its content type.

    All of it, from the first look-up to the last byte over at most `MAX_REDIRECTS` redirects, ends within `seconds`.
    `allow` judges every address that a name resolves to. Raises `RemoteRefused`.
    """
    backend = _CheckedBackend(allow, time.monotonic() + seconds)
    with httpcore.ConnectionPool(network_backend=backend) as pool:
        for _ in range(MAX_REDIRECTS + 1):
            target = _judged(url, allow)
            try:
                with pool.stream("GET", target, headers=_headers(target)) as response:
                    if response.status not in _REDIRECTS:
                        return _body(response, max_bytes)
                    url = _destination(url, response)
            except httpcore.TimeoutException as error:
                raise RemoteRefused(_TOO_SLOW) from error
            except (httpcore.NetworkError, httpcore.ProtocolError) as error:
                raise RemoteRefused(_BROKEN) from error
    raise RemoteRefused(f"The URL redirects more than {MAX_REDIRECTS} times; {_SEND_OTHER}")


def _judged(url: str, allow: Judge) -> httpcore.URL:
    """The parts of a URL, every one of them checked, so that nothing reads the text in a second way."""
    if not _PRINTABLE.fullmatch(url):
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
    place = _AUTHORITY.fullmatch(parts.netloc)
    if place is None:
        raise RemoteRefused(_NO_HOST)
    port = int(place["port"] or _PORTS[parts.scheme])
    if port not in _PORTS.values() and not _FIRST_FREE_PORT <= port <= 65_535:
        raise RemoteRefused(f"The URL's port must be 80, 443, or {_FIRST_FREE_PORT} to 65535.")
    host = _judged_host(place["ipv6"] or place["name"], allow)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return httpcore.URL(scheme=parts.scheme, host=host, port=port, target=target)


def _judged_host(host: str, allow: Judge) -> str:
    host = host.lower().removesuffix(".")
    if ":" in host or _NUMERIC.fullmatch(host):
        try:
            address = ip_address(host)
        except ValueError as error:
            raise RemoteRefused(
                "The URL's host is a number; write an IPv4 address as four decimal numbers, or a host name."
            ) from error
        if not allow(address):
            raise RemoteRefused("The URL's address is not on the public internet, and only such are fetched.")
        return str(address)
    if not _NAME.fullmatch(host):
        raise RemoteRefused("The URL's host must be a full name, such as example.org.")
    return host


def _headers(url: httpcore.URL) -> list[tuple[str, str]]:
    # Written here since httpcore leaves out the brackets of IPv6.
    host = url.host.decode("ascii")
    host = f"[{host}]" if ":" in host else host
    return [
        ("Host", host if url.port == _PORTS[url.scheme.decode("ascii")] else f"{host}:{url.port}"),
        ("User-Agent", "Dreamsite (fetches a picture that a user named)"),
        ("Accept", "image/*"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
    ]


def _values(response: httpcore.Response, name: bytes) -> list[str]:
    return [value.decode("latin-1") for header, value in response.headers if header.lower() == name]


def _destination(url: str, response: httpcore.Response) -> str:
    """Where a redirect leads."""
    locations = _values(response, b"location")
    if len(locations) != 1 or not _PRINTABLE.fullmatch(locations[0]):
        raise RemoteRefused(f"The URL's server redirects to nowhere; {_SEND_OTHER}")
    try:
        destination = urljoin(url, locations[0])
    except ValueError as error:
        raise RemoteRefused(f"The URL's server redirects to nowhere; {_SEND_OTHER}") from error
    if urlsplit(url).scheme == "https" and urlsplit(destination).scheme == "http":
        raise RemoteRefused(f"The URL redirects from https to http; {_SEND_OTHER}")
    return destination


def _body(response: httpcore.Response, max_bytes: int) -> bytes:
    if response.status != 200:
        raise RemoteRefused(f"The URL's server answered with status {response.status}; it must be 200, with a picture.")
    if any(coding.strip().lower() != "identity" for coding in _values(response, b"content-encoding")):
        raise RemoteRefused("The URL's server sends the picture compressed, though it was told not to.")
    too_large = f"The file at the URL has more than {max_bytes:,} bytes, the most allowed; send a smaller picture."
    if any(int(length) > max_bytes for length in _values(response, b"content-length")):
        raise RemoteRefused(too_large)
    body = bytearray()
    for piece in response.iter_stream():
        body += piece
        if len(body) > max_bytes:
            raise RemoteRefused(too_large)
    return bytes(body)


class _CheckedBackend(httpcore.NetworkBackend):
    """Connects to addresses that `allow` accepts, and to none of a name that has another one besides.

    `deadline` is in seconds of the monotonic clock; past it everything raises `RemoteRefused`.
    """

    def __init__(self, allow: Judge, deadline: float) -> None:
        self._allow = allow
        self._deadline = deadline
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = _resolve(host, port, _left(self._deadline))
        # The same words for a private address and for none: nobody shall read out of them what is inside.
        if not addresses or not all(map(self._allow, addresses)):
            raise RemoteRefused(_UNREACHABLE)
        tried = addresses[:MAX_ADDRESSES]
        for waiting in range(len(tried), 0, -1):
            share = _left(self._deadline) / waiting
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                stream = self._plain.connect_tcp(str(tried[-waiting]), port, share)
                return _HurriedStream(stream, self._deadline)
        raise RemoteRefused(_UNREACHABLE)


class _HurriedStream(httpcore.NetworkStream):
    """A stream whose every operation has only what is left until the deadline, however many there are."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            stream = self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline))
        except httpcore.ConnectError as error:
            raise RemoteRefused(_NO_TLS) from error
        except RemoteRefused:
            # Nobody else holds this stream yet.
            self.close()
            raise
        return _HurriedStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise RemoteRefused(_TOO_SLOW)
    return left


def _resolve(host: str, port: int, seconds: float) -> list[IPv4Address | IPv6Address]:
    """All addresses of a host, in the order of preference; none if it has none. Asks once."""
    found: list[IPv4Address | IPv6Address] = []

    def ask() -> None:
        with suppress(OSError, ValueError):
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend([ip_address(entry[4][0]) for entry in entries])

    # The system's resolver knows no time limit: what it answers too late, it answers to nobody.
    thread = threading.Thread(target=ask, name="resolve", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise RemoteRefused(_TOO_SLOW)
    return found
