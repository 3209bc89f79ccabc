"""The usage of a user: requests, pictures and cost by day, token and model, and their limits now.

It is computed from the generations of these days, deleted ones included.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from django.db import connection
from django.utils import timezone

from accounts.models import ApiToken, User
from generation.days import start_of_day
from generation.jobs import limits
from generation.models import Generation, State, first_id

MEASURES = ("requests", "images", "cost")


@dataclass
class Amounts:
    """A measure by day, by token id and by model id. Requests of the studio and of deleted tokens have the token None."""

    days: dict[date, float]
    tokens: Counter[int | None] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> float:
        return sum(self.days.values())


@dataclass(frozen=True)
class Usage:
    """The amounts of each measure over the same days, and the names of the user's tokens by id."""

    amounts: Mapping[str, Amounts]
    tokens: Mapping[int | None, str]


@dataclass(frozen=True)
class Gauge:
    """The use of a limit now. `limit` is None without a limit."""

    used: float
    limit: float | None

    @property
    def percent(self) -> int:
        """From 0 to 100, rounded up; 100 for a limit of 0."""
        return min(100, math.ceil(100 * self.used / self.limit)) if self.limit else 100 * (self.limit == 0)


@dataclass(frozen=True)
class Gauges:
    """The use of each limit of a user."""

    cost: Gauge
    per_minute: Gauge
    queued: Gauge
    running: Gauge
    stored_bytes: Gauge


def of(user: User, days: int) -> Usage:
    """Return the usage of this user on the last `days` days, today included. Two queries."""
    today = timezone.localdate()
    dates = [today - timedelta(days=number) for number in reversed(range(days))]
    amounts = {measure: Amounts(dict.fromkeys(dates, 0)) for measure in MEASURES}
    for number, token, model, *values in _by_day(user, dates):
        for measure, amount in zip(MEASURES, values, strict=True):
            _add(amounts[measure], dates[number], token, model, amount)
    names: dict[int | None, str] = dict(ApiToken.objects.filter(user=user).values_list("pk", "name"))
    return Usage(amounts, names)


def now(user: User, spent_today: float) -> Gauges:
    """Return the use of each limit of this user now. `spent_today` is the cost of today that `of` returned."""
    user_limits = limits.user_limits(user)
    rate = limits.rate(user)
    rows = Generation.objects.filter(user=user)
    return Gauges(
        cost=Gauge(spent_today, user_limits.daily_cost),
        per_minute=Gauge(rate.limit - rate.remaining if rate else 0, user_limits.per_minute),
        queued=Gauge(rows.filter(state=State.QUEUED).count(), user_limits.queued),
        running=Gauge(rows.filter(state=State.RUNNING).count(), user_limits.running),
        stored_bytes=Gauge(limits.stored_bytes(user), user_limits.stored_bytes),
    )


def _by_day(user: User, days: Sequence[date]) -> list[tuple[int, int | None, str, int, int, float]]:
    """Return rows of: index of the day, token id, model id, requests, images, cost.

    A day is a range of ids, so that the index `usage` covers the query; reading the rows would be many times slower.
    """
    ends = [start_of_day(day) for day in (*days, days[-1] + timedelta(days=1))]
    ids = [Generation._meta.pk.get_db_prep_value(first_id(end), connection) for end in ends]
    ranges = [part for number in range(len(days)) for part in (number, ids[number], ids[number + 1])]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH days(day, start, stop) AS (VALUES {", ".join(["(%s, %s, %s)"] * len(days))})
            SELECT day, token_id, model_id, COUNT(*),
                CAST(SUM(
                    (SELECT COUNT(*) FROM generation_generatedimage image WHERE image.generation_id = generation.id)
                ) AS int),
                SUM(cost)
            FROM days JOIN generation_generation generation
                ON generation.user_id = %s AND generation.id >= start AND generation.id < stop
            GROUP BY day, token_id, model_id
            """,  # noqa: S608  contains no values
            [*ranges, user.pk],
        )
        rows: list[tuple[int, int | None, str, int, int, float]] = cursor.fetchall()
    return rows


def _add(amounts: Amounts, day: date, token: int | None, model: str, amount: float) -> None:
    if amount:
        amounts.days[day] += amount
        amounts.tokens[token] += amount  # type: ignore[assignment]  # costs are no integers
        amounts.models[model] += amount  # type: ignore[assignment]
