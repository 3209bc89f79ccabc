"""Read a request: its user, numbers and ids in its fields, and the page to return to."""

from collections.abc import Iterable
from typing import cast
from uuid import UUID

from django.http import HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme

from accounts.models import ApiToken, User


def current_user(request: HttpRequest) -> User:
    """Return the signed-in user; for views that require one."""
    return cast(User, request.user)


def current_token(request: HttpRequest) -> ApiToken:
    """Return the token of the request; for views of the API."""
    return cast(ApiToken, request.auth)  # type: ignore[attr-defined]


def whole_number(text: str, maximum: int) -> int | None:
    """Return the number from 0 to `maximum` that the text is, in ASCII digits; None for any other text."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(maximum))):
        return None
    number = int(text)
    return number if number <= maximum else None


def parse_uuid(text: str) -> UUID | None:
    """Return the UUID that the text is; None for any other text."""
    try:
        return UUID(text)
    except ValueError:
        return None


def uuids(texts: Iterable[str]) -> list[UUID]:
    """Return the UUIDs among these texts."""
    return [parsed for text in texts if (parsed := parse_uuid(text))]


def came_from(request: HttpRequest) -> str:
    """Return the page of this site that the form names in `next`; empty if it names none."""
    page = request.POST.get("next", "")
    return page if page.startswith("/") and url_has_allowed_host_and_scheme(page, allowed_hosts=None) else ""
