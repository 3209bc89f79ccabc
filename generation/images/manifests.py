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


class Claims(BaseModel):
    """What the content credentials of a file claim.

    `own`: intact and by this site; `foreign`: intact and by others; `altered`: the file is not the one that was signed;
    `invalid`: not usable for another reason, such as an expired certificate; `unreadable`: damaged, or kept elsewhere.
    """

    state: State
    signer: str = Field(default="", max_length=_MAX_CHARACTERS)
    generator: str = Field(default="", max_length=_MAX_CHARACTERS)
    signed: datetime | None = None
    digital_source_type: str = Field(default="", max_length=_MAX_CHARACTERS)


class Mark(Claims):
    """The content credentials of a file; and where they are of this site, what they tell of a result.

    `source` is what the content credentials of the picture claim that a result, or a stored upload, was made of: those that
    it had when it was sent here.
    """

    told: Told | None = None
    source: Claims | None = None


def read(content: bytes, type_: str, anchors: Sequence[str]) -> dict[str, Any] | None:
    """Return C2PA's report on the manifest of a file of this type, with those below `anchors` (PEM) trusted. None: it has none.

    Raises `c2pa.C2paError` if the manifest or the file cannot be read.
    """
    trust = {"trust": {"user_anchors": "".join(anchors)}} if anchors else {}
    with c2pa.Context(c2pa.Settings.from_dict(SETTINGS | trust)) as context:
        reader = c2pa.Reader.try_create(type_, BytesIO(content), context=context)
        if reader is None:
            return None
        with reader:
            report: dict[str, Any] = json.loads(reader.json())
            return report


def mark(content: bytes, anchors: Sequence[str], serial_numbers: Sequence[str]) -> Mark | None:
    """Return the content credentials of any file; None: it has none.

    Of this site is what was signed with a certificate of one of these serial numbers, which is below one of `anchors` (PEM).
    """
    type_ = media_type(content)
    if type_ is None:
        return None
    try:
        report = read(content, type_, anchors)
        return _judged(report, serial_numbers) if report else None
    # A stranger's report may have any shape.
    except (c2pa.C2paError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return Mark(state="unreadable")


def _judged(report: dict[str, Any], serial_numbers: Sequence[str]) -> Mark:
    active = report["manifests"][report["active_manifest"]]
    told, source = _told(report, active, serial_numbers)
    return Mark(**_claims(active, _state(report, active, serial_numbers)).model_dump(), told=told, source=source)


def _claims(manifest: dict[str, Any], state: State) -> Claims:
    signature, actions = manifest.get("signature_info", {}), list(_actions(manifest))
    return Claims(
        state=state,
        signer=_text(signature.get("common_name") or signature.get("issuer")),
        generator=_generator(manifest),
        signed=_time(signature.get("time") or next((action["when"] for action in actions if "when" in action), None)),
        digital_source_type=_text(
            next((action["digitalSourceType"] for action in actions if "digitalSourceType" in action), "")
        ),
    )


def _state(report: dict[str, Any], active: dict[str, Any], serial_numbers: Sequence[str]) -> State:
    if report["validation_state"] == "Trusted" and _is_ours(active, serial_numbers):
        return "own"
    if report["validation_state"] in ("Trusted", "Valid"):
        return "foreign"
    return _state_by({each["code"] for each in _failures([report])}) or "invalid"


def _state_by(failures: set[str]) -> State | None:
    """Return what these failures make of a manifest; None without any that counts."""
    if any(code.endswith(".mismatch") for code in failures):
        return "altered"
    return "invalid" if failures else None


def _is_ours(manifest: dict[str, Any], serial_numbers: Sequence[str]) -> bool:
    return manifest.get("signature_info", {}).get("cert_serial_number") in serial_numbers


def _told(
    report: dict[str, Any], active: dict[str, Any], serial_numbers: Sequence[str]
) -> tuple[Told | None, Claims | None]:
    """Return what this site has told of the result: in the manifest of the file, or in that of what it was made of.

    And what the picture claimed that it was made of: the next result of this site, or what is the first of others.
    """
    told: Told | None = None
    if report["validation_state"] != "Trusted":
        return None, None
    trusted = _trusted(report, serial_numbers)
    manifest: dict[str, Any] | None = active
    found: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    # Each step is to another manifest, since one cannot name itself by its hash.
    for _ in report["manifests"]:
        if manifest is None:
            break
        if manifest["label"] not in trusted or not _is_ours(manifest, serial_numbers):
            # That it is intact was found when it became an ingredient, in a manifest of this site; the active one never is it.
            failures = {each["code"] for each in _failures([found])}
            return told, _claims(manifest, _state_by(failures) or "foreign") if found else None
        for assertion in manifest["assertions"]:
            if assertion["label"] == RECIPE:
                recipe = assertion["data"]
            if assertion["label"] == GENERATION:
                if told:
                    return told, _claims(manifest, "own")
                when = next((action["when"] for action in _actions(manifest) if "when" in action), None)
                told = Told.model_validate({**assertion["data"], "made": _time(when), "recipe": recipe})
        parents = [each for each in manifest.get("ingredients", []) if each.get("relationship") == "parentOf"]
        found = parents[0] if parents else {}
        manifest = report["manifests"].get(found.get("active_manifest"))
    return told, None


def _trusted(report: dict[str, Any], serial_numbers: Sequence[str]) -> set[str]:
    """Return the labels of the manifests that are signed below one of the anchors, and in which no failure was ever found."""
    failed = {_label(each) for each in _failures([report])}
    for manifest in report["manifests"].values():
        # What others have found in what they were given says nothing of manifests of this site.
        for ingredient in manifest.get("ingredients", []) if _is_ours(manifest, serial_numbers) else []:
            failed |= {_label(each) or ingredient["active_manifest"] for each in _failures([ingredient])}
    signed = {_label(each) for each in _results([report], "success") if each["code"] == _TRUSTED}
    # What is not said of a certain manifest may concern each.
    return set() if "" in failed else signed - failed


def _failures(parts: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what was found to be wrong, but for signers whom nobody trusts: here that is judged by the serial number."""
    return (each for each in _results(parts, "failure") if each["code"] != _UNTRUSTED)


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


def media_type(content: bytes) -> str | None:
    """Return the type of a file by its first bytes, as C2PA's library wants it; None if it does not read it."""
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    if content[4:8] == b"ftyp":
        return "image/avif" if content[8:12] in (b"avif", b"avis") else "image/heic"
    return next((type_ for start, type_ in _TYPES if content.startswith(start)), None)
