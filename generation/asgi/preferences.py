"""The request headers `Cancel-After`, `Prefer` (RFC 7240) and `Cache-Control` (RFC 9111)."""

import re
from dataclasses import dataclass
from datetime import timedelta

from generation.parameters import InvalidField

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}
_MAX_CANCEL_AFTER = timedelta(days=7)
# Commas in quotes do not separate. A quote that is not closed extends to the end.
_PREFERENCE = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*(?:"|\\?\Z))+', re.DOTALL)


def parse_cancel_after(header: str) -> timedelta | None:
    """Parse `Cancel-After: 90s`, `2m` or `1h`. Returns None if the header is empty. Raises `InvalidField`."""
    if not header.strip():
        return None
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smh])", header.strip())
    period = timedelta(**{_UNITS[match[2]]: float(match[1])}) if match else timedelta()
    if not timedelta() < period <= _MAX_CANCEL_AFTER:
        raise InvalidField(
            "Cancel-After", "Send a time with its unit, up to 7 days, such as 90s, 2m or 1h", place="header"
        )
    return period


def asks_anew(cache_control: str) -> bool:
    """Return whether a `Cache-Control` header refuses an answer that is kept."""
    directives = {part.partition("=")[0].strip().lower() for part in cache_control.split(",")}
    return not directives.isdisjoint({"no-cache", "no-store"})


@dataclass(frozen=True)
class Preferences:
    """The preferences of a `Prefer` header about waiting for pictures."""

    respond_async: bool = False
    wait: int | None = None
    """Seconds, at least 1."""
    cancel_on_disconnect: bool = False


def parse_prefer(header: str) -> Preferences:
    """Parse a `Prefer` header.

    As RFC 7240 requires, unknown and invalid preferences are ignored, and the first of several with one name counts.
    """
    values: dict[str, str] = {}
    for preference in _PREFERENCE.findall(header):
        name, _, value = preference.partition(";")[0].partition("=")
        values.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = values.get("wait", "")
    return Preferences(
        respond_async="respond-async" in values,
        wait=int(wait) if re.fullmatch(r"[0-9]{1,9}", wait) and int(wait) > 0 else None,
        cancel_on_disconnect="cancel-on-disconnect" in values,
    )
