"""Forms as HTTP clients of other languages send them: charsets, files without names, data URLs. Over real HTTP."""

import base64
import tracemalloc
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlencode

import httpx
import pytest
from django.test import RequestFactory
from rest_framework.request import Request

from generation.api import charsets
from generation.api.form_parts import form_parts
from generation.images import data_urls
from tests.support.forms import CONTENT_TYPE, PICTURE, form, multipart, part
from tests.support.service import Service

NIGHT = part('name="prompt"', b"make it night")
DRY_RUN = part('name="dry_run"', b"true")
DATA_URL = "data:image/png;base64," + base64.b64encode(PICTURE).decode()


@pytest.fixture
def api(service: Service, alices_key: str) -> Iterator[httpx.Client]:
    with service.client(alices_key) as client:
        yield client


def post(
    api: httpx.Client, body: bytes, content_type: str = CONTENT_TYPE, path: str = "/image-to-image"
) -> httpx.Response:
    headers = {"Content-Type": content_type, "Prefer": "respond-async"}
    return api.post(path, content=body, headers=headers)


def prompt_of(api: httpx.Client, body: bytes, content_type: str = CONTENT_TYPE) -> str:
    """Return the prompt that is recorded for this form."""
    answer = post(api, body, content_type)
    assert answer.status_code == 202, answer.text
    api.post(f"/generations/{answer.json()['id']}/cancel")
    return str(api.get(f"/generations/{answer.json()['id']}").json()["parameters"]["prompt"])


def problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    return str(detail[0]["msg"] if status == 422 else detail["msg"])


# Charsets.


@pytest.mark.parametrize(
    ("content", "headers", "prompt"),
    [
        ("Köln".encode(), (), "Köln"),
        ("Köln".encode("latin-1"), (), "Köln"),
        ("Köln".encode("latin-1"), ("Content-Type: text/plain; charset=ISO-8859-1",), "Köln"),
        ("“Кёльн”".encode("cp1251"), ('content-type: TEXT/PLAIN; Charset="windows-1251"',), "“Кёльн”"),
        ("ケルン".encode("shift_jis"), ("Content-Type: text/plain;charset=Shift_JIS",), "ケルン"),
        ("Köln".encode(), ("Content-Type: text/plain; charset=US-ASCII", "Content-Transfer-Encoding: 8bit"), "Köln"),
        (b"K=C3=B6ln", ("Content-Transfer-Encoding: quoted-printable",), "Köln"),
    ],
)
def test_a_text_has_the_charset_that_its_part_names_or_else_fits(
    api: httpx.Client, content: bytes, headers: tuple[str, ...], prompt: str
) -> None:
    assert prompt_of(api, form(part('name="prompt"', content, *headers))) == prompt


def test_the_form_or_the_request_names_the_charset_of_parts_that_name_none(api: httpx.Client) -> None:
    cologne = part('name="prompt"', "Кёльн".encode("koi8-r"))
    assert prompt_of(api, form(cologne, part('name="_charset_"', b"koi8-r"))) == "Кёльн"
    assert prompt_of(api, form(cologne), f"{CONTENT_TYPE}; charset=KOI8-R") == "Кёльн"
    fields = {"prompt": "Кёльн", "image": DATA_URL}
    urlencoded = "application/x-www-form-urlencoded; charset=koi8-r"
    assert prompt_of(api, urlencode(fields, encoding="koi8-r").encode(), urlencoded) == "Кёльн"


# "undefined" raises for every text, and the others escape, compress or take long.
@pytest.mark.parametrize(
    "charset", ["rot13", "hex", "zlib", "idna", "punycode", "unicode_escape", "utf-7", "undefined", "x" * 10_000, "é\0"]
)
def test_what_is_no_charset_of_texts_is_ignored(charset: str) -> None:
    assert charsets.decode("Köln +AOQ- \\xe4".encode(), charset) == "Köln +AOQ- \\xe4"


@pytest.mark.parametrize(
    "charset", ["", "utf-8", "us-ascii", "utf-16", "shift_jis", "gb18030", "iso-2022-jp", "cp1252"]
)
def test_no_bytes_fail_or_are_replaced(charset: str) -> None:
    for content in (b"K\xf6ln", b"\x81\x8d\xff\xfe\x00", bytes(range(256)), b"\xed\xa0\x80", b""):
        text = charsets.decode(content, charset)
        assert "\ufffd" not in text
        text.encode()


def test_labels_mean_what_browsers_mean_by_them() -> None:
    assert charsets.decode(b"\x93K\xf6ln\x94", "ISO-8859-1") == "“Köln”"
    assert charsets.decode(b"\xef\xbb\xbfK", " Utf8 ") == "K"
    # A form of 1000 parts would compare a long one 1000 times.
    assert charsets.decode(b"K\xf6ln", "cp866" + " " * 100) == "Köln"


# Files.


@pytest.mark.parametrize(
    ("disposition", "headers"),
    [
        ('name="image"; filename=""', ("Content-Type: application/octet-stream",)),
        ('name="image"; filename=""', ("Content-Type: text/plain",)),
        ('name="image"', ("Content-Type: application/octet-stream",)),
        ('name="image"', ("Content-Type: image/png",)),
        ("name=image", ()),
        ("name=image; filename*=utf-8''k%C3%B6ln.png", ("Content-Type: text/plain",)),
        ("name=image; filename=köln.png", ("Content-Type: text/plain",)),
        ('name="image"; filename="C:\\\\köln\\".png"', ("Content-Length: {length}",)),
        (f'name="image"; filename="{"写" * 255}"; filename*=UTF-8\'\'{quote("写" * 255)}', ()),
    ],
    ids=range(9),
)
@pytest.mark.parametrize("path", ["/image-to-image", "/v1/images/edits"])
def test_a_picture_needs_no_name(api: httpx.Client, path: str, disposition: str, headers: tuple[str, ...]) -> None:
    lines = [line.format(length=len(PICTURE)) for line in headers]
    body = multipart(part(disposition, PICTURE, *lines), NIGHT, DRY_RUN)
    assert post(api, body, path=path).status_code == 200


def test_a_file_chooser_without_a_file_is_an_absent_field(api: httpx.Client) -> None:
    nothing = part('name="image"; filename=""', b"", "Content-Type: application/octet-stream")
    assert problem(post(api, multipart(nothing, NIGHT)), 422) == "Field required"
    empty = part('name="image"; filename="a.png"', b"", "Content-Type: image/png")
    assert "The file is empty" in problem(post(api, multipart(empty, NIGHT)), 422)


def test_a_text_may_have_a_type_but_no_filename(api: httpx.Client) -> None:
    picture = part('name="image"; filename="a.png"', PICTURE)
    loras = part('name="loras"', b'{"dreamsite/knitted": 1}', "Content-Type: application/json; charset=utf-8")
    assert post(api, multipart(picture, NIGHT, loras, DRY_RUN)).status_code == 200
    file = part('name="prompt"; filename="prompt.txt"', b"make it night", "Content-Type: text/plain")
    assert problem(post(api, multipart(picture, file, DRY_RUN)), 422) == "Input should be a valid string"


@pytest.mark.parametrize("path", ["/image-to-image", "/v1/images/edits"])
def test_a_data_url_is_a_picture(api: httpx.Client, path: str) -> None:
    fields: Any = {"prompt": "make it night", "dry_run": "true"}
    # Neither encoded nor escaped, as `curl -d` sends it: the + of base64 means a space.
    bare = urlencode(fields) + "&image=" + DATA_URL
    assert "+" in DATA_URL
    for answer in (
        api.post(path, data={**fields, "image": DATA_URL}),
        api.post(path, content=bare, headers={"Content-Type": "application/x-www-form-urlencoded"}),
        api.post(path, files={**{name: (None, text) for name, text in fields.items()}, "image": (None, DATA_URL)}),
    ):
        assert (answer.status_code, "effective" in answer.json()) == (200, True), answer.text


def test_other_texts_in_place_of_the_picture_are_refused(api: httpx.Client) -> None:
    fields = {"prompt": "make it night", "dry_run": "true"}
    for text in (DATA_URL.partition(",")[2], "data:image/png;base64,~", "http://127.0.0.1/a.png", "data:image/png"):
        answer = api.post("/image-to-image", data={**fields, "image": text})
        assert "as a data URL in base64" in problem(answer, 422)
    answer = api.post("/image-to-image", data={**fields, "image": "data:image/svg+xml,%3Csvg/%3E"})
    assert "SVG" in problem(answer, 422)


def test_data_urls_are_decoded_as_in_browsers() -> None:
    assert data_urls.decode("data:;base64,SyVm\r\nbG4") == b"K%fln"
    assert data_urls.decode("DATA:text/plain;charset=utf-8;BASE64 ,S%33M=") == b"Ks"
    assert data_urls.decode(" data:,K%C3%B6ln") == "Köln".encode()
    assert data_urls.decode("data:text/plain;,Kg==") == b"Kg=="


def test_percent_escapes_take_little_memory() -> None:
    body = b"image=data:," + b"%25FF" * 100_000
    request = Request(RequestFactory().post("/", body, content_type="application/x-www-form-urlencoded"))
    tracemalloc.start()
    try:
        parts = form_parts(request)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert b"".join(parts.files["image"]) == b"\xff" * 100_000  # type: ignore[arg-type]
    assert peak < 10 * len(body)


@pytest.mark.parametrize("length", [0, 1, 16_383, 16_384, 16_385, 50_000])
def test_percent_escapes_are_decoded_wherever_they_are(length: int) -> None:
    for text in (b"a%41", b"%4", b"%", b"a%c3%a4"):
        content = (text * length)[:length]
        assert data_urls.percent_decode(content) == unquote_to_bytes(content)


# What a client may send for an address takes no longer than its length.
@pytest.mark.parametrize("text", ["", "data:", "data:;base64", "x,y", "data:;base64,A", "data:;" + " " * 1_000_000])
def test_what_is_no_data_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="data"):
        data_urls.decode(text)


# Malformed forms.


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (form(NIGHT), "multipart/form-data", "no boundary"),
        (form(NIGHT), "multipart/form-data; boundary=", "no boundary"),
        (form(NIGHT), "multipart/form-data; boundary=another", "damaged or cut short"),
        (form(NIGHT)[:-20], CONTENT_TYPE, "damaged or cut short"),
        (multipart(*[NIGHT] * 1001), CONTENT_TYPE, "1000 parts"),
        (multipart(part('name="prompt"', b"x", *["X: y"] * 9)), CONTENT_TYPE, "8 headers"),
        (multipart(part('name="prompt"', b"x", "X: " + "y" * 5000)), CONTENT_TYPE, "4 kB"),
        (multipart(part('name="image"', b"AAA", "Content-Transfer-Encoding: base64")), CONTENT_TYPE, "damaged"),
        (multipart(b"X: y\r\n\r\nx"), CONTENT_TYPE, "damaged"),
        # What the library takes a long time to unfold.
        (multipart(*[part('name="prompt"', b"x", "X: " + "\r\n y" * 1900)] * 100), CONTENT_TYPE, "256 kB of headers"),
        ("&".join(["a=b"] * 1001).encode(), "application/x-www-form-urlencoded", "1000 fields"),
    ],
    ids=range(11),
)
def test_a_malformed_form_says_what_is_wrong(api: httpx.Client, body: bytes, content_type: str, words: str) -> None:
    answer = post(api, body, content_type)
    assert words in problem(answer, 400)
    assert answer.json()["detail"]["code"] == "malformed_request"
