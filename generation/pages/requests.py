"""What every page reads from a request: who asks, and whence they came."""

from typing import cast

from django.http import HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme

from accounts.models import User


def person(request: HttpRequest) -> User:
    """Who is signed in; for views that ask for a sign-in."""
    return cast(User, request.user)


def came_from(request: HttpRequest) -> str:
    """The page of this site that the form names in `next`; empty: none."""
    page = request.POST.get("next", "")
    return page if page.startswith("/") and url_has_allowed_host_and_scheme(page, allowed_hosts=None) else ""
