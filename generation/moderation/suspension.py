"""Suspension: a person's tokens and sessions are dead at once, what they have in the queue is canceled. It can be lifted."""

from django.db import transaction

from accounts import audit
from accounts.models import User
from generation.jobs import limits, queue
from generation.models import Generation, State


class SuspensionRefused(Exception):
    """This person is not suspended by that one; the text says why."""


def suspend(person: User, by: User) -> int:
    """Suspend a person. Returns how many of their generations were canceled. Raises `Refused`.

    Tokens and sessions are refused from the next request on, since each asks whether its user is active; nothing about
    them is changed, so that lifting gives all back.
    """
    if person == by:
        raise SuspensionRefused("you cannot suspend yourself")
    if person.is_staff and not by.is_superuser:
        raise SuspensionRefused("only superusers suspend staff")
    with transaction.atomic():
        # Whoever submits takes this lock, too: what is queued is seen below, what comes after is refused.
        limits.lock_user(person)
        was_active = bool(User.objects.filter(pk=person.pk, is_active=True).update(is_active=False))
    person.is_active = False
    # Of whoever was suspended already, too: a process that died in between left it.
    open_ones = Generation.objects.filter(user=person, state__in=(State.QUEUED, State.RUNNING))
    canceled = sum(queue.cancel(generation) for generation in open_ones)
    if was_active or canceled:
        audit.record(by, "user.suspend", person, {"is_active": was_active}, {"is_active": False, "canceled": canceled})
    return canceled


def lift(person: User, by: User) -> bool:
    """Let a suspended person back in. False: they were not suspended. Raises `Refused`."""
    if person.is_staff and not by.is_superuser:
        raise SuspensionRefused("only superusers let staff back in")
    if not User.objects.filter(pk=person.pk, is_active=False).update(is_active=True):
        return False
    audit.record(by, "user.lift", person, {"is_active": False}, {"is_active": True})
    return True
