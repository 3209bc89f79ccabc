"""What an upload carries as content credentials, made ready to be an ingredient of the file that is stored instead.

Imports no Django, since files of strangers are read in the processes of `generation.images.decoder_program` alone.
"""

import json
import re
from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

import c2pa

from generation.images import manifests
from generation.images.manifests import ACTIONS, GENERATION, SETTINGS, Claims

LABEL = "source"
"""How the actions of a manifest name the ingredient."""

MAX_KEPT_BYTES = 128 * 1024
"""What the manifests of an upload may take without what is redacted; all results have them, and downloads read them again."""

MAX_ARCHIVE_BYTES = 4 * 1024 * 1024
"""What they may take with it, thumbnails above all."""

MAX_REDACTIONS = 400

_KEPT = re.compile(
    r"c2pa\.(actions(\.v\d+)?|hash\.[a-z0-9.]+|ingredient(\.v\d+)?|soft-binding|time-stamp|certificate-status|training-mining)"
    rf"|cawg\.training-mining|{re.escape(GENERATION)}"
)
"""The assertions that name no person and no place, and show no picture: what was done, by what, when, what may be done."""

_INSTANCE = re.compile(r"__\d+$")


class Ingredient(NamedTuple):
    """An archive that C2PA's builder adds as the ingredient `LABEL`, and the addresses of the assertions to redact in it."""

    archive: bytes
    redacted: Sequence[str]


def read(
    content: bytes, anchors: Sequence[str], serial_numbers: Sequence[str]
) -> tuple[Claims, Ingredient | None] | None:
    """Return what the content credentials of an upload claim, and the ingredient that they make.

    None: it has none. No ingredient: they are damaged, kept elsewhere or too large. The other arguments are those of
    `generation.images.manifests.mark`.
    """
    mark = manifests.mark(content, anchors, serial_numbers)
    type_ = manifests.media_type(content)
    if mark is None or type_ is None:
        return None
    claims = Claims.model_validate(mark.model_dump(include=set(Claims.model_fields)))
    if mark.state == "unreadable":
        return claims, None
    try:
        ingredient = _ingredient(content, type_)
    except (c2pa.C2paError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        ingredient = None
    return claims, ingredient


def redactions(redacted: Sequence[str]) -> list[dict[str, Any]]:
    """Return the actions which say that these assertions were removed."""
    return [
        {"action": "c2pa.redacted", "reason": "c2pa.PII.present", "parameters": {"redacted": address}}
        for address in redacted
    ]


def _ingredient(content: bytes, media_type: str) -> Ingredient | None:
    redacted = _to_redact(content, media_type)
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": [LABEL]}}
    manifest = {
        "redactions": redacted,
        "assertions": [{"label": ACTIONS, "data": {"actions": [opened, *redactions(redacted)]}}],
    }
    archive, kept = BytesIO(), BytesIO()
    with c2pa.Context(c2pa.Settings.from_dict(SETTINGS)) as context, c2pa.Builder(manifest, context) as builder:
        builder.add_ingredient({"relationship": "parentOf", "label": LABEL}, media_type, BytesIO(content))
        builder.write_ingredient_archive(LABEL, archive)
        # Shows that it can be redacted, and what is left.
        builder.to_archive(kept)
    if (
        len(redacted) > MAX_REDACTIONS
        or kept.getbuffer().nbytes > MAX_KEPT_BYTES
        or archive.getbuffer().nbytes > MAX_ARCHIVE_BYTES
    ):
        return None
    return Ingredient(archive.getvalue(), redacted)


def _to_redact(content: bytes, media_type: str) -> list[str]:
    """Return the addresses of all assertions but the kept ones, in all manifests of a file."""
    with (
        c2pa.Context(c2pa.Settings.from_dict(SETTINGS)) as context,
        c2pa.Reader(media_type, BytesIO(content), context=context) as reader,
    ):
        report = json.loads(reader.detailed_json())
    return [
        f"self#jumbf=/c2pa/{label}/c2pa.assertions/{assertion}"
        for label, manifest in report["manifests"].items()
        for assertion in manifest["assertion_store"]
        if not _KEPT.fullmatch(_INSTANCE.sub("", assertion))
    ]
