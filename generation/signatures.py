"""Signatures of addresses that need no token: they cannot be guessed, give access to one thing, and expire."""

import time
from urllib.parse import urlencode

from django.conf import settings
from django.http import QueryDict
from django.utils.crypto import constant_time_compare, salted_hmac

from accounts.requests import whole_number

_MAX_EXPIRES = 10**12 - 1


def signed_query(kind: str, name: str, seconds: int) -> str:
    """Return the query that gives access to `name` among what is of this kind, for `seconds` and at most 1 % more.

    It is the same for that 1 %, so that a page has the same address for a while and the browser can cache what is there.
    """
    step = max(1, seconds // 100)
    expires = (int(time.time()) + seconds) // step * step + step
    return urlencode({"expires": expires, "signature": _signature(settings.URL_SECRET_KEYS[0], kind, name, expires)})


def seconds_left(kind: str, name: str, query: QueryDict) -> int | None:
    """Return for how long the query gives access, in seconds, negative if it has expired; None if it is not signed."""
    expires, signature = whole_number(query.get("expires", ""), _MAX_EXPIRES), query.get("signature", "")
    if expires is None:
        return None
    for key in settings.URL_SECRET_KEYS:
        if constant_time_compare(signature, _signature(key, kind, name, expires)):
            return expires - int(time.time())
    return None


def _signature(key: str, kind: str, name: str, expires: int) -> str:
    return salted_hmac(f"generation.{kind}", f"{expires}:{name}", secret=key, algorithm="sha256").hexdigest()
