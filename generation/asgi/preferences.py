"""Request headers that say how a request shall be treated: `Cancel-After` and `Prefer` (RFC 7240)."""

import re
from dataclasses import dataclass
from datetime import timedelta

from generation.parameters import InvalidField

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}
_LONGEST = timedelta(days=7)
# A comma in quotes parts nothing. Quotes that are not closed reach to the end, so that none is read twice.
_PART = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*(?:"|\\?\Z))+', re.DOTALL)


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


@dataclass(frozen=True)
class Preferences:
    """What a `Prefer` header wants of the waiting for pictures."""

    respond_async: bool = False
    wait: int | None = None
    """Seconds, at least 1."""
    cancel_on_disconnect: bool = False


def preferences(header: str) -> Preferences:
    """Read a `Prefer` header. As RFC 7240 has it, what is unknown or makes no sense counts as absent, and of several of one
    name the first counts."""
    wanted: dict[str, str] = {}
    for part in _PART.findall(header):
        name, _, value = part.partition(";")[0].partition("=")
        wanted.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = wanted.get("wait", "")
    return Preferences(
        respond_async="respond-async" in wanted,
        wait=int(wait) if re.fullmatch(r"[0-9]{1,9}", wait) and int(wait) > 0 else None,
        cancel_on_disconnect="cancel-on-disconnect" in wanted,
    )
