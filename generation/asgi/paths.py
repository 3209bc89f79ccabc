"""The paths that Django's URLs and the ASGI middleware share, as Django routes. A new long-poll endpoint is declared here.

Imports no Django, since the settings import this module.
"""

import re
from uuid import UUID

IMAGE_TO_IMAGE = "image-to-image"
IMAGE_EDITS = "v1/images/edits"
GENERATION_ANSWER = "generations/<uuid:generation_id>/answer"
IMAGE_EDITS_ANSWER = "v1/images/edits/<uuid:generation_id>/answer"

LONG_POLL_ROUTES = {
    IMAGE_TO_IMAGE: GENERATION_ANSWER,
    f"{IMAGE_TO_IMAGE}/": GENERATION_ANSWER,
    IMAGE_EDITS: IMAGE_EDITS_ANSWER,
    f"{IMAGE_EDITS}/": IMAGE_EDITS_ANSWER,
}
"""The routes whose `POST` is held until its generation is final, with the route of the answer."""

PICTURES = ("", *LONG_POLL_ROUTES)
"""The routes whose `POST` has pictures: the studio's, and those above. All other bodies are small."""

VERIFY = "verify"
"""The route whose `POST` has a picture of anybody, without an account."""

GENERATION_EVENTS = "generations/<uuid:generation_id>/events"
HISTORY_EVENTS = "history/<uuid:generation_id>/events"
EVENTS = (GENERATION_EVENTS, HISTORY_EVENTS)
"""The routes of event streams: the first for tokens, the second for sessions."""

API_PATHS = r"/(image-to-image|generations|models|loras|v1|verify)(/|\Z)"
"""A regular expression for the API's paths: their errors are JSON, and other origins may use them if allowed."""

OPENAI_PATHS = r"/v1(/|\Z)"
"""A regular expression for those among them whose errors have OpenAI's shape."""

_SLASHES = re.compile("/{2,}")
_EXACT = re.compile(r"/(admin|media|metrics|ready)(/|\Z)")
_ID = "<uuid:generation_id>"
_UUID = "([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_EVENTS = re.compile("|".join("/" + re.escape(route).replace(re.escape(_ID), _UUID) for route in EVENTS))


def merge_slashes(path: str) -> str:
    """Return the path that a path with several slashes in a row means, as clients make it of a base that ends in one.

    Signed and administrative paths and those for monitoring stay: a proxy may have rules for them that compare exactly.
    """
    merged = _SLASHES.sub("/", path)
    return path if _EXACT.search(merged) else merged


def is_long_poll(path: str) -> bool:
    """Return whether a `POST` to this path is held until its generation is final."""
    return path.removeprefix("/") in LONG_POLL_ROUTES


def takes_pictures(method: str, path: str) -> bool:
    """Return whether this is a request that may have pictures in its body."""
    return method == "POST" and path.removeprefix("/") in PICTURES


def verifies(method: str, path: str) -> bool:
    """Return whether this is a request that has a picture of anybody in its body."""
    return method == "POST" and path == f"/{VERIFY}"


def answer_path(path: str, generation_id: UUID) -> str:
    """Return the path of the answer to a held request."""
    return "/" + LONG_POLL_ROUTES[path.removeprefix("/")].replace(_ID, str(generation_id))


def events_of(path: str) -> UUID | None:
    """Return the generation whose events this path streams; None for any other path."""
    match = _EVENTS.fullmatch(path)
    return UUID(match[match.lastindex or 0]) if match else None
