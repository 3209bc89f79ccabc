"""Retention rules, by which old generations are deleted, and legal holds, which exempt single ones.

A rule goes through the ids, oldest first, in bounded steps, and stores how far it got. Once a day it starts again, for
generations that were unfinished or on hold. The reaper takes a step of each enabled rule in every round.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, Min, OuterRef, ProtectedError, Q, QuerySet
from django.utils import timezone

from accounts import audit
from accounts.models import User
from accounts.refusals import StaffRefusal
from generation.library import deletion, files, search
from generation.models import (
    FINAL_STATES,
    Generation,
    ReferencePicture,
    RetentionRule,
    first_id,
)

SCAN_LIMIT = 500
"""Most rows that one step reads."""

REAPER_LIMIT = 20
"""Most generations that one step of the reaper changes, so that a round stays short."""

MANUAL_LIMIT = 200
"""Most generations that a run by staff changes."""

MAX_COUNTED = 10_000

_ROUND = timedelta(days=1)


class HoldRefused(StaffRefusal):
    """A legal hold that was neither put on nor lifted."""


@dataclass(frozen=True)
class Preview:
    """What a rule would change now: number of generations, at most `MAX_COUNTED`, and creation time of the oldest."""

    count: int
    oldest: datetime | None

    @property
    def is_capped(self) -> bool:
        return self.count >= MAX_COUNTED


def preview(rule: RetentionRule) -> Preview:
    """Return what the rule would change now."""
    rows = due(rule, timezone.now())
    oldest = rows.order_by("pk").values_list("created", flat=True).first()
    return Preview(rows.order_by()[:MAX_COUNTED].count(), oldest)


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
            has_reference = Exists(ReferencePicture.objects.filter(generation=OuterRef("pk")).exclude(file=""))
            has_upload = ~Q(input="", mask="") | Q(has_reference)
            return ended & Q(legal_hold=False, deleted=None) & has_upload
        case RetentionRule.What.CONTENT:
            return ended & Q(legal_hold=False, deleted=None)
        case _:
            return ended & Q(legal_hold=False)


def upload_expiry(generation: Generation) -> datetime | None:
    """Return when a rule may remove the upload of an ended generation; None if no rule will, or it is removed already."""
    if not generation.input or generation.legal_hold:
        return None
    rules = RetentionRule.objects.filter(
        enabled=True, state__in=("", generation.state), what=RetentionRule.What.UPLOADS
    )
    days = rules.aggregate(least=Min("days"))["least"]
    return None if days is None else generation.created + timedelta(days=days)


def step_all() -> int:
    """Take a step of each enabled rule. Returns the number of changed generations."""
    return sum(step(rule, REAPER_LIMIT) for rule in RetentionRule.objects.filter(enabled=True))


def step(rule: RetentionRule, limit: int, restart: bool = False) -> int:
    """Read up to `SCAN_LIMIT` rows, and apply the rule to up to `limit`. Returns the number of changed generations.

    A rule that has finished its round starts again after a day, or now with `restart`.
    """
    now = timezone.now()
    if rule.is_finished and (restart or rule.started is None or rule.started < now - _ROUND):
        # Only the first of two processes that start a round resets the count.
        RetentionRule.objects.filter(pk=rule.pk, started=rule.started).update(started=now, deleted_count=0)
        rule.last_id, rule.is_finished, rule.started, rule.deleted_count = None, False, now, 0
    was_at, was_finished = rule.last_id, rule.is_finished
    old = _old(rule, now).filter(pk__gt=rule.last_id) if rule.last_id else _old(rule, now)
    ids = list(old.order_by("pk").values_list("pk", flat=True)[:SCAN_LIMIT])
    # A finished rule still reads the rows that become old enough until its next round.
    rule.is_finished = len(ids) < SCAN_LIMIT
    rows = list(Generation.objects.filter(_removable(rule), pk__in=ids).order_by("pk")[: limit + 1]) if ids else []
    if len(rows) > limit:
        rule.is_finished = False
        rows.pop()
        rule.last_id = rows[-1].pk
    elif ids:
        rule.last_id = ids[-1]
    count = sum(_remove(rule, row) for row in rows)
    stored_rule = RetentionRule.objects.filter(pk=rule.pk)
    fields = {name: getattr(rule, name) for name in ("last_id", "is_finished", "started")}
    # Most rounds find nothing, and a write would wait for other writers.
    if count or (rule.last_id, rule.is_finished) != (was_at, was_finished):
        stored_rule.update(**fields, deleted_count=F("deleted_count") + count)
    if count:
        rule.deleted_count = stored_rule.values_list("deleted_count", flat=True).first() or count
    # Once a round, even if its last step changes nothing; then for each step that changes something until the next round.
    if rule.is_finished and rule.deleted_count and (count or not was_finished):
        audit.record(None, "retention.round", rule, None, {"rule": str(rule), "generations": rule.deleted_count})
    return count


def _remove(rule: RetentionRule, row: Generation) -> bool:
    match rule.what:
        case RetentionRule.What.UPLOADS:
            return _remove_upload(row)
        case RetentionRule.What.CONTENT:
            return deletion.delete(row)
        case _:
            return _remove_row(row)


def _remove_upload(row: Generation) -> bool:
    """Remove the uploads but not their digests and sizes. Returns False if they were removed before or are on hold."""
    names = row.input_file_names
    with transaction.atomic():
        rows = Generation.objects.filter(pk=row.pk, input=row.input.name, mask=row.mask.name, legal_hold=False)
        if not rows.update(input="", input_thumbnail="", mask="", mask_thumbnail="", input_bytes=0):
            return False
        row.references.update(file="", thumbnail="")
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
            count, _ = Generation.objects.filter(pk=row.pk, legal_hold=False).exclude(deleted=None).delete()
            if count:
                search.unindex([row.pk])
    except ProtectedError:
        return False
    return count > 0


def hold(rows: QuerySet[Generation]) -> int:
    """Put these on legal hold: nothing of them is deleted until it is lifted. Return the number of changed rows."""
    return rows.filter(legal_hold=False, deleted=None).update(legal_hold=True)


def lift_hold(rows: QuerySet[Generation]) -> int:
    """Lift the legal hold of these. Return the number of changed rows."""
    return rows.filter(legal_hold=True).update(legal_hold=False)


def set_hold(generation_id: UUID, is_on_hold: bool, by: User, reason: str) -> None:
    """Put a generation on legal hold or lift the hold, and log who did it and why. Raises `HoldRefused`."""
    # PostgreSQL stores no NUL.
    reason = reason.replace("\0", "").strip()
    if not reason:
        raise HoldRefused("say why")
    rows = Generation.objects.filter(pk=generation_id)
    with transaction.atomic():
        if not (hold(rows) if is_on_hold else lift_hold(rows)):
            raise HoldRefused("it is on hold already, or was deleted" if is_on_hold else "it is not on hold")
        action = f"generation.{'hold' if is_on_hold else 'lift_hold'}"
        after = {"legal_hold": is_on_hold, "reason": reason[:200]}
        audit.record(by, action, rows.get(), {"legal_hold": not is_on_hold}, after)


def on_hold() -> QuerySet[Generation]:
    rows: QuerySet[Generation] = Generation.objects.filter(legal_hold=True)
    return rows
