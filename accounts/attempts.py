"""Bounds of the pages that anybody may submit, such as sign-up: how often from an address and from its network."""

from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts.addresses import counted_address, counted_network
from accounts.models import Attempt

WINDOW = timedelta(days=1)
NETWORK_FACTOR = 5
"""Attempts from a network, for each that is allowed from an address."""


class TooManyAttempts(Exception):
    """There were as many attempts as are allowed within `WINDOW`. `end` is when the next one is."""

    def __init__(self, end: datetime) -> None:
        super().__init__()
        self.end = end


def count(page: str, address: str, limit: int) -> None:
    """Count an attempt at the page from this address, whether it will succeed or not; with the limit 0 do nothing.

    Raises `TooManyAttempts` if it is one too many.
    """
    if limit == 0:
        return
    # Stored before it is counted: so of attempts at the same moment each counts the others.
    attempt = Attempt.objects.create(
        address=_digest(page, counted_address(address)), network=_digest(page, counted_network(address))
    )
    recent = Attempt.objects.filter(when__gt=timezone.now() - WINDOW)
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
    expired = Attempt.objects.filter(when__lte=timezone.now() - WINDOW)
    # Read first: a deletion waits for other writers, even if there is nothing to delete.
    if expired.exists():
        expired.delete()


def _digest(page: str, address: str | None) -> str:
    # All that have no address, as behind a unix socket, are one.
    return salted_hmac(f"accounts.attempts.{page}", address or "", algorithm="sha256").hexdigest()
