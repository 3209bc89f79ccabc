"""What a user may still ask for: queued at once, requests per minute, cost per day; and how long the whole queue may be.

Defaults are settings, the admin overrides them for single users. `running at once` is kept by the claim: see
`generation.jobs.queue`. A check under the lock of the user's `Share` is exact, however many requests arrive at once.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Sum
from django.utils import timezone

from accounts.models import User
from generation.days import start_of_day
from generation.models import (
    Generation,
    State,
    UserShare,
    first_id,
)
from generation.parameters import ErrorCode, Refusal

_QUEUED_RETRY_SECONDS = 10
_QUEUE_FULL_RETRY_SECONDS = 30
_MINUTE = timedelta(minutes=1)


class OverLimit(Refusal):
    """A user's limit is reached. `reset` is in seconds from now."""

    def __init__(self, code: ErrorCode, message: str, limit: float, remaining: float, reset: int) -> None:
        headers = {
            "RateLimit-Reset": str(reset),
            "RateLimit-Limit": str(math.ceil(limit)),
            "RateLimit-Remaining": str(math.floor(remaining)),
        }
        super().__init__(code, message, retry_after=reset, headers=headers)
        self.limit = limit
        self.remaining = remaining
        self.reset = reset


class QueueFull(Refusal):
    """The queue of the whole service is as long as it may be."""

    def __init__(self) -> None:
        message = f"Too many requests are waiting; try again in {_QUEUE_FULL_RETRY_SECONDS} seconds."
        super().__init__(ErrorCode.QUEUE_FULL, message, retry_after=_QUEUE_FULL_RETRY_SECONDS)


@dataclass(frozen=True)
class Rate:
    """How many requests a minute a user may send, and how many now; more in `reset` seconds, 0 when none were sent."""

    limit: int
    remaining: int
    reset: int


@dataclass(frozen=True)
class UserLimits:
    """The limits of one user; None: no limit."""

    running: int | None
    queued: int | None
    per_minute: int | None
    daily_cost: float | None


def user_limits(user: User) -> UserLimits:
    """This user's own limits, the settings' where the admin set none."""
    if not settings.LIMITS:
        return UserLimits(None, None, None, None)
    return UserLimits(
        running=user.max_running if user.max_running is not None else settings.USER_MAX_RUNNING or None,
        queued=user.max_queued if user.max_queued is not None else settings.USER_MAX_QUEUED or None,
        per_minute=user.max_per_minute if user.max_per_minute is not None else settings.USER_MAX_PER_MINUTE or None,
        daily_cost=user.max_daily_cost if user.max_daily_cost is not None else settings.USER_MAX_DAILY_COST or None,
    )


def rate(user: User) -> Rate | None:
    """What is left of this user's minute; None: no limit."""
    limit = user_limits(user).per_minute
    if limit is None:
        return None
    now = timezone.now()
    recent = Generation.objects.filter(user=user, pk__gte=first_id(now - _MINUTE))
    times = list(recent.order_by("-pk").values_list("created", flat=True)[:limit])
    reset = _seconds(times[-1] + _MINUTE - now) if times else 0
    return Rate(limit, limit - len(times), reset)


def check_queue_capacity(requests: int = 1) -> None:
    """Whether so many more may wait. Raises `QueueFull`.

    Requests that come at the same instant may pass it together: it guards the disk, nobody's right.
    """
    if settings.MAX_QUEUE and Generation.objects.filter(state=State.QUEUED).count() + requests > settings.MAX_QUEUE:
        raise QueueFull


def lock_user(user: User) -> UserShare:
    """The user's share, locked until the transaction ends. Must be called in one."""
    UserShare.objects.get_or_create(user=user)
    return UserShare.objects.select_for_update().get(user=user)


def check(user: User, cost: float, requests: int = 1) -> None:
    """Whether this user may add so many requests, of this cost together, now. Raises `OverLimit`."""
    limits = user_limits(user)
    now = timezone.now()
    _check_queued(user, limits, requests)
    _check_rate(user, requests)
    _check_cost(user, limits, cost, requests, now)


def spent(user: User, now: datetime) -> float:
    """The cost of what this user has asked for since midnight."""
    today = Generation.objects.filter(user=user, pk__gte=first_id(start_of_day(timezone.localdate(now))))
    return today.aggregate(spent=Sum("cost"))["spent"] or 0.0


def _check_queued(user: User, limits: UserLimits, requests: int) -> None:
    if limits.queued is None:
        return
    queued = Generation.objects.filter(user=user, state=State.QUEUED).count()
    if queued < limits.queued < queued + requests:
        left = limits.queued - queued
        raise OverLimit(
            ErrorCode.TOO_MANY_QUEUED,
            f"These are {requests} requests at once, and {left} more of at most {limits.queued} may wait for you now; "
            "ask for fewer, or wait for some to start.",
            limits.queued,
            left,
            _QUEUED_RETRY_SECONDS,
        )
    if queued >= limits.queued:
        raise OverLimit(
            ErrorCode.TOO_MANY_QUEUED,
            f"{queued} requests of yours are waiting, of at most {limits.queued}; wait for one to start, or cancel one.",
            limits.queued,
            0,
            _QUEUED_RETRY_SECONDS,
        )


def _check_rate(user: User, requests: int) -> None:
    left = rate(user)
    if left is not None and 0 < left.remaining < requests:
        reset = left.reset or 60
        raise OverLimit(
            ErrorCode.TOO_MANY_REQUESTS,
            f"These are {requests} requests at once, and {left.remaining} of the {left.limit} that you may send within "
            f"a minute are left; ask for fewer, or try again in {reset} seconds.",
            left.limit,
            left.remaining,
            reset,
        )
    if left is not None and left.remaining == 0:
        reset = left.reset or 60
        raise OverLimit(
            ErrorCode.TOO_MANY_REQUESTS,
            f"You have sent {left.limit} requests within a minute, as many as you may; try again in {reset} seconds.",
            left.limit,
            0,
            reset,
        )


def _check_cost(user: User, limits: UserLimits, cost: float, requests: int, now: datetime) -> None:
    if limits.daily_cost is None:
        return
    left = max(0.0, limits.daily_cost - spent(user, now))
    if cost > left:
        raise OverLimit(
            ErrorCode.COST_EXCEEDED,
            f"{'This request costs' if requests == 1 else 'These requests cost'} {cost:.3g}, and {left:.3g} of "
            f"{limits.daily_cost:.3g} are left for you today; ask for fewer steps or pictures or a "
            "smaller one, or come back tomorrow.",
            limits.daily_cost,
            left,
            _seconds(start_of_day(timezone.localdate(now)) + timedelta(days=1) - now),
        )


def _seconds(left: timedelta) -> int:
    return max(1, int(left.total_seconds()) + 1)
