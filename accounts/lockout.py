"""Lockout after failed sign-ins: the callables that django-axes uses.

Failures are counted for each username, whether it exists or not, and for each address. For a browser from which the user has
signed in before, only failures with the same username and address count: so nobody can lock a user out by guessing. That
ends with a change of the password.
"""

import math
from datetime import datetime, timedelta
from typing import Any

from axes.helpers import get_client_username
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.core import signing
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from accounts.addresses import counted_address

_COOKIE = "known"
_SALT = "accounts.throttle.known"
_COOKIE_AGE = timedelta(days=180)


def address(request: HttpRequest) -> str | None:
    """Return the address that failures are counted by: for IPv6 that of the network. None for a unix socket."""
    return counted_address(request.META.get("REMOTE_ADDR", ""))


def lockout_parameters(request: HttpRequest, credentials: dict[str, Any] | None = None) -> list[str | list[str]]:
    """Return the parameters by which failures of this request are counted; those of a nested list are combined."""
    if _is_known_device(request, get_client_username(request, credentials)):
        return [["username", "ip_address"]]
    return ["username", "ip_address"]


def remember_device(response: HttpResponse, user: AbstractBaseUser) -> None:
    """Set the cookie that says that this user has signed in from this browser with the present password."""
    response.set_signed_cookie(
        _COOKIE,
        f"{user.pk}:{user.get_session_auth_hash()}",
        salt=_SALT,
        max_age=_COOKIE_AGE,
        httponly=True,
        samesite="Lax",
        secure=settings.SESSION_COOKIE_SECURE,
    )


def lockout_response(
    request: HttpRequest, response: HttpResponse | None, credentials: dict[str, Any] | None
) -> HttpResponse:
    """Answer with 429 and when to try again; the same whether the user exists or not."""
    end = _lockout_end(request, credentials)
    seconds = max(1, math.ceil((end - timezone.now()).total_seconds()))
    context = {"minutes": math.ceil(seconds / 60), "at": end}
    page = render(request, "accounts/too_many_attempts.html", context, status=429)
    page["Retry-After"] = str(seconds)
    page["Cache-Control"] = "no-store"
    return page


def prune() -> None:
    """Delete attempts that no longer count, since they contain usernames and addresses."""
    expired = AccessAttempt.objects.filter(attempt_time__lte=timezone.now() - settings.AXES_COOLOFF_TIME)
    if expired.exists():
        expired.delete()


def _is_known_device(request: HttpRequest, username: str | None) -> bool:
    from accounts.models import User

    try:
        user_id, _, password = str(request.get_signed_cookie(_COOKIE, salt=_SALT, max_age=_COOKIE_AGE)).partition(":")
    except (KeyError, signing.BadSignature):
        return False
    user = User.objects.filter(pk=user_id, username=username or "").first()
    if user is None:
        return False
    known = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(password, each) for each in known)


def _lockout_end(request: HttpRequest, credentials: dict[str, Any] | None) -> datetime:
    """Return when so few failures remain that the next attempt is checked again."""
    values = {"username": get_client_username(request, credentials), "ip_address": address(request)}
    now = timezone.now()
    end = now
    for names in lockout_parameters(request, credentials):
        matching = Q(**{name: values[name] for name in ([names] if isinstance(names, str) else names)})
        attempts = AccessAttempt.objects.filter(matching, attempt_time__gt=now - settings.AXES_COOLOFF_TIME)
        failures = 0
        # Newest first: the lockout ends when the first attempt that reaches the limit is too old to count.
        for count, time in attempts.order_by("-attempt_time").values_list("failures_since_start", "attempt_time"):
            failures += count
            if failures >= settings.AXES_FAILURE_LIMIT:
                end = max(end, time + settings.AXES_COOLOFF_TIME)
                break
    return end
