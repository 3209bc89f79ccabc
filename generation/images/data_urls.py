"""Data URLs (RFC 2397), `data:image/png;base64,…`, and the percent escapes in them and in forms."""

import base64
import re
from urllib.parse import unquote_to_bytes

_LINE_BREAKS = re.compile(rb"[\t\n\f\r]+")
_PIECE_BYTES = 16_384


def decode(text: str) -> bytes:
    """Return what a data URL contains. Raises `ValueError` if this is none, or its base64 is damaged.

    Line breaks and a lack of padding are accepted, as browsers do (WHATWG Infra Standard, forgiving-base64 decode), and a
    space for the `+` that a form without escapes makes of it.
    """
    head, comma, data = text.partition(",")
    if not (comma and head.lstrip()[:5].lower() == "data:"):
        raise ValueError("not a data URL")
    content = percent_decode(data.encode())
    if head.rpartition(";")[2].strip().lower() != "base64":
        return content
    digits = _LINE_BREAKS.sub(b"", content.strip()).replace(b" ", b"+").rstrip(b"=")
    return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)


def percent_decode(content: bytes) -> bytes:
    """Return what percent escapes stand for (WHATWG URL Standard, percent-decode).

    In pieces, since `unquote_to_bytes` takes 250 bytes of memory for each escape.
    """
    if b"%" not in content:
        return content
    decoded = bytearray()
    start = 0
    while start < len(content):
        end = start + _PIECE_BYTES
        # An escape is not divided.
        if end < len(content) and (escape := content.rfind(b"%", end - 2, end)) != -1:
            end = escape
        decoded += unquote_to_bytes(content[start:end])
        start = end
    return bytes(decoded)
