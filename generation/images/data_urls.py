"""Data URLs (RFC 2397): `data:image/png;base64,…`."""

import base64
import re
from urllib.parse import unquote_to_bytes

_LINE_BREAKS = re.compile(rb"[\t\n\f\r]+")


def decode(text: str) -> bytes:
    """Return what a data URL contains. Raises `ValueError` if this is none, or its base64 is damaged.

    Line breaks and a lack of padding are accepted, as browsers do (WHATWG Infra Standard, forgiving-base64 decode), and a
    space for the `+` that a form without escapes makes of it.
    """
    head, comma, data = text.partition(",")
    if not (comma and head.lstrip()[:5].lower() == "data:"):
        raise ValueError("not a data URL")
    content = unquote_to_bytes(data)
    if head.rpartition(";")[2].strip().lower() != "base64":
        return content
    digits = _LINE_BREAKS.sub(b"", content.strip()).replace(b" ", b"+").rstrip(b"=")
    return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
