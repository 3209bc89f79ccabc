"""Limits of users: queued requests, requests per minute, cost per day, stored bytes; and the capacity of the whole queue.

The defaults are settings; the admin overrides them for single users. `queue.claim` applies the limit of running requests. A
check under the lock of the user's `UserShare` is exact, however many requests arrive at once.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Sum
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from accounts.models import DataExport, User
from generation.days import start_of_day
from generation.models import (
    Generation,
    State,
    UserShare,
    first_id,
)
from generation.parameters import ErrorCode, Refusal

_MINUTE = timedelta(minutes=1)


class OverLimit(Refusal):
    """A user's limit is reached. `reset` is in seconds from now, the code's time to repeat by default."""

    def __init__(self, code: ErrorCode, message: str, limit: float, remaining: float, reset: int = 0) -> None:
        reset = reset or code.retry_after
        headers = {"RateLimit-Limit": str(math.ceil(limit)), "RateLimit-Remaining": str(math.floor(remaining))}
        if reset:
            headers["RateLimit-Reset"] = str(reset)
        super().__init__(code, message, retry_after=reset, headers=headers)
        self.limit = limit
        self.remaining = remaining
        self.reset = reset


class QueueFull(Refusal):
    """The queue of the whole service has reached `MAX_QUEUE`."""

    def __init__(self) -> None:
        code = ErrorCode.QUEUE_FULL
        super().__init__(code, f"Too many requests are waiting; try again in {code.retry_after} seconds.")


@dataclass(frozen=True)
class Rate:
    """The requests that a user may send a minute, and those that remain; one more in `reset` seconds. 0: none were sent."""

    limit: int
    remaining: int
    reset: int


@dataclass(frozen=True)
class UserLimits:
    """The limits of a user. None means no limit."""

    running: int | None
    queued: int | None
    per_minute: int | None
    daily_cost: float | None
    stored_bytes: int | None


def user_limits(user: User) -> UserLimits:
    """Return the limits that the admin set for this user, by default the limits in the settings."""
    if not settings.LIMITS:
        return UserLimits(None, None, None, None, None)
    return UserLimits(
        running=user.max_running if user.max_running is not None else settings.USER_MAX_RUNNING or None,
        queued=user.max_queued if user.max_queued is not None else settings.USER_MAX_QUEUED or None,
        per_minute=user.max_per_minute if user.max_per_minute is not None else settings.USER_MAX_PER_MINUTE or None,
        daily_cost=user.max_daily_cost if user.max_daily_cost is not None else settings.USER_MAX_DAILY_COST or None,
        stored_bytes=user.max_bytes if user.max_bytes is not None else settings.USER_MAX_BYTES or None,
    )


def rate(user: User) -> Rate | None:
    """Return what remains of the user's requests per minute, or None without a limit."""
    limit = user_limits(user).per_minute
    if limit is None:
        return None
    now = timezone.now()
    recent = Generation.objects.filter(user=user, pk__gte=first_id(now - _MINUTE))
    times = list(recent.order_by("-pk").values_list("created", flat=True)[:limit])
    reset = _seconds(times[-1] + _MINUTE - now) if times else 0
    return Rate(limit, limit - len(times), reset)


def check_queue_capacity(requests: int = 1) -> None:
    """Check that `requests` more requests can be queued. Raises `QueueFull`.

    It takes no lock, so simultaneous requests can exceed the limit a little: it protects the service, not a user's share.
    """
    if settings.MAX_QUEUE and Generation.objects.filter(state=State.QUEUED).count() + requests > settings.MAX_QUEUE:
        raise QueueFull


def lock_user(user: User) -> UserShare:
    """Lock and return the user's share until the transaction ends. Call it in one."""
    shares = UserShare.objects.filter(user=user).select_for_update()
    if (share := shares.first()) is not None:
        return share
    # Another request may insert it at the same time.
    UserShare.objects.get_or_create(user=user)
    return shares.get()


def check(user: User, cost: float, requests: int = 1, added_bytes: int = 0, *, queued: int | None = None) -> None:
    """Check that this user may add `requests` more requests of this total cost and so many bytes now. Raises `OverLimit`.

    `queued` of them are to wait for a worker, by default all.
    """
    limits = user_limits(user)
    now = timezone.now()
    _check_queued(user, limits, requests if queued is None else queued)
    _check_rate(user, requests)
    _check_cost(user, limits, cost, requests, now)
    _check_bytes(user, limits, added_bytes)


def spent(user: User, now: datetime) -> float:
    """Return the cost of the user's requests since midnight."""
    today = Generation.objects.filter(user=user, pk__gte=first_id(start_of_day(timezone.localdate(now))))
    return today.aggregate(spent=Sum("cost"))["spent"] or 0.0


def stored_bytes(user: User) -> int:
    """Return the bytes of all files that are stored for the user, in the trash, too, and that the unfinished may add."""
    rows = Generation.objects.filter(user=user, deleted=None).order_by()
    of_generations = rows.aggregate(sum=Sum("input_bytes") + Sum("output_bytes"))["sum"] or 0
    exports = DataExport.objects.filter(user=user).aggregate(sum=Sum("size"))["sum"] or 0
    return int(of_generations + exports)


def _check_queued(user: User, limits: UserLimits, requests: int) -> None:
    if limits.queued is None:
        return
    queued = Generation.objects.filter(user=user, state=State.QUEUED).count()
    if queued + requests <= limits.queued:
        return
    remaining = max(0, limits.queued - queued)
    if remaining:
        message = (
            f"These are {requests} requests, and {remaining} more of at most {limits.queued} can be queued now; send "
            "fewer, or wait for some to start."
        )
    else:
        message = (
            f"You have {queued} queued request{'s' if queued != 1 else ''} of at most {limits.queued}; wait for one to "
            "start, or cancel one."
        )
    raise OverLimit(ErrorCode.TOO_MANY_QUEUED, message, limits.queued, remaining)


def _check_rate(user: User, requests: int) -> None:
    current = rate(user)
    if current is None or requests <= current.remaining:
        return
    reset = current.reset or 60
    if current.remaining:
        message = (
            f"These are {requests} requests, and {current.remaining} of {current.limit} a minute remain; send fewer, or "
            f"try again in {reset} seconds."
        )
    else:
        message = f"You have sent {current.limit} requests within a minute, the maximum; try again in {reset} seconds."
    raise OverLimit(ErrorCode.TOO_MANY_REQUESTS, message, current.limit, current.remaining, reset)


def _check_cost(user: User, limits: UserLimits, cost: float, requests: int, now: datetime) -> None:
    if limits.daily_cost is None:
        return
    remaining = max(0.0, limits.daily_cost - spent(user, now))
    if cost > remaining:
        raise OverLimit(
            ErrorCode.COST_EXCEEDED,
            f"{'This request costs' if requests == 1 else 'These requests cost'} {cost:.3g}, and {remaining:.3g} of your "
            f"daily {limits.daily_cost:.3g} remain; use fewer steps or pictures or a smaller one, or try again tomorrow.",
            limits.daily_cost,
            remaining,
            _seconds(start_of_day(timezone.localdate(now)) + timedelta(days=1) - now),
        )


def _check_bytes(user: User, limits: UserLimits, added_bytes: int) -> None:
    """Check that there is room for `added_bytes` more; for none, that the limit is not reached."""
    if limits.stored_bytes is None:
        return
    stored = stored_bytes(user)
    if stored + max(1, added_bytes) <= limits.stored_bytes:
        return
    stands = f"{filesizeformat(stored)} of at most {filesizeformat(limits.stored_bytes)} are stored for you"
    needs = f", and this may take {filesizeformat(added_bytes)} more" if added_bytes else ""
    raise OverLimit(
        ErrorCode.STORAGE_EXCEEDED,
        f"{stands}{needs}; delete pictures and empty the trash.".replace("\xa0", " "),
        limits.stored_bytes,
        max(0, limits.stored_bytes - stored),
    )


def _seconds(duration: timedelta) -> int:
    """Return whole seconds, rounded up, at least 1."""
    return max(1, int(duration.total_seconds()) + 1)
