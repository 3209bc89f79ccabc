"""What waits for review: the queues, their counts and the order in which reviewers get it.

Pictures wait if the checker flagged them, if somebody reported them, if they are shared and were not checked, if a reviewer
escalated them, or as a random sample of the others (`REVIEW_SAMPLE`, `REVIEW_UNCHECKED_SAMPLE`).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.db.models import (
    Case,
    DurationField,
    Exists,
    ExpressionWrapper,
    F,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Coalesce
from django.utils import timezone

from generation.models import AlbumEntry, GeneratedImage, Generation, ShareLink
from generation.models.review import IN_REVIEW, OPEN, Review

QueueName = Literal["escalated", "flagged", "reported", "unchecked", "sample", ""]
QUEUE_LABELS: dict[QueueName, str] = {
    "": "everything",
    "flagged": "flagged",
    "escalated": "escalated",
    "reported": "reported",
    "unchecked": "not checked",
    "sample": "sample",
}

MOST_COUNTED = 1000
"""Up to how many pictures of a queue are counted."""

MOST_RANKED = 200
"""How many pictures of a queue, the oldest, are ranked by urgency."""

# Lists of one value: of NOT, as Django writes a comparison with False, SQLite finds no index.
_QUEUES: dict[QueueName, Q] = {
    "flagged": Q(review=Review.WAITING, is_sample__in=[False]),
    "escalated": Q(review=Review.ESCALATED),
    "reported": Q(review=Review.REPORTED),
    "unchecked": Q(review=Review.UNCHECKED),
    "sample": Q(review=Review.WAITING, is_sample__in=[True]),
}

# Parts in each of which the index has the pictures by age, since ids of generations begin with their time.
_PARTS = [Q(review=status, is_sample__in=[is_sample]) for status in OPEN for is_sample in (False, True)]


@dataclass(frozen=True)
class ReviewFilter:
    """A reviewer's choice of pictures: the queue, a username and a model id. Empty fields do not restrict it."""

    why: QueueName = ""
    user: str = ""
    model: str = ""


def queue_of(image: GeneratedImage) -> QueueName:
    """Return the queue in which this picture waits, or waited."""
    match image.review:
        case Review.ESCALATED:
            return "escalated"
        case Review.REPORTED:
            return "reported"
        case Review.UNCHECKED:
            return "unchecked"
    return "sample" if image.is_sample else "flagged"


def is_shared() -> Q:
    """Return an annotation of pictures: whether there is a valid share link to them, their own or one of an album."""
    links = ShareLink.objects.live().filter(user__is_active=True)
    own = links.filter(generation=OuterRef("generation"), index=OuterRef("index"))
    # A shared album leaves out flagged pictures.
    of_album = links.filter(album__entries__generation=OuterRef("generation"))
    return Exists(own) | Q(Exists(of_album), nsfw=False)


def waiting(filters: ReviewFilter = ReviewFilter(), excluded: Q | None = None) -> QuerySet[GeneratedImage]:
    """Return pictures that wait for review and are not `excluded`, the most urgent first.

    Publicly shared pictures come first, then the others by score times age. Sampled pictures, which have low scores, count
    with a score of 0.5, so that they are not always last; escalated and reported ones, and those without a score, with 1.
    Of each queue, the oldest `MOST_RANKED` and as many shared ones are ranked, those of the sample apart.
    """
    now = timezone.now()
    rows = matching(filters)
    if excluded:
        rows = rows.exclude(excluded)
    ids: set[int] = set()
    for part in _PARTS:
        oldest = rows.filter(part).order_by("generation_id").values_list("pk", flat=True)[:MOST_RANKED]
        ids.update(oldest)
        if len(oldest) == MOST_RANKED:
            ids.update(_shared(rows.filter(part)))
    weight = Case(
        When(review__in=(Review.ESCALATED, Review.REPORTED), then=Value(1.0)),
        When(is_sample=True, then=Value(0.5)),
        default=Coalesce(F("nsfw_score"), Value(1.0)),
    )
    age = ExpressionWrapper(Value(now) - F("generation__finished"), output_field=DurationField())
    ranked = GeneratedImage.objects.filter(pk__in=ids)
    return ranked.annotate(
        is_shared=is_shared(), urgency=ExpressionWrapper(weight * age, output_field=DurationField())
    ).order_by("-is_shared", "-urgency", "pk")


def _shared(rows: QuerySet[GeneratedImage]) -> list[int]:
    """Return the ids of those of these pictures that are shared, at most `MOST_RANKED` by links and as many by albums."""
    links = ShareLink.objects.live().filter(user__is_active=True)
    # Each link asks for its picture: what waits may be far more than what is shared.
    own = rows.filter(generation=OuterRef("generation"), index=OuterRef("index"))
    of_album = rows.filter(generation=OuterRef("generation"), nsfw=False).order_by("index")
    entries = AlbumEntry.objects.filter(album__in=links.filter(album__isnull=False).values("album"))
    return [
        pk
        for shares, pictures in ((links.filter(generation__isnull=False).order_by("-pk"), own), (entries, of_album))
        for pk in shares.annotate(image=Subquery(pictures.values("pk")[:1]))
        .filter(image__isnull=False)
        .values_list("image", flat=True)[:MOST_RANKED]
    ]


def counts() -> dict[QueueName, int]:
    """Count the waiting pictures by queue, each up to `MOST_COUNTED` and one more.

    The index is not read further, however many wait.
    """
    rows = _waiting().order_by()
    by_queue: dict[QueueName, int] = {
        name: len(rows.filter(condition).values_list("pk")[: MOST_COUNTED + 1]) for name, condition in _QUEUES.items()
    }
    return {"": min(sum(by_queue.values()), MOST_COUNTED + 1), **by_queue}


def count_text(count: int) -> str:
    """Return a number of `counts` as pages say it, such as `12` or `1000+`."""
    return f"{MOST_COUNTED}+" if count > MOST_COUNTED else str(count)


def waiting_count(limit: int) -> int:
    """Count the waiting pictures, at most up to `limit`."""
    return len(_waiting().order_by().values_list("pk")[:limit])


def oldest_waiting() -> datetime | None:
    """Return when the picture was made that has waited longest, None if none waits."""
    rows = _waiting().order_by("generation_id").values_list("generation_id", flat=True)
    ids = [rows.filter(part).first() for part in _PARTS]
    oldest = min(filter(None, ids), default=None)
    return Generation.objects.values_list("finished", flat=True).get(pk=oldest) if oldest else None


def _waiting() -> QuerySet[GeneratedImage]:
    # Not by a join, whose order the database would choose: SQLite then reads all generations for what a few index rows tell.
    # Nor that there is no tombstone: PostgreSQL expects few and reads all generations for them.
    is_kept = Exists(Generation.objects.filter(pk=OuterRef("generation"), deleted=None))
    rows: QuerySet[GeneratedImage] = GeneratedImage.objects.filter(is_kept, IN_REVIEW, review__in=OPEN)
    return rows


def matching(filters: ReviewFilter) -> QuerySet[GeneratedImage]:
    """Return the pictures that wait for review, in no order."""
    rows = _waiting().order_by()
    if filters.why:
        rows = rows.filter(_QUEUES[filters.why])
    if filters.user:
        rows = rows.filter(generation__user__username=filters.user)
    if filters.model:
        rows = rows.filter(generation__model=filters.model)
    return rows
