"""What the content credentials in a file tell: its manifests (C2PA specification 2.2), read and judged.

Imports no Django, since files of strangers are read in the processes of `generation.images.decoder_program` alone.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from io import BytesIO
from typing import Any, Literal

import c2pa
from pydantic import BaseModel, Field

SETTINGS: dict[str, Any] = {
    "version_major": 1,
    "version_minor": 0,
    # They take 70 ms and up to 700 kB.
    "builder": {"thumbnail": {"enabled": False}},
    # What a stranger's manifest names is not fetched.
    "verify": {"verify_trust": True, "remote_manifest_fetch": False},
}

GENERATION = "dreamsite.generation"
"""The label of the assertion with the fields of `generation.images.credentials.Origin`."""

RECIPE = "dreamsite.recipe"
"""The label of the assertion with a recipe, in files of owners who want it told."""

ACTIONS = "c2pa.actions.v2"

_ACTIONS = (ACTIONS, "c2pa.actions")
_UNTRUSTED = "signingCredential.untrusted"
_TRUSTED = "signingCredential.trusted"
_PLACE = "self#jumbf=/c2pa/"
_MAX_CHARACTERS = 200
_TYPES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
)

State = Literal["own", "foreign", "altered", "invalid", "unreadable"]


class Told(BaseModel):
    """What manifests of this site tell of a result: see `generation.images.credentials.Origin`."""

    generation: str = Field(max_length=_MAX_CHARACTERS)
    index: int
    model: str = Field(max_length=_MAX_CHARACTERS)
    seed: int
    made: datetime | None = None
    recipe: dict[str, Any] = {}


class Mark(BaseModel):
    """The content credentials of a file.

    `own`: intact and by this site; `foreign`: intact and by others; `altered`: the file is not the one that was signed;
    `invalid`: not usable for another reason, such as an expired certificate; `unreadable`: damaged, or kept elsewhere.
    All but `told` is what the file claims.
    """

    state: State
    signer: str = Field(default="", max_length=_MAX_CHARACTERS)
    generator: str = Field(default="", max_length=_MAX_CHARACTERS)
    signed: datetime | None = None
    digital_source_type: str = Field(default="", max_length=_MAX_CHARACTERS)
    told: Told | None = None


def read(content: bytes, media_type: str, anchors: Sequence[str]) -> dict[str, Any] | None:
    """Return C2PA's report on the manifest of a file, with certificates below `anchors` (PEM) trusted. None: it has none.

    Raises `c2pa.C2paError` if the manifest or the file cannot be read.
    """
    trust = {"trust": {"user_anchors": "".join(anchors)}} if anchors else {}
    with c2pa.Context(c2pa.Settings.from_dict(SETTINGS | trust)) as context:
        reader = c2pa.Reader.try_create(media_type, BytesIO(content), context=context)
        if reader is None:
            return None
        with reader:
            report: dict[str, Any] = json.loads(reader.json())
            return report


def mark(content: bytes, anchors: Sequence[str], serial_numbers: Sequence[str]) -> Mark | None:
    """Return the content credentials of any file; None: it has none.

    Of this site is what was signed with a certificate of one of these serial numbers, which is below one of `anchors` (PEM).
    """
    media_type = _media_type(content)
    if media_type is None:
        return None
    try:
        report = read(content, media_type, anchors)
        return _judged(report, serial_numbers) if report else None
    # A stranger's report may have any shape.
    except (c2pa.C2paError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return Mark(state="unreadable")


def _judged(report: dict[str, Any], serial_numbers: Sequence[str]) -> Mark:
    active = report["manifests"][report["active_manifest"]]
    signature = active.get("signature_info", {})
    actions = list(_actions(active))
    return Mark(
        state=_state(report, signature, serial_numbers),
        signer=_text(signature.get("common_name") or signature.get("issuer")),
        generator=_generator(active),
        signed=_time(signature.get("time") or next((action["when"] for action in actions if "when" in action), None)),
        digital_source_type=_text(
            next((action["digitalSourceType"] for action in actions if "digitalSourceType" in action), "")
        ),
        told=_told(report, active, serial_numbers),
    )


def _state(report: dict[str, Any], signature: dict[str, Any], serial_numbers: Sequence[str]) -> State:
    if report["validation_state"] == "Trusted" and signature.get("cert_serial_number") in serial_numbers:
        return "own"
    if report["validation_state"] in ("Trusted", "Valid"):
        return "foreign"
    is_altered = any(failure["code"].endswith(".mismatch") for failure in _failures([report]))
    return "altered" if is_altered else "invalid"


def _told(report: dict[str, Any], active: dict[str, Any], serial_numbers: Sequence[str]) -> Told | None:
    """Return what this site has told of the result: in the manifest of the file, or in that of what it was made of."""
    if report["validation_state"] != "Trusted":
        return None
    trusted = _trusted(report)
    manifest: dict[str, Any] | None = active
    recipe: dict[str, Any] = {}
    # Each step is to another manifest, since one cannot name itself by its hash.
    for _ in report["manifests"]:
        if (
            manifest is None
            or manifest["label"] not in trusted
            or manifest["signature_info"]["cert_serial_number"] not in serial_numbers
        ):
            return None
        for assertion in manifest["assertions"]:
            if assertion["label"] == RECIPE:
                recipe = assertion["data"]
            if assertion["label"] == GENERATION:
                when = next((action["when"] for action in _actions(manifest) if "when" in action), None)
                return Told.model_validate({**assertion["data"], "made": _time(when), "recipe": recipe})
        parents = [each for each in manifest.get("ingredients", []) if each.get("relationship") == "parentOf"]
        manifest = report["manifests"].get(parents[0].get("active_manifest")) if parents else None
    return None


def _trusted(report: dict[str, Any]) -> set[str]:
    """Return the labels of the manifests that are signed below one of the anchors, and in which no failure was ever found."""
    ingredients = [each for manifest in report["manifests"].values() for each in manifest.get("ingredients", [])]
    # When it became an ingredient, nobody said whom to trust.
    failed = {_label(each) for each in _failures([report, *ingredients]) if each["code"] != _UNTRUSTED}
    signed = {_label(each) for each in _results([report], "success") if each["code"] == _TRUSTED}
    # What is not said of a certain manifest may concern each.
    return set() if "" in failed else signed - failed


def _failures(parts: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return _results(parts, "failure")


def _results(parts: Sequence[dict[str, Any]], kind: str) -> Iterator[dict[str, Any]]:
    """Yield what was found in manifests: of a report at its reading, of an ingredient when it became one."""
    for part in parts:
        results = part.get("validation_results", {})
        yield from results.get("activeManifest", {}).get(kind, [])
        for delta in results.get("ingredientDeltas", []):
            yield from delta["validationDeltas"][kind]


def _label(result: dict[str, Any]) -> str:
    """Return the manifest that a result is about; empty if it does not say so."""
    start, _, rest = result.get("url", "").partition(_PLACE)
    return rest.partition("/")[0] if not start else ""


def _actions(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for assertion in manifest.get("assertions", []):
        if assertion["label"] in _ACTIONS:
            yield from assertion["data"]["actions"]


def _generator(manifest: dict[str, Any]) -> str:
    """Return name and version of the software that wrote a manifest."""
    for info in manifest.get("claim_generator_info") or []:
        return _text(f"{info.get('name', '')} {info.get('version') or ''}".strip())
    return _text(manifest.get("claim_generator"))


def _text(value: Any) -> str:
    return value[:_MAX_CHARACTERS] if isinstance(value, str) else ""


def _time(value: Any) -> datetime | None:
    """Return a time with its zone; None for what is none."""
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else None


def _media_type(content: bytes) -> str | None:
    """Return the type of a file by its first bytes, as C2PA's library wants it; None if it does not read it."""
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    if content[4:8] == b"ftyp":
        return "image/avif" if content[8:12] in (b"avif", b"avis") else "image/heic"
    return next((type_ for start, type_ in _TYPES if content.startswith(start)), None)
