"""The timeline of a generation, from its row, its reviews, its share links and the audit log."""

from dataclasses import dataclass
from datetime import datetime

from accounts.models import AuditEntry
from generation import display
from generation.library import sharing
from generation.models import Generation
from generation.models.review import ReviewDecision


@dataclass(frozen=True)
class Event:
    """An entry of the timeline; `by` names who caused it, empty for the service itself."""

    when: datetime
    text: str
    by: str = ""


def events(generation: Generation) -> list[Event]:
    """Return all events, oldest first, with a constant number of queries."""
    entries = [
        *_state_changes(generation),
        *_reviews(generation),
        *_share_links(generation),
        *_audit_entries(generation),
    ]
    return sorted(entries, key=lambda event: event.when)


def _state_changes(generation: Generation) -> list[Event]:
    owner = generation.user.get_username()
    entries = [Event(generation.created, "requested", owner)]
    if generation.started:
        attempt = f", attempt {generation.attempt}" if generation.attempt > 1 else ""
        crashes = f" after {generation.crash_count} lost workers" if generation.crash_count else ""
        entries.append(Event(generation.started, f"started{attempt}{crashes}", generation.worker))
    if generation.cancel_requested:
        entries.append(Event(generation.cancel_requested, "cancellation requested"))
    if generation.finished:
        text = display.state(generation) if not generation.deleted else generation.state_word
        cause = f": {generation.error_message}" if generation.error_message else ""
        entries.append(Event(generation.finished, text + cause))
    if generation.trashed:
        entries.append(Event(generation.trashed, "moved to the trash", owner))
    if generation.deleted:
        entries.append(Event(generation.deleted, "deleted permanently"))
    return entries


def _reviews(generation: Generation) -> list[Event]:
    entries = []
    for row in ReviewDecision.objects.filter(generation=generation.pk):
        decision = f"undid “{row.get_before_display()}”" if row.undoes_id else row.get_after_display()
        reason = f", {row.reason}" if row.reason else ""
        note = f" “{row.note}”" if row.note else ""
        text = f"picture {row.index + 1} reviewed: {decision}{reason}{note}"
        entries.append(Event(row.when, text, row.reviewer_name))
    return entries


def _share_links(generation: Generation) -> list[Event]:
    entries = []
    for link in sharing.links_showing(generation):
        # The album's name is the user's own words.
        picture = f"picture {link.index + 1}"
        is_own = link.generation_id is not None
        text = f"{picture} shared" if is_own else "shared in an album"
        entries.append(Event(link.created, text, generation.user.get_username()))
        if link.revoked:
            entries.append(Event(link.revoked, f"link to {picture if is_own else 'an album with it'} revoked"))
    return entries


def _audit_entries(generation: Generation) -> list[Event]:
    entries = []
    for row in AuditEntry.objects.filter(kind=Generation._meta.label_lower, target=str(generation.pk)):
        reason = f" “{row.after['reason']}”" if row.after and row.after.get("reason") else ""
        text = row.action.rpartition(".")[2].replace("_", " ") + reason
        entries.append(Event(row.when, text, row.actor_name))
    return entries
