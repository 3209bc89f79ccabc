"""Content credentials: signed manifests in pictures that say what made them (C2PA specification 2.2), written.

A result is signed once, when a worker stores it; what is made of it later, such as a download in another format, is signed with
the result as its parent. An upload that was signed is signed again when it is stored. The pixels are the same with and without.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from io import BytesIO
from typing import Any, NamedTuple

import c2pa
from django.conf import settings

from generation.images import certificates
from generation.images.ingredients import LABEL, Ingredient, redactions
from generation.images.manifests import ACTIONS, GENERATION, RECIPE, SETTINGS

logger = logging.getLogger(__name__)

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's digital source type of pictures that a model made of other pictures."""

MOST_MARK_BYTES = 6_000
"""About the most that a manifest and XMP add to a result or its thumbnail."""

_OPENED: dict[str, Any] = {"action": "c2pa.opened", "parameters": {"ingredientIds": [LABEL]}}
_MADE = {"digitalSourceType": DIGITAL_SOURCE_TYPE}


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


def sign(
    content: bytes, media_type: str, made: datetime, origin: Origin, source: File, references: Sequence[File] = ()
) -> bytes:
    """Return a result with a manifest: what was opened, how it was edited, by what.

    `source` is the input as stored, and `references` the further ones; what they carry themselves is in it.
    """
    labels = [f"reference-{index}" for index in range(len(references))]
    edited = _edited(made) | ({"parameters": {"ingredientIds": labels}} if labels else {})
    manifest = _manifest(media_type, [_OPENED, edited | _MADE], [_told(origin)])
    used = [_Used("parentOf", LABEL, source)]
    used += [_Used("inputTo", label, file) for label, file in zip(labels, references, strict=True)]
    return _signed(content, media_type, manifest, used, settings.C2PA_TIMESTAMP_URL)


def sign_thumbnail(content: bytes, media_type: str, made: datetime, origin: Origin) -> bytes:
    """Return the thumbnail of a result with a manifest like that of `sign`. What its sources carry is left out: it is small."""
    manifest = _manifest(media_type, [_OPENED, _edited(made) | _MADE], [_told(origin)])
    manifest["ingredients"] = [{"relationship": "parentOf", "label": LABEL}]
    return _signed(content, media_type, manifest, [], settings.C2PA_TIMESTAMP_URL)


def derive(content: bytes, media_type: str, action: str, source: File) -> bytes:
    """Return what was made of a result with a manifest of its own, in which that of the result is.

    `action` is one of C2PA's, such as `c2pa.transcoded`. The time stamp server is not asked, since somebody waits.
    """
    manifest = _manifest(media_type, [_OPENED, {"action": action} | _MADE])
    return _signed(content, media_type, manifest, [_Used("parentOf", LABEL, source)])


def keep(content: bytes, media_type: str, ingredient: Ingredient) -> bytes:
    """Return an upload as it is stored with a manifest, in which that of the upload is.

    It does not say what kind of picture it is, since only those know it who signed the upload.
    """
    actions: list[dict[str, Any]] = [_OPENED, *redactions(ingredient.redacted), {"action": "c2pa.transcoded"}]
    manifest = _manifest(media_type, actions) | {"redactions": list(ingredient.redacted)}
    try:
        return _signed(content, media_type, manifest, [ingredient])
    except c2pa.C2paError as error:
        # It was read and redacted before, in a process with limits.
        logger.error("content credentials of an upload are not kept: %s", error)
        return content


def tell(content: bytes, media_type: str, recipe: dict[str, Any]) -> bytes:
    """Return a signed result with a second manifest that has its recipe, prompt included, for an owner who wants that told."""
    actions = [_OPENED, {"action": "c2pa.published"} | _MADE]
    manifest = _manifest(media_type, actions, [{"label": RECIPE, "data": recipe}])
    return _signed(content, media_type, manifest, [_Used("parentOf", LABEL, File(content, media_type))])


def compose(content: bytes, media_type: str) -> bytes:
    """Return a sheet of results with a manifest."""
    return _signed(content, media_type, _manifest(media_type, [{"action": "c2pa.created"} | _MADE]), [])


class _Used(NamedTuple):
    """A file of which a picture is made, with its relationship and its label as C2PA's library wants them."""

    relationship: str
    label: str
    file: File


def _edited(made: datetime) -> dict[str, Any]:
    return {
        "action": "c2pa.edited",
        "softwareAgent": {"name": "Dreamsite", "version": settings.VERSION},
        "when": f"{made:%Y-%m-%dT%H:%M:%SZ}",
    }


def _told(origin: Origin) -> dict[str, Any]:
    return {"label": GENERATION, "data": asdict(origin)}


def _manifest(
    media_type: str, actions: Sequence[dict[str, Any]], assertions: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    return {
        "claim_generator_info": [{"name": "Dreamsite", "version": settings.VERSION}],
        "format": media_type,
        "assertions": [{"label": ACTIONS, "data": {"actions": actions}}, *assertions],
    }


def _signed(
    content: bytes,
    media_type: str,
    manifest: dict[str, Any],
    used: Sequence[_Used | Ingredient],
    timestamp_url: str = "",
) -> bytes:
    if not settings.CONTENT_CREDENTIALS:
        return content
    if timestamp_url:
        try:
            return _embed(content, media_type, manifest, used, timestamp_url)
        except c2pa.C2paError as error:
            # No picture is lost with a server of others; its time is then that of this machine.
            logger.warning("the time stamp server cannot be used: %s", error)
    return _embed(content, media_type, manifest, used, None)


def _embed(
    content: bytes,
    media_type: str,
    manifest: dict[str, Any],
    used: Sequence[_Used | Ingredient],
    timestamp_url: str | None,
) -> bytes:
    identity = certificates.current()
    signer = c2pa.C2paSignerInfo(identity.algorithm, identity.chain, identity.key, timestamp_url)  # type: ignore[no-untyped-call]
    file = BytesIO()
    with (
        c2pa.Context(c2pa.Settings.from_dict(SETTINGS)) as context,
        c2pa.Builder(manifest, context) as builder,
        c2pa.Signer.from_info(signer) as signing,
    ):
        for each in used:
            if isinstance(each, Ingredient):
                builder.add_ingredient_from_archive(BytesIO(each.archive))
            else:
                _add(builder, each)
        builder.sign(signing, media_type, BytesIO(content), file)
    return file.getvalue()


def _add(builder: c2pa.Builder, used: _Used) -> None:
    """Add a file as an ingredient, without its manifest if that was damaged since it was stored."""
    ingredient = {"relationship": used.relationship, "label": used.label}
    try:
        builder.add_ingredient(ingredient, used.file.media_type, BytesIO(used.file.content))
    except c2pa.C2paError as error:
        logger.error("content credentials of a stored picture cannot be read: %s", error)
        # Nothing is looked for in a file of this type.
        builder.add_ingredient(ingredient, "application/octet-stream", BytesIO(used.file.content))
