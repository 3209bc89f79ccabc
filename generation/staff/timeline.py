"""What happened to a generation, in the order in which it did: from its row, its reviews, its links and the audit log."""

from dataclasses import dataclass
from datetime import datetime

from accounts.models import AuditEntry
from generation import display
from generation.models import Generation
from generation.models.review import ReviewDecision


@dataclass(frozen=True)
class Event:
    """`by` is whoever did it, empty for the service itself."""

    when: datetime
    words: str
    by: str = ""


def events(generation: Generation) -> list[Event]:
    """The oldest first; a constant number of queries."""
    found = [*_own(generation), *_reviews(generation), *_links(generation), *_changes(generation)]
    return sorted(found, key=lambda event: event.when)


def _own(generation: Generation) -> list[Event]:
    owner = generation.user.get_username()
    found = [Event(generation.created, "asked for", owner)]
    if generation.started:
        again = f", attempt {generation.attempt}" if generation.attempt > 1 else ""
        lost = f" after {generation.crash_count} lost workers" if generation.crash_count else ""
        found.append(Event(generation.started, f"started{again}{lost}", generation.worker))
    if generation.cancel_requested:
        found.append(Event(generation.cancel_requested, "asked to stop"))
    if generation.finished:
        words = display.state(generation) if not generation.deleted else generation.state
        why = f": {generation.error_message}" if generation.error_message else ""
        found.append(Event(generation.finished, words + why))
    if generation.trashed:
        found.append(Event(generation.trashed, "put into the trash", owner))
    if generation.deleted:
        found.append(Event(generation.deleted, "deleted for good"))
    return found


def _reviews(generation: Generation) -> list[Event]:
    found = []
    for row in ReviewDecision.objects.filter(generation=generation.pk):
        said = f"took back “{row.get_before_display()}”" if row.undoes_id else row.get_after_display()
        reason = f", {row.reason}" if row.reason else ""
        note = f" “{row.note}”" if row.note else ""
        found.append(Event(row.when, f"picture {row.index + 1} reviewed: {said}{reason}{note}", row.reviewer_name))
    return found


def _links(generation: Generation) -> list[Event]:
    found = []
    for link in generation.share_links.all():
        found.append(Event(link.created, f"picture {link.index + 1} shared", generation.user.get_username()))
        if link.revoked:
            found.append(Event(link.revoked, f"link to picture {link.index + 1} revoked"))
    return found


def _changes(generation: Generation) -> list[Event]:
    rows = AuditEntry.objects.filter(kind=Generation._meta.label_lower, target=str(generation.pk))
    found = []
    for row in rows:
        reason = f" “{row.after['reason']}”" if row.after and row.after.get("reason") else ""
        found.append(Event(row.when, row.action.rpartition(".")[2].replace("_", " ") + reason, row.actor_name))
    return found
