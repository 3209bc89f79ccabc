"""Suspend users: their tokens and sessions stop working, and their open generations are canceled. It can be lifted."""

from django.db import transaction

from accounts import audit
from accounts.models import User
from generation.jobs import limits, queue
from generation.models import Generation, State


class SuspensionRefused(Exception):
    """A suspension, or its end, that the acting user may not decide. The text says why."""


def suspend(user: User, by: User) -> int:
    """Suspend a user and cancel their open generations; return how many were canceled. Raises `SuspensionRefused`.

    Tokens and sessions are refused from the next request on, since each request checks that its user is active. They are
    not changed, so lifting the suspension restores them.
    """
    if user == by:
        raise SuspensionRefused("you cannot suspend yourself")
    if user.is_staff and not by.is_superuser:
        raise SuspensionRefused("only superusers suspend staff")
    with transaction.atomic():
        # Submission takes this lock, too: requests submitted before are canceled below, later ones are refused.
        limits.lock_user(user)
        was_active = bool(User.objects.filter(pk=user.pk, is_active=True).update(is_active=False))
    user.is_active = False
    # Also for a user who was suspended already: a process may have died before it canceled everything.
    open_generations = Generation.objects.filter(user=user, state__in=(State.QUEUED, State.RUNNING))
    canceled = sum(queue.cancel(generation) for generation in open_generations)
    if was_active or canceled:
        audit.record(by, "user.suspend", user, {"is_active": was_active}, {"is_active": False, "canceled": canceled})
    return canceled


def lift(user: User, by: User) -> bool:
    """Lift the suspension of a user. Return False if they were not suspended. Raises `SuspensionRefused`."""
    if user.is_staff and not by.is_superuser:
        raise SuspensionRefused("only superusers lift the suspension of staff")
    if not User.objects.filter(pk=user.pk, is_active=False).update(is_active=True):
        return False
    audit.record(by, "user.lift", user, {"is_active": False}, {"is_active": True})
    return True
