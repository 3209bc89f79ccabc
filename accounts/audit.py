"""The audit log: every change by staff, with actor, action, target, values before and after, and request id.

An entry is written in the transaction of the change, so that neither exists without the other.
"""

from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model

from accounts import request_ids
from accounts.models import AuditEntry, User


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
    kind, target_id = ("", target) if isinstance(target, str) else (target._meta.label_lower, str(target.pk))
    user = actor if isinstance(actor, User) else None
    entry: AuditEntry = AuditEntry.objects.create(
        actor=user,
        actor_name=user.get_username() if user else "",
        action=action,
        kind=kind,
        target=target_id[:200],
        before=_json_values(before),
        after=_json_values(after),
        request_id=request_ids.current()[:64],
    )
    return entry


def _json_values(values: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if values is None else {name: _json_value(value) for name, value in values.items()}


def _json_value(value: Any) -> Any:
    """Convert a value to JSON types: a row to its id, dates and anything else to text."""
    match value:
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
