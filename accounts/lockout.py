"""How sign-ins are slowed down: what django-axes asks of a project.

Wrong passwords are counted for each account, whether there is one or not, and for each address. A browser that its account
has signed in from before is judged by its own address and account alone: so nobody can keep a person out by guessing.
"""

import math
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
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

_COOKIE = "known"
_SALT = "accounts.throttle.known"
_KNOWN_FOR = timedelta(days=180)
_IPV6_NETWORK = 64
"""What one subscriber gets: counting single addresses would count nothing."""


def address(request: HttpRequest) -> str | None:
    """Where the request comes from, as far as one is told apart from others: an address, a network for IPv6."""
    try:
        found = ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        # A unix socket has none.
        return None
    if found.version == 4:
        return str(found)
    return str(found.ipv4_mapped or ip_network((found, _IPV6_NETWORK), strict=False).network_address)


def lockout_parameters(request: HttpRequest, credentials: dict[str, Any] | None = None) -> list[str | list[str]]:
    """What failures are counted by, of this request."""
    if _is_known(request, get_client_username(request, credentials)):
        return [["username", "ip_address"]]
    return ["username", "ip_address"]


def remember_device(response: HttpResponse, user: AbstractBaseUser) -> None:
    """Note in the browser that this account has signed in from it."""
    response.set_signed_cookie(
        _COOKIE,
        str(user.pk),
        salt=_SALT,
        max_age=_KNOWN_FOR,
        httponly=True,
        samesite="Lax",
        secure=settings.SESSION_COOKIE_SECURE,
    )


def lockout_response(
    request: HttpRequest, response: HttpResponse | None, credentials: dict[str, Any] | None
) -> HttpResponse:
    """429, and when to try again. The same whether there is such an account or not."""
    free = _free_again(request, credentials)
    seconds = max(1, math.ceil((free - timezone.now()).total_seconds()))
    context = {"minutes": math.ceil(seconds / 60), "at": free}
    answer = render(request, "accounts/too_many_attempts.html", context, status=429)
    answer["Retry-After"] = str(seconds)
    answer["Cache-Control"] = "no-store"
    return answer


def prune() -> None:
    """Remove what no longer counts: it says who was here, and from where."""
    over = AccessAttempt.objects.filter(attempt_time__lte=timezone.now() - settings.AXES_COOLOFF_TIME)
    if over.exists():
        over.delete()


def _is_known(request: HttpRequest, username: str | None) -> bool:
    from accounts.models import User

    try:
        known = request.get_signed_cookie(_COOKIE, salt=_SALT, max_age=_KNOWN_FOR)
    except (KeyError, signing.BadSignature):
        return False
    return known is not None and User.objects.filter(pk=known, username=username or "").exists()


def _free_again(request: HttpRequest, credentials: dict[str, Any] | None) -> datetime:
    """When so many failures have been forgotten that the next attempt is judged again."""
    own = {"username": get_client_username(request, credentials), "ip_address": address(request)}
    now = timezone.now()
    free = now
    for names in lockout_parameters(request, credentials):
        matching = Q(**{name: own[name] for name in ([names] if isinstance(names, str) else names)})
        attempts = AccessAttempt.objects.filter(matching, attempt_time__gt=now - settings.AXES_COOLOFF_TIME)
        left = 0
        # The newest first: as long as these alone are too many, it stays shut.
        for count, last in attempts.order_by("-attempt_time").values_list("failures_since_start", "attempt_time"):
            left += count
            if left >= settings.AXES_FAILURE_LIMIT:
                free = max(free, last + settings.AXES_COOLOFF_TIME)
                break
    return free
