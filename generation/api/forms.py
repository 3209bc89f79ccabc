"""The multipart form of `POST /image-to-image`, read into parameters and a picture."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.conf import settings
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict
from pydantic import ValidationError
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.request import Request

from generation.images import remote
from generation.images.uploads import Upload, read_upload
from generation.parameters import ImageToImageParameters, InvalidField, InvalidForm, error_items, missing

_NAMED_FIELDS = 10
_NAMED_CHARACTERS = 50


@dataclass(frozen=True)
class Form:
    """What a request asks for. Without a picture it names the address of one."""

    parameters: ImageToImageParameters
    picture: Upload | None
    warnings: Sequence[str]


class PostedForm(NamedTuple):
    """The parts of a form as they were sent: there may be several of one name."""

    texts: QueryDict
    files: MultiValueDict[str, Any]


def posted_form(request: Request) -> PostedForm:
    """The form of a request; a body of another type is one without any parts."""
    # As the contract's server reads it, whatever charset it names: Python also knows some that are no text at all.
    request.parser_context["encoding"] = "utf-8"
    try:
        return PostedForm(request.POST, request.FILES)
    except UnsupportedMediaType:
        return PostedForm(QueryDict(), MultiValueDict())


def read_form(request: Request) -> Form:
    """Validate the whole form, so that one answer names all that is wrong. Raises `InvalidForm`.

    Of a repeated field the last one counts; unknown fields are named in the warnings.
    """
    posted = posted_form(request)
    texts = {name: str(text) for name, text in posted.texts.items()}
    files: dict[str, Any] = dict(posted.files.items())
    problems = [
        InvalidField(name, "Input should be a valid string", "string_type")
        for name in ImageToImageParameters.model_fields
        if name in files
    ]
    picture = None
    try:
        picture = _read_image(texts, files)
    except InvalidField as error:
        problems.append(error)
    ignored = set(files) - {"image", *ImageToImageParameters.model_fields}
    return judged({**dict.fromkeys(ignored, ""), **texts}, picture, problems)


def judged(texts: Mapping[str, str], picture: Upload | None, problems: Sequence[InvalidField]) -> Form:
    """The form of these texts, with the problems that were found in the rest of it. Raises `InvalidForm`."""
    fields = [problem.item for problem in problems if problem.item["loc"][1] != "image"]
    wrong = {item["loc"][1] for item in fields}
    parameters = None
    try:
        parameters = ImageToImageParameters.from_form(texts)
    except ValidationError as error:
        fields += [item for item in error_items(error) if item["loc"][1] not in wrong]
    except InvalidField as error:
        fields.append(error.item)
    items = [*fields, *(problem.item for problem in problems if problem.item["loc"][1] == "image")]
    if items or parameters is None:
        raise InvalidForm(items)
    return Form(parameters, picture, _ignored(set(texts) - {"image", *ImageToImageParameters.model_fields}))


def _read_image(texts: dict[str, str], files: dict[str, Any]) -> Upload | None:
    if texts.get("image_url"):
        if not settings.FETCH_IMAGE_URLS:
            raise InvalidField("image_url", "This server fetches no pictures; send the picture itself as image")
        if "image" in files:
            raise InvalidField("image_url", "Send either image or image_url")
        try:
            remote.check(texts["image_url"])
        except remote.RemoteRefused as error:
            raise InvalidField("image_url", error.message) from None
        return None
    if "image" in files:
        return read_upload(files["image"], max_pixels=settings.MAX_UPLOAD_PIXELS)
    if texts.get("image"):
        raise InvalidField("image", "Send image as a file part of multipart/form-data, not as text")
    raise InvalidField("image", missing("image")["msg"], "missing")


def _ignored(names: Iterable[str]) -> list[str]:
    """A warning about fields that nobody reads, of which a client may send any number of any length."""
    shown = [name[:_NAMED_CHARACTERS].replace("\0", "") for name in sorted(names)]
    if not shown:
        return []
    more = f" and {len(shown) - _NAMED_FIELDS} more" if len(shown) > _NAMED_FIELDS else ""
    return [f"There are no such fields, so they were ignored: {', '.join(shown[:_NAMED_FIELDS])}{more}."]
