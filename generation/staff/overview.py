"""What the index of the admin shows: what waits, what needs attention, and what is new. Each part needs its permission."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest

from accounts import audit
from accounts.models import AuditEntry, User
from generation.models import GeneratedImage, Generation, State
from generation.moderation import review_queue
from generation.moderation.review_queue import QueueName
from generation.staff.generation_filters import LAST_DAY, within
from generation.staff.operations import dashboard
from generation.staff.operations.alerts import Alert

MAX_FAILURES = 1000
_PICTURES, _USERS, _ENTRIES = 12, 6, 8


@dataclass(frozen=True)
class WaitingReview:
    """The number of waiting pictures in digits, the queues with some, and since when the oldest waits."""

    total: str
    queues: Sequence[tuple[QueueName, str]]
    oldest: datetime | None


@dataclass(frozen=True)
class Failures:
    """The failures of the last 24 hours by error code, from the newest `MAX_FAILURES`.

    `query` is that of the list of generations for all of them.
    """

    codes: list[tuple[str, int]]
    count: int
    query: str = urlencode({"state__exact": State.FAILED.value, "date": LAST_DAY})

    @property
    def is_capped(self) -> bool:
        return self.count == MAX_FAILURES


@dataclass(frozen=True)
class Overview:
    """The parts of the index; None, or empty, are those that the user may not see."""

    review: WaitingReview | None = None
    alerts: list[Alert] | None = None
    failures: Failures | None = None
    pictures: list[GeneratedImage] = field(default_factory=list)
    users: list[User] = field(default_factory=list)
    entries: list[AuditEntry] = field(default_factory=list)


def overview(request: HttpRequest) -> Overview:
    """Return what this user may see, with a number of queries that does not depend on the number of rows."""
    may = request.user.has_perm
    parts: dict[str, Any] = {}
    if may("generation.review_generation"):
        parts["review"] = _review()
    if may("generation.operate"):
        parts["alerts"] = dashboard.current_alerts()
    if may("generation.view_generation"):
        parts["failures"], parts["pictures"] = _failures(), _pictures()
    if may("accounts.view_user"):
        parts["users"] = list(User.objects.order_by("-pk")[:_USERS])
    if may("accounts.view_auditentry"):
        # Who looked at what is far more, and each look at this page adds to it.
        parts["entries"] = list(AuditEntry.objects.exclude(action=audit.VIEW).order_by("-pk")[:_ENTRIES])
    return Overview(**parts)


def _review() -> WaitingReview:
    counts = review_queue.counts()
    queues = [(name, review_queue.count_text(count)) for name, count in counts.items() if name and count]
    return WaitingReview(review_queue.count_text(counts[""]), queues, review_queue.oldest_waiting())


def _failures() -> Failures:
    rows = within(Generation.objects.filter(state=State.FAILED), LAST_DAY).order_by("-pk")
    codes = Counter(rows.values_list("error_code", flat=True)[:MAX_FAILURES])
    return Failures(codes.most_common(), codes.total())


def _pictures() -> list[GeneratedImage]:
    """Return the first picture of each of the newest generations."""
    rows = Generation.objects.filter(state=State.SUCCEEDED, deleted=None).order_by("-pk")
    newest = list(rows.select_related("user").only("user__username")[:_PICTURES])
    pictures = {image.generation_id: image for image in GeneratedImage.objects.filter(generation__in=newest, index=0)}
    generations = {generation.pk: generation for generation in newest}
    for image in pictures.values():
        image.generation = generations[image.generation_id]
    return [pictures[generation.pk] for generation in newest if generation.pk in pictures]
