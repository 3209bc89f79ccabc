"""The parts of a form as clients really send them: multipart/form-data (RFC 7578), and application/x-www-form-urlencoded."""

import base64
import binascii
import io
import quopri
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import IO, NamedTuple

from django.conf import settings
from django.utils.datastructures import MultiValueDict
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser
from rest_framework.request import Request

from generation.api import charsets
from generation.images import data_urls
from generation.parameters import ErrorCode, RequestRefused

_PICTURES = ("image", "image[]", "images", "images[]", "mask")
"""The fields that are pictures: one, or several as `name[]`."""

_CHARSET = "_charset_"
_FILENAME = re.compile(r";\s*filename\*?\s*=", re.IGNORECASE)
_MAX_HEADER_BYTES = 256 * 1024
"""Of all parts together: the library takes a time for a folded header that grows with the square of its length."""


class FormParts(NamedTuple):
    """The parts of a form as they were sent; several may have the same name. A body that is not a form has none."""

    texts: MultiValueDict[str, str]
    files: MultiValueDict[str, IO[bytes]]
    is_form: bool = True


def form_parts(request: Request) -> FormParts:
    """Return the parts of the request's form; none if the body is not a form. A data URL of a picture counts as a file.

    Raises `RequestRefused` for a malformed form.
    """
    stream = request.stream
    if stream is None:
        return FormParts(MultiValueDict(), MultiValueDict())
    parameters = request.content_params or {}
    charset = parameters.get("charset", "")
    match request.content_type.partition(";")[0].strip().lower():
        case "multipart/form-data":
            parts = _read_multipart(stream, parameters.get("boundary", ""), charset)
        case "application/x-www-form-urlencoded":
            parts = _read_urlencoded(stream, charset)
        case _:
            return FormParts(MultiValueDict(), MultiValueDict(), is_form=False)
    for name in _PICTURES:
        _move_data_urls(name, parts)
    return parts


def _read_multipart(stream: IO[bytes], boundary: str, charset: str) -> FormParts:
    if not boundary:
        raise _malformed("its Content-Type header names no boundary; leave that header to your HTTP library")
    texts: list[tuple[str, bytes, str]] = []
    files: MultiValueDict[str, IO[bytes]] = MultiValueDict()
    try:
        for segment, content in _segments(stream, boundary):
            name = charsets.decode(str(segment.name).encode("latin-1"))
            if not _is_file(segment, name, content):
                texts.append((name, content.read(), segment.charset or ""))
            # Browsers send a field without a chosen file as an empty file without a name.
            elif segment.filename != "" or content.read(1):
                files.appendlist(name, content)
    except ParserLimitReached:
        raise _malformed(
            f"it may have {settings.DATA_UPLOAD_MAX_NUMBER_FIELDS} parts, each of them 8 headers of up to 4 kB, and all of "
            f"them {_MAX_HEADER_BYTES // 1024} kB of headers"
        ) from None
    except (MultipartError, binascii.Error):
        raise _malformed("it is damaged or cut short; let an HTTP library make it") from None
    return FormParts(_decode(texts, charset), files)


def _segments(stream: IO[bytes], boundary: str) -> Iterator[tuple[MultipartSegment, IO[bytes]]]:
    """Yield the headers and the content of each part. Raises `MultipartError` and `binascii.Error`."""
    header_bytes = 0
    parser = PushMultipartParser(
        boundary.encode("latin-1", "replace"),
        max_segment_count=settings.DATA_UPLOAD_MAX_NUMBER_FIELDS,
        header_charset="latin-1",
    )
    segment: MultipartSegment | None = None
    content = io.BytesIO()
    for event in parser.parse_blocking(stream.read):
        if isinstance(event, MultipartSegment):
            segment, content = event, io.BytesIO()
            header_bytes += sum(len(name) + len(value) for name, value in segment.headerlist)
            if header_bytes > _MAX_HEADER_BYTES:
                raise ParserLimitReached("headers of all parts")
        elif event is not None:
            content.write(event)
        elif segment is not None:
            content.seek(0)
            # Programs that make forms as mails name one, although they should not (RFC 7578, section 4.7).
            match str(segment.header("Content-Transfer-Encoding")).strip().lower():
                case "base64":
                    content = io.BytesIO(base64.b64decode(content.read()))
                case "quoted-printable":
                    content = io.BytesIO(quopri.decodestring(content.read()))
            yield segment, content


def _is_file(segment: MultipartSegment, name: str, content: IO[bytes]) -> bool:
    """Return whether a part has a filename, a type that is no text, or for a picture bytes that are no text."""
    if _FILENAME.search(str(segment.header("Content-Disposition"))):
        return True
    if segment.content_type is not None:
        return not (segment.content_type.startswith("text/") or segment.content_type == "application/json")
    is_binary = name in _PICTURES and not content.read().isascii()
    content.seek(0)
    return is_binary


def _read_urlencoded(stream: IO[bytes], charset: str) -> FormParts:
    """Read pairs of name and text (WHATWG URL Standard, application/x-www-form-urlencoded parsing)."""
    body = stream.read()
    if body.count(b"&") >= settings.DATA_UPLOAD_MAX_NUMBER_FIELDS:
        raise _malformed(f"it may have {settings.DATA_UPLOAD_MAX_NUMBER_FIELDS} fields")
    texts = []
    for pair in body.replace(b"+", b" ").split(b"&"):
        name, _, text = pair.partition(b"=")
        if pair:
            texts.append((charsets.decode(data_urls.percent_decode(name)), data_urls.percent_decode(text), ""))
    return FormParts(_decode(texts, charset), MultiValueDict())


def _decode(texts: Iterable[tuple[str, bytes, str]], charset: str) -> MultiValueDict[str, str]:
    """Return the texts of these names, contents and charsets of parts; `charset` is that of the request.

    A field `_charset_` names the charset of the parts that name none (RFC 7578, section 4.6).
    """
    of_form = "".join(content.decode("latin-1") for name, content, _ in texts if name == _CHARSET)
    decoded: MultiValueDict[str, str] = MultiValueDict()
    for name, content, of_part in texts:
        if name != _CHARSET:
            decoded.appendlist(name, charsets.decode(content, of_part, of_form, charset))
    return decoded


def _move_data_urls(name: str, parts: FormParts) -> None:
    """Make the texts of a field that are data URLs its files. Others stay texts."""
    for text in parts.texts.getlist(name):
        with suppress(ValueError):
            parts.files.appendlist(name, io.BytesIO(data_urls.decode(text)))
            parts.texts.pop(name, None)


def _malformed(reason: str) -> RequestRefused:
    return RequestRefused(ErrorCode.MALFORMED_REQUEST, f"The form cannot be read: {reason}.")
