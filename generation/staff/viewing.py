"""Note in the audit log whose pictures staff looked at."""

import hashlib
from collections.abc import Iterable

from django.http import HttpRequest

from accounts import audit
from accounts.requests import current_user
from generation.models import Generation


def record_view(request: HttpRequest, generation: Generation) -> None:
    """Record that the user looked at this generation, unless it is their own."""
    user = current_user(request)
    if generation.user_id != user.pk:
        audit.record_view(user, generation)


def record_page_view(request: HttpRequest, page: str, generations: Iterable[Generation]) -> None:
    """Record that the user looked at a page with pictures of these generations, as far as they are of others."""
    user = current_user(request)
    if ids := [str(generation.pk) for generation in generations if generation.user_id != user.pk]:
        audit.record_view(user, page, {"generations": ids})


def name_of_list(generations: Iterable[Generation]) -> str:
    """Return a name for a page of a list, which is another one for other generations."""
    ids = ",".join(str(generation.pk) for generation in generations)
    return f"list {hashlib.sha256(ids.encode()).hexdigest()[:12]}"
