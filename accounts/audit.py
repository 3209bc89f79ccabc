"""The audit log: every change by staff and whose pictures they looked at, with actor, values before and after, request id.

An entry is written in the transaction of the change, so that neither exists without the other. Each contains the digest of
the one before, so that `verify` notices an entry that was changed, added or removed later.
"""

import hashlib
import json
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction
from django.db.models import Model
from django.utils import timezone

from accounts import request_ids, security_log
from accounts.models import AuditEntry, User

VIEW = "pictures.view"
VIEW_WINDOW = timedelta(minutes=15)
"""For how long further views of the same thing by the same person are not recorded again."""

recorded: ContextVar[list[AuditEntry] | None] = ContextVar("recorded", default=None)
"""The entries of the current request, if somebody wants to know them."""


def record(
    actor: User | AnonymousUser | None,
    action: str,
    target: Model | str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> AuditEntry:
    """Record an action of staff. `actor` is None for a command of `manage.py`.

    `action` is a kind and a verb, such as `worker.drain`. `target` is a row, or the name of something without a row, such as
    a worker or a pool. `before` and `after` have only the values that changed; no secrets and no texts of users.
    """
    kind, target_id = _kind_and_id(action, target)
    user = actor if isinstance(actor, User) else None
    entry = AuditEntry(
        actor_id=user.pk if user else None,
        actor_name=user.get_username() if user else "",
        action=action,
        kind=kind,
        target=target_id,
        before=_json_values(before),
        after=_json_values(after),
        request_id=request_ids.current()[:64],
    )
    with transaction.atomic():
        if connection.vendor == "postgresql":
            # One writer at a time, as in SQLite, so that the chain has no branches. Readers do not wait.
            with connection.cursor() as cursor:
                cursor.execute(f"LOCK TABLE {AuditEntry._meta.db_table} IN SHARE ROW EXCLUSIVE MODE")
        last = AuditEntry.objects.order_by("-id").values_list("digest", flat=True).first()
        entry.digest = _digest(last or "", entry)
        entry.save()
    transaction.on_commit(lambda: _log(entry))
    if (entries := recorded.get()) is not None:
        entries.append(entry)
    return entry


def record_view(actor: User, target: Model | str, after: dict[str, Any] | None = None) -> None:
    """Record that staff looked at pictures of others, once in `VIEW_WINDOW`. `target` is a row, or the name of a page."""
    kind, target_id = _kind_and_id(VIEW, target)
    earlier = AuditEntry.objects.filter(
        kind=kind,
        target=target_id,
        action=VIEW,
        actor_id=actor.pk,
        when__gt=timezone.now() - VIEW_WINDOW,
    )
    if not earlier.exists():
        record(actor, VIEW, target, None, after)


def verify(expected: str = "") -> AuditEntry | None:
    """Compute the digests again. Returns the last entry, or None of an empty log.

    Raises `BrokenChain` at the first entry whose digest is wrong, or if no entry has the digest `expected`.
    """
    last = None
    is_found = not expected
    for entry in AuditEntry.objects.order_by("id").iterator(chunk_size=1000):
        if entry.digest != _digest(last.digest if last else "", entry):
            raise BrokenChain(
                f"Entry {entry.pk} or the one before it was changed, added or removed after it was written."
            )
        is_found = is_found or entry.digest == expected
        last = entry
    if not is_found:
        raise BrokenChain("No entry has that digest: entries were removed, or all were written anew.")
    return last


class BrokenChain(Exception):
    """The audit log is not as it was written. The message says where."""


def _log(entry: AuditEntry) -> None:
    """Write the entry's digest where who can change the database may not reach: see `verify`."""
    security_log.log(
        "audit.record",
        user=entry.actor_name,
        action=entry.action,
        kind=entry.kind,
        target=entry.target,
        entry=entry.pk,
        digest=entry.digest,
    )


def _digest(previous: str, entry: AuditEntry) -> str:
    values = [
        *(previous, entry.when.isoformat(), entry.actor_id, entry.actor_name, entry.action, entry.kind, entry.target),
        *(entry.before, entry.after, entry.request_id),
    ]
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _kind_and_id(action: str, target: Model | str) -> tuple[str, str]:
    """Return the table and the id of a row; of something without a row what the action begins with, and its name."""
    if isinstance(target, str):
        return action.partition(".")[0], target[:200]
    return target._meta.label_lower, str(target.pk)[:200]


def _json_values(values: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if values is None else {name: _json_value(value) for name, value in values.items()}


def _json_value(value: Any) -> Any:
    """Convert a value to JSON types: a row to its id, dates and anything else to text."""
    match value:
        case float() if value.is_integer():
            # PostgreSQL may write it either way, and the digest must be of what is read.
            return int(value)
        case None | bool() | int() | float() | str():
            return value
        case Model():
            return str(value.pk)
        case dict():
            return {str(key): _json_value(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_json_value(item) for item in value]
    try:
        return DjangoJSONEncoder().default(value)
    except TypeError:
        return str(value)
