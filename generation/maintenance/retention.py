"""Retention rules, by which old generations are deleted, and legal holds, which exempt single ones.

A rule goes through the ids, oldest first, in bounded steps, and stores how far it got. Once a day it starts again, for
generations that were unfinished or on hold. The reaper takes a step of each enabled rule in every round.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import F, ProtectedError, Q, QuerySet
from django.utils import timezone

from accounts import audit
from accounts.models import User
from generation.library import deletion, files, search
from generation.models import (
    FINAL_STATES,
    Generation,
    RetentionRule,
    first_id,
)

LOOKED_AT = 500
"""Most rows that one step reads."""

REMOVED_AT_ONCE = 20
"""Most generations that one step of the reaper changes, so that a round stays short."""

REMOVED_BY_HAND = 200
MOST_COUNTED = 10_000

_ROUND = timedelta(days=1)


@dataclass(frozen=True)
class Preview:
    """What a rule would change now: number of generations, at most `MOST_COUNTED`, and creation time of the oldest."""

    count: int
    oldest: datetime | None

    @property
    def is_capped(self) -> bool:
        return self.count >= MOST_COUNTED


def preview(rule: RetentionRule) -> Preview:
    """Return what the rule would change now."""
    rows = due(rule, timezone.now())
    oldest = rows.order_by("pk").values_list("created", flat=True).first()
    return Preview(rows.order_by()[:MOST_COUNTED].count(), oldest)


def due(rule: RetentionRule, now: datetime) -> QuerySet[Generation]:
    """Return the generations that the rule applies to."""
    rows: QuerySet[Generation] = _old(rule, now).filter(_removable(rule))
    return rows


def _old(rule: RetentionRule, now: datetime) -> QuerySet[Generation]:
    rows: QuerySet[Generation] = Generation.objects.filter(pk__lt=first_id(now - timedelta(days=rule.days)))
    return rows


def _removable(rule: RetentionRule) -> Q:
    ended = Q(state=rule.state) if rule.state else Q(state__in=FINAL_STATES)
    match rule.what:
        case RetentionRule.What.UPLOADS:
            return ended & Q(legal_hold=False, deleted=None) & ~Q(input="")
        case RetentionRule.What.CONTENT:
            return ended & Q(legal_hold=False, deleted=None)
        case _:
            return ended & Q(legal_hold=False)


def step_all() -> int:
    """Take a step of each enabled rule. Returns the number of changed generations."""
    return sum(step(rule, REMOVED_AT_ONCE) for rule in RetentionRule.objects.filter(enabled=True))


def step(rule: RetentionRule, most: int, anew: bool = False) -> int:
    """Read up to `LOOKED_AT` rows, and apply the rule to up to `most`. Returns the number of changed generations.

    A rule that has finished its round starts again after a day, or now if `anew`.
    """
    now = timezone.now()
    if rule.is_through and (anew or rule.began is None or rule.began < now - _ROUND):
        # The first to begin anew counts from nothing: staff and the periodic job may do so at once.
        RetentionRule.objects.filter(pk=rule.pk, began=rule.began).update(began=now, removed=0)
        rule.reached, rule.is_through, rule.began, rule.removed = None, False, now, 0
    was_through = rule.is_through
    old = _old(rule, now).filter(pk__gt=rule.reached) if rule.reached else _old(rule, now)
    ids = list(old.order_by("pk").values_list("pk", flat=True)[:LOOKED_AT])
    # At the end of what is old enough, the next to get so old are waited for.
    rule.is_through = len(ids) < LOOKED_AT
    chosen = list(Generation.objects.filter(_removable(rule), pk__in=ids).order_by("pk")[: most + 1]) if ids else []
    if len(chosen) > most:
        rule.is_through = False
        chosen.pop()
        rule.reached = chosen[-1].pk
    elif ids:
        rule.reached = ids[-1]
    removed = sum(_remove(rule, row) for row in chosen)
    fields = {name: getattr(rule, name) for name in ("reached", "is_through", "began")}
    own = RetentionRule.objects.filter(pk=rule.pk)
    own.update(**fields, removed=F("removed") + removed)
    if removed:
        rule.removed = own.values_list("removed", flat=True).first() or removed
    # Once a round, though its last step may find nothing more; and then for each that gets old enough meanwhile.
    if rule.is_through and rule.removed and (removed or not was_through):
        audit.record(None, "retention.round", rule, None, {"rule": str(rule), "generations": rule.removed})
    return removed


def _remove(rule: RetentionRule, row: Generation) -> bool:
    match rule.what:
        case RetentionRule.What.UPLOADS:
            return _remove_upload(row)
        case RetentionRule.What.CONTENT:
            return deletion.delete(row)
        case _:
            return _remove_row(row)


def _remove_upload(row: Generation) -> bool:
    """Remove the uploaded picture but not its digest and size. Returns False if it is gone already or on hold."""
    names = [str(file.name) for file in (row.input, row.input_thumbnail) if file]
    with transaction.atomic():
        rows = Generation.objects.filter(pk=row.pk, input=row.input.name, legal_hold=False)
        if not rows.update(input="", input_thumbnail=""):
            return False
        file_deletion = files.delete_later(names)
    files.delete_now(file_deletion)
    return True


def _remove_row(row: Generation) -> bool:
    """Delete the row and all that belongs to it. Returns False if it is on hold or a protected row refers to it."""
    if row.deleted is None and not deletion.delete(row):
        return False
    try:
        with transaction.atomic():
            # Its files are recorded for deletion, which needs no row.
            gone, _ = Generation.objects.filter(pk=row.pk, legal_hold=False).exclude(deleted=None).delete()
            if gone:
                search.unindex([row.pk])
    except ProtectedError:
        return False
    return gone > 0


def hold(rows: QuerySet[Generation]) -> int:
    """Put these on legal hold: nothing of them is deleted until they are released. Returns the number of changed rows."""
    return rows.filter(legal_hold=False, deleted=None).update(legal_hold=True)


def release(rows: QuerySet[Generation]) -> int:
    """Release these from legal hold. Returns the number of changed rows."""
    return rows.filter(legal_hold=True).update(legal_hold=False)


def set_hold(generation_id: UUID, held: bool, by: User, reason: str) -> str:
    """Put a generation on legal hold or release it, and log who did it and why. Returns an error, empty if done."""
    # PostgreSQL stores no NUL.
    reason = reason.replace("\0", "").strip()
    if not reason:
        return "say why"
    rows = Generation.objects.filter(pk=generation_id)
    with transaction.atomic():
        if not (hold(rows) if held else release(rows)):
            return "it is on hold already, or was deleted" if held else "it is not on hold"
        verb = "hold" if held else "release"
        audit.record(
            by, f"generation.{verb}", rows.get(), {"legal_hold": not held}, {"legal_hold": held, "reason": reason[:200]}
        )
    return ""


def on_hold() -> QuerySet[Generation]:
    rows: QuerySet[Generation] = Generation.objects.filter(legal_hold=True)
    return rows
