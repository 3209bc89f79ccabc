"""Bounds of sign-up: how often the page may be submitted from an address and from its network."""

from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts.addresses import counted_address, counted_network
from accounts.models import SignUpAttempt

WINDOW = timedelta(days=1)
NETWORK_FACTOR = 5
"""Attempts from a network, for each that is allowed from an address."""


class TooManyAttempts(Exception):
    """There were as many attempts as are allowed within `WINDOW`. `end` is when the next one is."""

    def __init__(self, end: datetime) -> None:
        super().__init__()
        self.end = end


def count_attempt(address: str) -> None:
    """Count an attempt from this address, whether it will succeed or not. Raises `TooManyAttempts` if it is one too many."""
    limit = settings.SIGN_UP_ATTEMPTS
    if limit == 0:
        return
    # Stored before it is counted: so of attempts at the same moment each counts the others.
    attempt = SignUpAttempt.objects.create(
        address=_digest(counted_address(address)), network=_digest(counted_network(address))
    )
    recent = SignUpAttempt.objects.filter(when__gt=timezone.now() - WINDOW)
    for maximum, attempts in (
        (limit, recent.filter(address=attempt.address)),
        (limit * NETWORK_FACTOR, recent.filter(network=attempt.network)),
    ):
        if attempts.count() > maximum:
            end = attempts.earliest("when").when + WINDOW
            attempt.delete()
            raise TooManyAttempts(end)


def prune() -> None:
    """Delete attempts that no longer count."""
    SignUpAttempt.objects.filter(when__lte=timezone.now() - WINDOW).delete()


def _digest(address: str | None) -> str:
    # All that have no address, as behind a unix socket, are one.
    return salted_hmac("accounts.sign_ups", address or "", algorithm="sha256").hexdigest()
