"""Who sends a request, and how many each may send: known before the body is read, and before the database is asked.

A caller is a user, or an address while nobody knows the user: views tell whose a token or session is, and later requests with
the same count for that user. So a user has one share, however many tokens, and guessed tokens count for the address.

All of it is in the memory of the web process: it protects the threads of this process, it must work without Redis, and a write
to the database for each request would cost more than most requests. With several web processes a user has a share in each.
"""

import hashlib
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest, HttpResponse, parse_cookie

from accounts.addresses import counted_address
from accounts.models import User
from generation.asgi import paths
from generation.asgi.types import CALLER, Scope, header
from generation.jobs import limits
from generation.parameters import ErrorCode

REQUESTS_PER_SECOND = 50
REQUESTS_AT_ONCE = 1000
"""Of any kind. Scrolling through the history asks for some hundred thumbnails at once; a busy client polls each second."""

PICTURES_FACTOR = 2
"""Requests with pictures that a user may send, for each that may be accepted a minute: dry runs and refused ones count, too."""

_MAX_KNOWN = 10_000


@dataclass(frozen=True)
class KnownUser:
    """A user, and the requests that may be accepted a minute; None is no limit."""

    id: int
    per_minute: int | None


@dataclass
class Caller:
    """For whom a request counts. `user` is None while only the address is known.

    `credential` is the digest of the token, or of a page's session; empty without.
    """

    address: str
    credential: bytes
    user: KnownUser | None

    @property
    def key(self) -> str:
        return f"user {self.user.id}" if self.user else f"address {self.address}"

    def identify(self, user: User) -> None:
        """Tell whose the token or session of the request is."""
        self.user = KnownUser(user.pk, limits.user_limits(user).per_minute)


class Callers:
    """The callers of a process: which credentials are known, and what each caller has sent lately."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._users: OrderedDict[bytes, KnownUser] = OrderedDict()
        self._rates = Rates(clock)

    def caller(self, scope: Scope) -> Caller:
        """Return the caller of a request."""
        client = scope.get("client")
        address = counted_address(client[0]) if client else None
        credential = _credential(scope)
        return Caller(address or "", credential, self._users.get(credential))

    def learn(self, caller: Caller) -> None:
        """Remember whose the credential of an answered request is, if a view told it."""
        if caller.user and caller.credential:
            self._users[caller.credential] = caller.user
            self._users.move_to_end(caller.credential)
            if len(self._users) > _MAX_KNOWN:
                self._users.popitem(last=False)

    def count(self, scope: Scope, caller: Caller) -> None:
        """Count a request. Raises `OverLimit` if it is one too many."""
        if not settings.LIMITS:
            return
        if wait := self._rates.take(caller.key, REQUESTS_AT_ONCE, REQUESTS_PER_SECOND):
            message = f"You have sent more than {REQUESTS_PER_SECOND} requests a second; {_again(wait)}"
            raise limits.OverLimit(ErrorCode.TOO_MANY_REQUESTS, message, REQUESTS_PER_SECOND * 60, 0, wait)
        per_minute = caller.user.per_minute if caller.user else settings.USER_MAX_PER_MINUTE
        if per_minute and paths.takes_pictures(scope["method"], scope["path"]):
            limit = PICTURES_FACTOR * per_minute
            if wait := self._rates.take(f"{caller.key} pictures", limit, limit / 60):
                message = (
                    f"You have sent {limit} requests with pictures within a minute, the maximum, dry runs and refused "
                    f"ones among them; {_again(wait)}"
                )
                raise limits.OverLimit(ErrorCode.TOO_MANY_REQUESTS, message, limit, 0, wait)

    def count_verification(self, caller: Caller) -> None:
        """Count a picture that is to be verified. Raises `OverLimit` if it is one too many."""
        limit = settings.VERIFICATIONS_PER_MINUTE
        if settings.LIMITS and limit and (wait := self._rates.take(f"{caller.key} verify", limit, limit / 60)):
            message = f"You have had {limit} pictures verified within a minute, the maximum; {_again(wait)}"
            raise limits.OverLimit(ErrorCode.TOO_MANY_REQUESTS, message, limit, 0, wait)


class Rates:
    """Token buckets, each as the time at which it will be full again (the generic cell rate algorithm)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def take(self, name: str, size: int, per_second: float) -> int:
        """Take one token of a bucket, and return 0; if it is empty, the whole seconds until there is one."""
        now = self._clock()
        full_at = max(now, self._full_at.get(name, now)) + 1 / per_second
        missing = full_at - now - size / per_second
        # A sum of fractions of a second is not exact.
        if missing > 1e-6:
            return max(1, math.ceil(missing))
        self._full_at[name] = full_at
        if len(self._full_at) > _MAX_KNOWN:
            self._full_at = {other: time for other, time in self._full_at.items() if time > now}
        return 0


def caller_middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Tell whose the session of a page's request is; a Django middleware. Views of the API tell it of tokens."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        caller = getattr(request, "scope", {}).get(CALLER)
        # What did not look at the session, such as a static file, does not tell; that would ask the database.
        # The API's views leave no user where a token is refused.
        if caller and request.session.accessed and request.user and request.user.is_authenticated:
            caller.identify(request.user)
        return response

    return middleware


def _again(seconds: int) -> str:
    return f"try again in {seconds} second{'' if seconds == 1 else 's'}."


def _credential(scope: Scope) -> bytes:
    """Return the digest of the token, or of a page's session; empty without."""
    if re.match(paths.API_PATHS, scope["path"]):
        text = header(scope, b"authorization")
    else:
        text = parse_cookie(header(scope, b"cookie")).get(settings.SESSION_COOKIE_NAME, "")
    return hashlib.sha256(text.encode()).digest() if text else b""
