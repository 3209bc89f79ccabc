"""What the pages of the review share: their filters, what the session keeps, and their head."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest, QueryDict

from accounts.requests import current_user, uuids, whole_number
from generation.models import DiffusionModel
from generation.moderation import review, review_queue

SKIPPED = "review_skipped"
"""The session key of the ids of the pictures that the reviewer skipped."""

LEFT_OUT = "review_left_out"
"""The session key of the ids of the pictures that the reviewer left out of a batch."""

MAX_CLAIMS = 24
"""Most claims of a page."""

_MAX_LISTED = 200
_MAX_PICTURE_ID = 10**18


def filters_of(values: QueryDict) -> review_queue.ReviewFilter:
    why = values.get("why", "")
    return review_queue.ReviewFilter(
        why=why if why in review_queue.QUEUE_LABELS else "",
        user=values.get("user", "").replace("\0", "")[:150],
        model=values.get("model", "").replace("\0", "")[:200],
    )


def query_of(filters: review_queue.ReviewFilter, **more: Any) -> str:
    """Return the query string of an address with these filters, empty without any."""
    parameters = {"why": filters.why, "user": filters.user, "model": filters.model, **more}
    query = urlencode({name: value for name, value in parameters.items() if value})
    return f"?{query}" if query else ""


def listed(request: HttpRequest, key: str) -> list[int]:
    """Return the ids of pictures that the session has under this key."""
    ids: list[int] = request.session.get(key, [])
    return ids


def add(request: HttpRequest, key: str, ids: Iterable[int]) -> None:
    """Add ids of pictures to those of the session; it forgets the oldest."""
    request.session[key] = [*listed(request, key), *ids][-_MAX_LISTED:]


def picture_id(text: str) -> int:
    """Parse the id of a picture; return 0, which no picture has, for an invalid one."""
    return whole_number(text, _MAX_PICTURE_ID) or 0


def claim_keys(request: HttpRequest) -> list[UUID]:
    """Return the keys of the claims that the page sends."""
    return uuids(request.POST.getlist("key")[:MAX_CLAIMS])


def head(request: HttpRequest, filters: review_queue.ReviewFilter) -> dict[str, Any]:
    """Return the context of the head of a page: queues, filters, and who else reviews."""
    live = live_counts(request)
    return {
        **admin.site.each_context(request),
        "filters": filters,
        "query": query_of(filters),
        "queues": [(name, label, live["counts"][name]) for name, label in review_queue.QUEUE_LABELS.items()],
        "has_waiting": live["counts"][""] != "0",
        "models": DiffusionModel.objects.filter(enabled=True),
        "live": live,
    }


def live_counts(request: HttpRequest) -> dict[str, Any]:
    """Return what changes while a page is open, as JSON types: the queues, others who review, and the reviewer's own work."""
    reviewer = current_user(request)
    return {
        "counts": {name: review_queue.count_text(count) for name, count in review_queue.counts().items()},
        "others": ", ".join(sorted({str(claim.reviewer) for claim in review.active_claims(exclude=reviewer)})),
        "decided": review.decided_today(reviewer),
        "skipped": len(listed(request, SKIPPED)),
    }
