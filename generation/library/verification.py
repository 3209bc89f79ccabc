"""Where a picture of anybody comes from: what its content credentials and its watermark tell. Nothing of it is kept."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from PIL import Image

from generation.images import certificates, decoder, watermark_reading
from generation.images.manifests import Claims, Mark, Told
from generation.images.sizes import MAX_INPUT_SIDE
from generation.images.watermark_payload import Payload
from generation.models import GeneratedImage, Generation
from generation.parameters import InvalidField
from generation.responses import ContentCredentials, Verification

_SEARCHED_SIDE = 2 * MAX_INPUT_SIDE
"""A picture with a longer side is reduced before its watermark is looked for: more pixels would take gigabytes."""

_one_at_a_time = threading.Lock()
"""Uploads of users never wait for more than one picture of strangers."""

_TOO_MUCH = "The picture takes too much time or memory to look at; reduce it, and send that"
_NO_PIXELS = "Whether it has a watermark: its pixels cannot be read."
_NO_PERSON = "Who made it: that is told to nobody."
_NO_RECIPE = "What was asked for: only its owner can have that told."
_NO_GENERATION = "Which picture it is, when and by which model it was made: its content credentials do not say."
_NO_CHANGES = "What was changed, and by whom."
_NO_PROOF = "Whether what its content credentials claim is true: anybody can sign pictures."
_NO_PROOF_OF_UPLOAD = "Whether what the upload that it was made of claimed is true: anybody can sign pictures."
_NO_MARK = (
    "Whether a model made it: content credentials can be removed, and a watermark that this site can read is its own."
)
_TOO_LITTLE = (
    "Whether it is a small or much changed part of a picture of this site: nothing may be left of the watermark."
)


@dataclass(frozen=True)
class Finding:
    """What is told of a picture, and the pictures here that it may be, the first made first."""

    verification: Verification
    images: Sequence[GeneratedImage]


def verify(content: bytes) -> Finding:
    """Return what a file of anybody tells of its origin.

    Raises `InvalidField` on `image` if it is no picture that can be read, and has no content credentials either.
    """
    with _one_at_a_time:
        mark = _read_mark(content)
        if mark and mark.told:
            return _by_mark(mark, mark.told)
        picture = _pixels(content, has_mark=mark is not None)
        payload = _search(picture) if picture else None
    if payload:
        return _by_watermark(mark, payload)
    return Finding(_without_picture(mark, is_read=picture is not None), [])


def _read_mark(content: bytes) -> Mark | None:
    return decoder.read_mark(content, settings.MAX_UPLOAD_PIXELS, certificates.known())


def _pixels(content: bytes, *, has_mark: bool) -> Image.Image | None:
    """Return the picture in a file; None if it has a mark, and pixels that cannot be read."""
    try:
        return decoder.decode(content, settings.MAX_UPLOAD_PIXELS, _SEARCHED_SIDE).picture
    except InvalidField:
        if has_mark:
            return None
        raise


def _search(picture: Image.Image) -> Payload | None:
    """Return what the watermark of a picture says. Raises `InvalidField` if it takes too much time or memory."""
    try:
        return watermark_reading.read(picture, settings.WATERMARK_KEY.encode())
    except watermark_reading.ReadingFailed as error:
        raise InvalidField("image", _TOO_MUCH) from error


def _by_mark(mark: Mark, told: Told) -> Finding:
    # Answers from what is kept have copies of its files, so they stay when it is deleted.
    pk = UUID(told.generation)
    copies = Generation.objects.filter(reused_from=pk).values_list("pk", flat=True)
    images = list(_kept().filter(generation__in=[pk, *copies], index=told.index))
    made = _made(told.made, told.model)
    end = " It has been deleted here since." if not images else ""
    verification = Verification(
        origin="here",
        evidence="content_credentials",
        altered=False,
        deleted=not images,
        model_id=told.model,
        made=told.made,
        generation=pk,
        index=told.index,
        seed=told.seed,
        recipe=told.recipe or None,
        content_credentials=_claims(mark),
        source=_source(mark),
        summary=f"{made} The file is as this site signed it.{_of(mark.source)}{end}",
        unknown=[*_unproved(mark), _NO_PERSON, *([] if told.recipe else [_NO_RECIPE])],
    )
    return Finding(verification, images)


def _by_watermark(mark: Mark | None, payload: Payload) -> Finding:
    images = list(_kept().filter(watermark=payload.picture))
    first = images[0] if images else None
    made = first.generation.finished if first else None
    model_id = first.generation.model_id if first else None
    # A result may have been made while nothing was signed.
    altered = True if mark or settings.CONTENT_CREDENTIALS else None
    if mark and mark.state == "own" and not mark.source:
        altered, change = False, "The file is as this site signed it."
    elif mark:
        change = "The file was changed since: its content credentials are not those that this site gave it."
    else:
        change = "The file was changed since: its content credentials are gone." if altered else ""
    end = "" if first else " It has been deleted here since."
    verification = Verification(
        origin="here",
        evidence="watermark",
        altered=altered,
        deleted=first is None,
        model_id=model_id,
        made=made,
        generation=None,
        index=None,
        seed=None,
        recipe=None,
        content_credentials=_claims(mark),
        source=_source(mark),
        summary=f"{_made(made, model_id)} Its watermark says so. {change}{end}".replace("  ", " ").strip(),
        unknown=[*([_NO_CHANGES] if altered else []), *_unproved(mark), _NO_PERSON, _NO_RECIPE],
    )
    return Finding(verification, images)


def _without_picture(mark: Mark | None, *, is_read: bool) -> Verification:
    """Return what is told if nothing names a picture of this site."""
    is_ours = bool(mark and mark.state == "own")
    # What is stored of an upload that was signed is signed by this site, which did not make it.
    upload = mark.source if mark and is_ours else None
    is_own = is_ours and upload is None
    state = upload.state if upload else mark.state if mark else None
    is_foreign = state == "foreign"
    signer = _signer(mark)
    match mark.state if mark else None:
        case "own" if upload:
            summary = f"It was sent to this site, and the file is as this site signed it.{_of(upload)}"
            unknown = [_NO_PROOF]
        case "own":
            summary, unknown = "This site made it. The file is as this site signed it.", [_NO_GENERATION]
        case "foreign":
            summary = f"It was signed by {signer}, whom this site does not know. The file was not changed since."
            unknown = [_NO_PROOF]
        case "altered":
            summary, unknown = f"The file was altered since it was signed by {signer}.", [_NO_CHANGES, _NO_PROOF]
        case "invalid":
            summary = f"The file says that it was signed by {signer}, but the signature is not valid."
            unknown = [_NO_PROOF]
        case "unreadable":
            summary, unknown = "The file has content credentials that cannot be read.", [_NO_MARK]
        case _:
            summary, unknown = "Nothing tells where this picture comes from.", [_NO_MARK]
    if not is_own:
        unknown.append(_TOO_LITTLE if is_read else _NO_PIXELS)
    return Verification(
        origin="here" if is_own else "elsewhere" if is_foreign else "unknown",
        evidence="content_credentials" if is_own or is_foreign else None,
        altered=False if is_own or is_foreign else True if state == "altered" else None,
        deleted=False,
        model_id=None,
        made=None,
        generation=None,
        index=None,
        seed=None,
        recipe=None,
        content_credentials=_claims(mark),
        source=_source(mark),
        summary=summary,
        unknown=unknown,
    )


def _unproved(mark: Mark | None) -> list[str]:
    """Return which of the claims that are told are those of others."""
    claims = [(mark, _NO_PROOF), (mark and mark.source, _NO_PROOF_OF_UPLOAD)]
    return [sentence for claim, sentence in claims if claim and claim.state not in ("own", "unreadable")]


def _signer(claims: Claims | None) -> str:
    return claims.signer if claims and claims.signer else "somebody without a name"


def _of(source: Claims | None) -> str:
    """Return a sentence on the picture that it was made of, with a space before it."""
    match source.state if source else None:
        case None:
            return ""
        case "own":
            return " It was made of a picture of this site."
        case "foreign":
            return f" It was made of a picture that {_signer(source)} had signed, and that was not changed before."
        case "altered":
            return f" It was made of a picture that was changed after {_signer(source)} had signed it."
        case _:
            return f" It was made of a picture with a signature by {_signer(source)} that is not valid."


def _kept() -> QuerySet[GeneratedImage]:
    rows: QuerySet[GeneratedImage] = GeneratedImage.objects.filter(generation__deleted=None, generation__trashed=None)
    return rows.select_related("generation").order_by("generation__finished")


def _made(when: datetime | None, model_id: str | None) -> str:
    day = f" on {when.day} {when:%B %Y}" if when else ""
    model = f" with {model_id}" if model_id else ""
    return f"This site made it{day}{model}."


def _claims(mark: Mark | None) -> ContentCredentials | None:
    return ContentCredentials(**mark.model_dump(exclude={"told", "source"})) if mark else None


def _source(mark: Mark | None) -> ContentCredentials | None:
    return ContentCredentials(**mark.source.model_dump()) if mark and mark.source else None
