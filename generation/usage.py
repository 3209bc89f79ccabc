"""What a user has asked for: requests, pictures and cost by day, token and model, and today against the limits.

All of it comes from the rows of the days that are shown, tombstones among them: what was deleted was used all the same.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache

from django.db.models import Count, F, QuerySet, Sum, TextField
from django.db.models.functions import Cast, Substr
from django.utils import timezone

from accounts.models import ApiToken, User
from generation import allowance
from generation.models import GeneratedImage, Generation, State, first_id

MEASURES = ("requests", "images", "cost")
_HOUR, _MINUTE = len("2026-11-24 10"), len("2026-11-24 10:31")


@dataclass
class Amounts:
    """One number by day, by token and by model. No token: those whose row is gone, and requests of the studio."""

    days: dict[date, float]
    tokens: Counter[int | None] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> float:
        return sum(self.days.values())


@dataclass(frozen=True)
class Usage:
    """The amounts of each measure over the same days, and the names of the tokens that they speak of."""

    amounts: Mapping[str, Amounts]
    tokens: Mapping[int | None, str]


@dataclass(frozen=True)
class Gauge:
    """How much of a limit is used now; `limit` None: there is none."""

    used: float
    limit: float | None

    @property
    def percent(self) -> int:
        """0 to 100; what is used at all is at least 1."""
        return min(100, math.ceil(100 * self.used / self.limit)) if self.limit else 100 * (self.limit == 0)


@dataclass(frozen=True)
class Gauges:
    cost: Gauge
    per_minute: Gauge
    queued: Gauge
    running: Gauge


def of(user: User, days: int) -> Usage:
    """What this user has used on the last days, today among them. Three queries, whatever they find."""
    today = timezone.localdate()
    first = today - timedelta(days=days - 1)
    since = timezone.make_aware(datetime.combine(first, time.min))
    shown = [first + timedelta(days=number) for number in range(days)]
    amounts = {measure: Amounts(dict.fromkeys(shown, 0)) for measure in MEASURES}
    length = _HOUR if _on_the_hour(since) and _on_the_hour(timezone.localtime()) else _MINUTE
    rows = Generation.objects.filter(user=user, pk__gte=first_id(since))
    day_of = cache(_local_day)
    for moment, token, model, requests, cost in _by_time(rows, "", length, Count("pk"), Sum("cost")):
        _add(amounts["requests"], day_of(moment), token, model, requests)
        _add(amounts["cost"], day_of(moment), token, model, cost)
    pictures = GeneratedImage.objects.filter(generation__user=user, generation__gte=first_id(since))
    for moment, token, model, images in _by_time(pictures, "generation__", length, Count("pk")):
        _add(amounts["images"], day_of(moment), token, model, images)
    names: dict[int | None, str] = dict(ApiToken.objects.filter(user=user).values_list("pk", "name"))
    return Usage(amounts, names)


def now(user: User, spent_today: float) -> Gauges:
    """This user's use of each limit at this moment. `spent_today` is the cost that `of` found for today."""
    limits = allowance.allowed(user)
    rate = allowance.rate(user)
    rows = Generation.objects.filter(user=user)
    return Gauges(
        cost=Gauge(spent_today, limits.daily_cost),
        per_minute=Gauge(rate.limit - rate.remaining if rate else 0, limits.per_minute),
        queued=Gauge(rows.filter(state=State.QUEUED).count(), limits.queued),
        running=Gauge(rows.filter(state=State.RUNNING).count(), limits.running),
    )


def _by_time(rows: QuerySet, path: str, length: int, *sums: Count | Sum) -> QuerySet:  # type: ignore[type-arg]
    """Sums of the rows by hour or minute, token and model.

    Both databases write a time in UTC as the same text as far as its minute. Its beginning costs them far less than the
    truncation to a day of the time zone, which SQLite calls back into Python for.
    """
    moment = Substr(Cast(f"{path}created", TextField()), 1, length)
    grouped = rows.order_by().annotate(moment=moment, by=F(f"{path}token_id"), of=F(f"{path}model_id"))
    columns = ["moment", "by", "of"]
    found: QuerySet = grouped.values(*columns).annotate(*sums)  # type: ignore[type-arg]
    return found.values_list(*columns, *(one.default_alias for one in sums))


def _local_day(moment: str) -> date:
    return timezone.localdate(datetime.fromisoformat(moment).replace(tzinfo=UTC))


def _add(amounts: Amounts, day: date, token: int | None, model: str, amount: float) -> None:
    if amount and day in amounts.days:
        amounts.days[day] += amount
        amounts.tokens[token] += amount  # type: ignore[assignment]  # costs are no integers
        amounts.models[model] += amount  # type: ignore[assignment]


def _on_the_hour(moment: datetime) -> bool:
    return (moment.utcoffset() or timedelta()) % timedelta(hours=1) == timedelta()
