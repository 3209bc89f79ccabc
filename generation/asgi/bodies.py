"""The bodies of requests: read up to a limit, decompressed, and passed on to Django."""

import asyncio
import zlib
from collections.abc import Iterable
from contextlib import suppress
from typing import IO

from django.conf import settings
from django.utils.http import parse_header_parameters

from generation.asgi.types import Message, Receive, Scope, Send, header
from generation.parameters import ErrorCode, Refusal

CHUNK_BYTES = 1024 * 1024
_MAX_DISCARDED_BYTES = 64 * 1024 * 1024
_MAX_CONTENT_TYPE_BYTES = 1000
_CODINGS = "gzip, deflate"
_GZIP_WINDOW_BITS = zlib.MAX_WBITS + 16
_MAX_MEMBERS = 100


async def read(scope: Scope, receive: Receive, body: IO[bytes]) -> int:
    """Store the request's body, decompressed, and return its size in bytes.

    Raises `ConnectionAbortedError` if the client disconnects, and `Refusal` for a body that is over `MAX_UPLOAD_BYTES`,
    compressed or not, that is compressed in another way than gzip or deflate, or damaged.
    """
    size = await _receive(receive, body)
    names = [name.strip() for name in header(scope, b"content-encoding").lower().split(",")]
    codings = [name for name in names if name not in ("", "identity")]
    if size and codings:
        return await asyncio.to_thread(_decompress, body, codings)
    return size


async def _receive(receive: Receive, body: IO[bytes]) -> int:
    """Store the body as it is sent, and return its size in bytes.

    The rest of a body that is too large is read and dropped up to a bound, since a client that is still sending would
    see a closed connection instead of the answer.
    """
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= settings.MAX_UPLOAD_BYTES:
            body.write(chunk)
        if not message.get("more_body", False) or size > settings.MAX_UPLOAD_BYTES + _MAX_DISCARDED_BYTES:
            break
    if size > settings.MAX_UPLOAD_BYTES:
        raise _too_large()
    body.seek(0)
    return size


def _decompress(body: IO[bytes], codings: list[str]) -> int:
    """Replace the body by what was compressed, up to the limit, and return its size in bytes."""
    limit = settings.MAX_UPLOAD_BYTES
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
        raise _too_large()
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


def _too_large() -> Refusal:
    message = f"The request is over the limit of {settings.MAX_UPLOAD_BYTES:,} bytes; send a smaller picture."
    return Refusal(ErrorCode.UPLOAD_TOO_LARGE, message)


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


def with_connection_close(send: Send) -> Send:
    """Return a `send` that closes the connection after the response, since the rest of the request is not read."""

    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        await send(message)

    return send_and_close
