"""Request headers that say how a request shall be treated: `Cancel-After` and `Prefer` (RFC 7240)."""

import re
from datetime import timedelta

from generation.parameters import InvalidField

CANCEL_ON_DISCONNECT = "cancel-on-disconnect"

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}
_LONGEST = timedelta(days=7)


def cancel_after(header: str) -> timedelta | None:
    """`Cancel-After: 90s`, `2m` or `1h`; None when the header is empty. Raises `InvalidField`."""
    if not header.strip():
        return None
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smh])", header.strip())
    period = timedelta(**{_UNITS[match[2]]: float(match[1])}) if match else timedelta()
    if not timedelta() < period <= _LONGEST:
        raise InvalidField(
            "Cancel-After", "Send a time with its unit, up to 7 days, such as 90s, 2m or 1h", place="header"
        )
    return period


def prefers(header: str, preference: str) -> bool:
    """Whether a `Prefer` header holds this preference."""
    return any(part.partition("=")[0].partition(";")[0].strip().lower() == preference for part in header.split(","))
