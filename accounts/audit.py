"""The audit log: every change that staff make, with who, what, before, after and the request's id.

It is written in the transaction of the change, so that there is none without the other.
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
    """Note that staff did something; `actor` None is a command.

    `action` is the kind of thing and a verb, such as `worker.drain`. `target` is a row, or the name of what is none, such
    as a worker or a pool. `before` and `after` hold only what changed: values that JSON can tell, none of them a secret or
    the words of a person.
    """
    kind, target_id = ("", target) if isinstance(target, str) else (target._meta.label_lower, str(target.pk))
    known = actor if isinstance(actor, User) else None
    entry: AuditEntry = AuditEntry.objects.create(
        actor=known,
        actor_name=known.get_username() if known else "",
        action=action,
        kind=kind,
        target=target_id[:200],
        before=_plain(before),
        after=_plain(after),
        request_id=request_ids.current()[:64],
    )
    return entry


def _plain(values: dict[str, Any] | None) -> dict[str, Any] | None:
    """The same with rows as their ids and dates as text."""
    return None if values is None else {name: _value(value) for name, value in values.items()}


def _value(value: Any) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Model():
            return str(value.pk)
        case dict():
            return {str(key): _value(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_value(item) for item in value]
    try:
        return DjangoJSONEncoder().default(value)
    except TypeError:
        return str(value)
