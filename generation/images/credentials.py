"""Content credentials: signed manifests in pictures that say what made them (C2PA specification 2.2), written.

A result is signed once, when a worker stores it; what is made of it later, such as a download in another format, is signed with
the result as its parent. The pixels are the same with and without.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from io import BytesIO
from typing import Any

import c2pa
from django.conf import settings

from generation.images import certificates
from generation.images.manifests import ACTIONS, GENERATION, RECIPE, SETTINGS

logger = logging.getLogger(__name__)

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's digital source type of pictures that a model made of other pictures."""

MOST_MARK_BYTES = 6_000
"""About the most that a manifest and XMP add to a result or its thumbnail."""

_SOURCE = "source"


@dataclass(frozen=True)
class Origin:
    """What made a picture: the id of its generation and its index, model and SHA-256 of the digests of its files, seed.

    It names no person, and not the prompt: see `tell`.
    """

    generation: str
    index: int
    model: str
    model_digest: str
    seed: int
    watermark: bool


@dataclass(frozen=True)
class File:
    """A picture file of which another one is made."""

    content: bytes
    media_type: str


def sign(content: bytes, media_type: str, made: datetime, origin: Origin, source: File) -> bytes:
    """Return a result with a manifest: what was opened, how it was edited, by what. `source` is the input as stored."""
    edited = {
        "action": "c2pa.edited",
        "softwareAgent": {"name": "Dreamsite", "version": settings.VERSION},
        "when": f"{made:%Y-%m-%dT%H:%M:%SZ}",
    }
    assertions = [{"label": GENERATION, "data": asdict(origin)}]
    return _signed(content, media_type, edited, source, assertions, settings.C2PA_TIMESTAMP_URL)


def derive(content: bytes, media_type: str, action: str, source: File) -> bytes:
    """Return what was made of a result with a manifest of its own, in which that of the result is.

    `action` is one of C2PA's, such as `c2pa.transcoded`. The time stamp server is not asked, since somebody waits.
    """
    return _signed(content, media_type, {"action": action}, source)


def tell(content: bytes, media_type: str, recipe: dict[str, Any]) -> bytes:
    """Return a signed result with a second manifest that has its recipe, prompt included, for an owner who wants that told."""
    source = File(content, media_type)
    return _signed(content, media_type, {"action": "c2pa.published"}, source, [{"label": RECIPE, "data": recipe}])


def compose(content: bytes, media_type: str) -> bytes:
    """Return a sheet of results with a manifest."""
    return _signed(content, media_type, {"action": "c2pa.created"}, None)


def _signed(
    content: bytes,
    media_type: str,
    action: dict[str, Any],
    source: File | None,
    assertions: Sequence[dict[str, Any]] = (),
    timestamp_url: str = "",
) -> bytes:
    if not settings.CONTENT_CREDENTIALS:
        return content
    actions = [action | {"digitalSourceType": DIGITAL_SOURCE_TYPE}]
    if source:
        actions = [{"action": "c2pa.opened", "parameters": {"ingredientIds": [_SOURCE]}}, *actions]
    manifest = {
        "claim_generator_info": [{"name": "Dreamsite", "version": settings.VERSION}],
        "format": media_type,
        "assertions": [{"label": ACTIONS, "data": {"actions": actions}}, *assertions],
    }
    if timestamp_url:
        try:
            return _embed(content, media_type, manifest, source, timestamp_url)
        except c2pa.C2paError as error:
            # No picture is lost with a server of others; its time is then that of this machine.
            logger.warning("the time stamp server cannot be used: %s", error)
    return _embed(content, media_type, manifest, source, None)


def _embed(
    content: bytes, media_type: str, manifest: dict[str, Any], source: File | None, timestamp_url: str | None
) -> bytes:
    identity = certificates.current()
    signer = c2pa.C2paSignerInfo(identity.algorithm, identity.chain, identity.key, timestamp_url)  # type: ignore[no-untyped-call]
    file = BytesIO()
    with (
        c2pa.Context(c2pa.Settings.from_dict(SETTINGS)) as context,
        c2pa.Builder(manifest, context) as builder,
        c2pa.Signer.from_info(signer) as signing,
    ):
        if source:
            ingredient = {"relationship": "parentOf", "label": _SOURCE}
            builder.add_ingredient(ingredient, source.media_type, BytesIO(source.content))
        builder.sign(signing, media_type, BytesIO(content), file)
    return file.getvalue()
