"""What a user has asked for: requests, pictures and cost by day, token and model, and today against the limits.

All of it comes from the rows of the days that are shown, tombstones among them: what was deleted was used all the same.
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
    """What this user has used on the last days, today among them. Two queries, whatever they find."""
    today = timezone.localdate()
    shown = [today - timedelta(days=number) for number in reversed(range(days))]
    amounts = {measure: Amounts(dict.fromkeys(shown, 0)) for measure in MEASURES}
    for number, token, model, *found in _by_day(user, shown):
        for measure, amount in zip(MEASURES, found, strict=True):
            _add(amounts[measure], shown[number], token, model, amount)
    names: dict[int | None, str] = dict(ApiToken.objects.filter(user=user).values_list("pk", "name"))
    return Usage(amounts, names)


def now(user: User, spent_today: float) -> Gauges:
    """This user's use of each limit at this moment. `spent_today` is the cost that `of` found for today."""
    allowed = limits.user_limits(user)
    rate = limits.rate(user)
    rows = Generation.objects.filter(user=user)
    return Gauges(
        cost=Gauge(spent_today, allowed.daily_cost),
        per_minute=Gauge(rate.limit - rate.remaining if rate else 0, allowed.per_minute),
        queued=Gauge(rows.filter(state=State.QUEUED).count(), allowed.queued),
        running=Gauge(rows.filter(state=State.RUNNING).count(), allowed.running),
    )


def _by_day(user: User, days: Sequence[date]) -> list[tuple[int, int | None, str, int, int, float]]:
    """Requests, images and cost by number of the day, token and model.

    A day is a range of ids, so one index holds all that is asked of the rows: to look at each would cost many times as much.
    """
    ends = [start_of_day(day) for day in (*days, days[-1] + timedelta(days=1))]
    ids = [Generation._meta.pk.get_db_prep_value(first_id(end), connection) for end in ends]
    ranges = [part for number in range(len(days)) for part in (number, ids[number], ids[number + 1])]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH days(day, start, stop) AS (VALUES {", ".join(["(%s, %s, %s)"] * len(days))})
            SELECT day, token_id, model_id, COUNT(*),
                CAST(SUM((SELECT COUNT(*) FROM generation_generatedimage made WHERE made.generation_id = asked.id)) AS int),
                SUM(cost)
            FROM days JOIN generation_generation asked ON asked.user_id = %s AND asked.id >= start AND asked.id < stop
            GROUP BY day, token_id, model_id
            """,  # noqa: S608  nothing in it is anybody's words
            [*ranges, user.pk],
        )
        found: list[tuple[int, int | None, str, int, int, float]] = cursor.fetchall()
    return found


def _add(amounts: Amounts, day: date, token: int | None, model: str, amount: float) -> None:
    if amount:
        amounts.days[day] += amount
        amounts.tokens[token] += amount  # type: ignore[assignment]  # costs are no integers
        amounts.models[model] += amount  # type: ignore[assignment]
