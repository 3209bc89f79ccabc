"""By what a client that stays connected was let in, and whether it still would be."""

from collections.abc import Collection
from dataclasses import dataclass
from importlib import import_module

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest

from accounts.models import ApiToken


@dataclass(frozen=True)
class Access:
    """A token of a user, or a session."""

    user_id: int
    token_id: int | None = None
    session_key: str | None = None


def still_valid(accesses: Collection[Access]) -> set[Access]:
    """Return those whose token is usable or whose session is signed in as the same user; of suspended users none."""
    token_ids = {access.token_id for access in accesses if access.token_id is not None}
    usable = (
        set(ApiToken.objects.usable().filter(pk__in=token_ids).values_list("pk", flat=True)) if token_ids else set()
    )
    keys = {access.session_key for access in accesses if access.session_key}
    users = {key: _user_of(key) for key in keys}
    return {
        access
        for access in accesses
        if access.token_id in usable or (access.session_key and users[access.session_key] == access.user_id)
    }


def _user_of(session_key: str) -> int | None:
    """Return the user whom a request with this session would have."""
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    return get_user(request).pk
