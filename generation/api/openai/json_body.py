"""JSON bodies of `POST /v1/images/edits`: a picture in `images`, as a data URL or the address of one, and fields."""

import io
import json
import re
from typing import Any, NoReturn

from django.utils.datastructures import MultiValueDict

from generation.api.form_parts import FormParts
from generation.images import data_urls
from generation.parameters import ErrorCode, ImageToImageParameters, InvalidField, RequestRefused

_MAX_VALUES = 10_000
"""More than the members and elements of any request, and few enough to hold them all in memory."""
_OBJECTS = {"loras"}
"""Fields whose text is JSON: they may be sent as the object itself."""
_TEXTS = {name for name, field in ImageToImageParameters.model_fields.items() if field.annotation is str} - _OBJECTS


def json_parts(body: bytes) -> FormParts:
    """Return the fields and the picture of a JSON body (RFC 8259) as a form has them. Null counts as absent.

    A data URL counts as a file, an address is `image_url`, and anything else remains a text.

    Raises `RequestRefused` for what is no JSON object, and `InvalidField`.
    """
    fields = _load(body)
    references = [*_as_list(fields.pop("images", None)), *_as_list(fields.pop("image", None))]
    mask = fields.pop("mask", None)
    texts = {name: _text(name, value) for name, value in fields.items() if value is not None}
    files: MultiValueDict[str, Any] = MultiValueDict()
    for number, reference in enumerate(references):
        address = _address("image", reference)
        if _is_remote(address):
            if number:
                raise InvalidField("images", "Only the first picture is fetched; send the others as data URLs")
            texts["image_url"] = address
        else:
            # With an address as the first, all that are sent are further ones.
            _add("images" if "image_url" in texts else "image", address, texts, files)
    if mask is not None:
        address = _address("mask", mask)
        if _is_remote(address):
            raise InvalidField("mask", "Send the mask as a data URL; it is not fetched")
        _add("mask", address, texts, files)
    if not _has_only_characters(texts):
        _malformed("it has half of a surrogate pair")
    return FormParts(MultiValueDict({name: [text] for name, text in texts.items()}), files)


def _load(body: bytes) -> dict[str, Any]:
    # Each value but the first follows one of these. In base64 there is none of them.
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > _MAX_VALUES:
        _malformed(f"it has more than {_MAX_VALUES} values")
    try:
        fields = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        _malformed("it is damaged, nested too deeply, or not in UTF-8")
    if not isinstance(fields, dict):
        _malformed("it is not an object")
    return fields


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _is_remote(address: str) -> bool:
    return re.match("https?:", address, re.IGNORECASE) is not None


def _add(name: str, address: str, texts: dict[str, str], files: MultiValueDict[str, Any]) -> None:
    """Add the picture at a data URL to the files, anything else to the texts."""
    try:
        files.appendlist(name, io.BytesIO(data_urls.decode(address)))
    except ValueError:
        texts[name] = address


def _address(field: str, reference: Any) -> str:
    """Return the data URL or address that refers to a picture, in one of the ways that clients write it."""
    match reference:
        case str(address) | {"image_url": str(address)} | {"image_url": {"url": str(address)}}:
            return address
        case {"file_id": str()}:
            raise InvalidField(field, "There are no stored files here; send the picture in image_url")
    raise InvalidField(field, 'Send the picture as {"image_url": "data:image/png;base64,…"}')


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    is_nested = isinstance(value, list | dict) and name not in _OBJECTS
    if name in _TEXTS or (is_nested and name in ImageToImageParameters.model_fields):
        raise InvalidField(name, "Input should be a valid string", "string_type")
    return json.dumps(value)


def _has_only_characters(texts: dict[str, str]) -> bool:
    """Return whether all names and texts are Unicode text; JSON can escape half of a surrogate pair, which is none."""
    try:
        "".join([*texts, *texts.values()]).encode()
    except UnicodeEncodeError:
        return False
    return True


def _malformed(reason: str) -> NoReturn:
    raise RequestRefused(ErrorCode.MALFORMED_REQUEST, f"The JSON cannot be read: {reason}.")
