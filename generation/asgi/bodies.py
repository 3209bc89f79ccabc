"""The bodies of requests: judged by their size, read within limits, decompressed, and passed on to Django."""

import asyncio
import zlib
from collections.abc import Iterable
from contextlib import suppress
from typing import IO

from django.conf import settings
from django.utils.http import parse_header_parameters

from generation.asgi import paths
from generation.asgi.body_budget import Share
from generation.asgi.types import Message, Receive, Scope, Send, header
from generation.parameters import ErrorCode, Refusal

CHUNK_BYTES = 1024 * 1024

MAX_FORM_BYTES = 64 * 1024
"""Of a request without pictures. The largest form, a thousand chosen generations, has some 45 kB."""

_WINDOW_SECONDS = 15.0
_WINDOW_BYTES = 64 * 1024
"""A body that is not at its end brings this much in each window: at least 4 kB a second, however much came before."""

_MAX_SECONDS = 600.0
"""For a whole body. The largest takes so long at 34 kB a second."""

_MAX_DISCARDED_BYTES = 64 * 1024 * 1024
_DISCARD_SECONDS = 10.0
_MAX_CONTENT_TYPE_BYTES = 1000
_CODINGS = "gzip, deflate"
_GZIP_WINDOW_BITS = zlib.MAX_WBITS + 16
_MAX_MEMBERS = 100


def max_bytes(scope: Scope) -> int:
    """Return how large the request's body may be, in bytes, compressed or not."""
    has_picture = paths.takes_pictures(scope["method"], scope["path"]) or paths.verifies(scope["method"], scope["path"])
    return settings.MAX_UPLOAD_BYTES if has_picture else MAX_FORM_BYTES


def declared_size(scope: Scope) -> int | None:
    """Return the size of the body as the headers say it, in bytes; None for a chunked body, which does not."""
    if header(scope, b"transfer-encoding"):
        return None
    # The server has judged the header already.
    return int(header(scope, b"content-length") or 0)


def needs_admission(scope: Scope) -> bool:
    """Return whether to ask whose request this is before its body is read: whether that is large, but not too large."""
    size = declared_size(scope)
    return paths.takes_pictures(scope["method"], scope["path"]) and (
        size is None or MAX_FORM_BYTES < size <= max_bytes(scope)
    )


async def read(scope: Scope, receive: Receive, body: IO[bytes], share: Share) -> int:
    """Store the request's body, decompressed, and return its size in bytes. It takes so much of the share.

    Raises `ConnectionAbortedError` if the client disconnects, and `Refusal` for a body that is too large, compressed or not,
    that finds no room, does not arrive in time, is compressed in another way than gzip or deflate, or damaged.
    """
    size = await _receive(scope, receive, body, share)
    names = [name.strip() for name in header(scope, b"content-encoding").lower().split(",")]
    codings = [name for name in names if name not in ("", "identity")]
    if size and codings:
        limit = max_bytes(scope)
        share.resize(size + limit)
        size = await asyncio.to_thread(_decompress, body, codings, limit)
        share.resize(size)
    return size


async def _receive(scope: Scope, receive: Receive, body: IO[bytes], share: Share) -> int:
    """Store the body as it is sent, and return its size in bytes."""
    limit, size, held, window_size = max_bytes(scope), 0, declared_size(scope) or 0, 0
    if held > limit:
        raise _too_large(limit)
    share.resize(held)
    now = asyncio.get_running_loop().time
    end = now() + _MAX_SECONDS
    window_end = now() + _WINDOW_SECONDS
    while True:
        try:
            async with asyncio.timeout_at(min(end, window_end)):
                message = await receive()
        except TimeoutError:
            raise _too_slow() from None
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError
        chunk = message.get("body", b"")
        size += len(chunk)
        window_size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        if size > held:
            held = size
            share.resize(held)
        body.write(chunk)
        if not message.get("more_body", False):
            break
        if window_size >= _WINDOW_BYTES:
            window_size, window_end = 0, now() + _WINDOW_SECONDS
    body.seek(0)
    return size


def _decompress(body: IO[bytes], codings: list[str], limit: int) -> int:
    """Replace the body by what was compressed, up to `limit` bytes, and return its size in bytes."""
    try:
        match codings:
            case ["gzip" | "x-gzip"]:
                content = _gunzip(body.read(), limit + 1)
            case ["deflate"]:
                content = _inflate(body.read(), limit + 1)
            case _:
                name = ", ".join(codings)[:50]
                raise Refusal(
                    ErrorCode.UNSUPPORTED_ENCODING,
                    f"Content-Encoding {name} is not supported; send the body as it is, or compressed by gzip or deflate.",
                    # RFC 9110, section 12.5.3.
                    headers={"Accept-Encoding": _CODINGS},
                )
    except zlib.error:
        message = f"The body is not what its Content-Encoding says, {codings[0]}, or is cut short."
        raise Refusal(ErrorCode.MALFORMED_REQUEST, message) from None
    if len(content) > limit:
        raise _too_large(limit)
    body.seek(0)
    body.truncate()
    body.write(content)
    body.seek(0)
    return len(content)


def _gunzip(data: bytes, limit: int) -> bytes:
    """Return at most `limit` bytes of what was compressed by gzip. Raises `zlib.error` if it is damaged or cut short.

    It may have several members (RFC 1952, section 2.2), but not a million empty ones.
    """
    content = b""
    for _ in range(_MAX_MEMBERS):
        decompressor = zlib.decompressobj(_GZIP_WINDOW_BITS)
        content += decompressor.decompress(data, limit - len(content))
        data = decompressor.unused_data
        if len(content) == limit or (decompressor.eof and not data):
            return content
        if not decompressor.eof:
            break
    raise zlib.error


def _inflate(data: bytes, limit: int) -> bytes:
    """Return at most `limit` bytes of what was compressed by deflate. Raises `zlib.error` if it is damaged or cut short.

    Some clients leave out the zlib format around it (RFC 9110, section 8.4.1.2).
    """
    for window_bits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        decompressor = zlib.decompressobj(window_bits)
        with suppress(zlib.error):
            content = decompressor.decompress(data, limit)
            if decompressor.eof or len(content) == limit:
                return content
    raise zlib.error


def _too_large(limit: int) -> Refusal:
    is_form = limit != settings.MAX_UPLOAD_BYTES
    advice = "shorten its texts, or choose fewer items" if is_form else "send a smaller picture"
    return Refusal(ErrorCode.UPLOAD_TOO_LARGE, f"The request is over the limit of {limit:,} bytes; {advice}.")


def _too_slow() -> Refusal:
    rate = _WINDOW_BYTES / _WINDOW_SECONDS / 1024
    message = f"The request did not arrive in time; send at least {rate:.0f} kB a second, and all of it within "
    return Refusal(ErrorCode.REQUEST_TIMEOUT, f"{message}{_MAX_SECONDS / 60:.0f} minutes.")


def normalized_headers(headers: Iterable[tuple[bytes, bytes]], size: int) -> list[tuple[bytes, bytes]]:
    """Return the headers as Django can read them.

    Content-Length is always present, since DRF takes a chunked body, which has none, for empty. Content-Type is in lower
    case, since Django does not recognise forms otherwise, and absent if parsing it would raise an error.
    """
    normalized = [(b"content-length", str(size).encode())]
    for name, value in headers:
        if name == b"content-type":
            kind, semicolon, parameters = value.partition(b";")
            if _is_parsable(value):
                normalized.append((name, kind.lower() + semicolon + parameters))
        elif name not in (b"content-length", b"content-encoding", b"transfer-encoding"):
            normalized.append((name, value))
    return normalized


def _is_parsable(content_type: bytes) -> bool:
    # The time for parsing grows with the square of the length.
    if len(content_type) > _MAX_CONTENT_TYPE_BYTES:
        return False
    try:
        parse_header_parameters(content_type.decode("latin-1"))
    except (ValueError, LookupError):
        return False
    return True


def replay(body: IO[bytes] | None, receive: Receive | None) -> Receive:
    """Return a `receive` for the stored body, then for the client's messages; without a client it waits for ever."""
    ended = False

    async def replay() -> Message:
        nonlocal ended
        if not ended:
            chunk = body.read(CHUNK_BYTES) if body is not None else b""
            ended = len(chunk) < CHUNK_BYTES
            return {"type": "http.request", "body": chunk, "more_body": not ended}
        if receive is not None:
            return await receive()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a future that nobody resolves was resolved")

    return replay


class Incoming:
    """The `receive` of a request, which knows whether the body has ended."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._has_ended = False

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._has_ended = True
        return message

    def responding(self, send: Send) -> Send:
        """Return a `send` that closes the connection after a response that begins before the body has ended.

        First what the client is still sending is read and dropped up to a bound: it would see a closed connection instead of
        the answer.
        """
        is_unread = False

        async def send_and_close(message: Message) -> None:
            nonlocal is_unread
            if message["type"] == "http.response.start" and not self._has_ended:
                is_unread = True
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            is_end = message["type"] == "http.response.body" and not message.get("more_body", False)
            if is_unread and is_end:
                await send({**message, "more_body": True})
                await self._discard()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        return send_and_close

    async def _discard(self) -> None:
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                while not self._has_ended and size < _MAX_DISCARDED_BYTES:
                    size += len((await self()).get("body", b""))
