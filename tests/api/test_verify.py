"""`/verify`: what files tell of their origin, to anybody, as JSON and as a page."""

import logging
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from accounts.models import User
from generation.images import credentials
from generation.images.credentials import File
from generation.library import deletion
from generation.library.archive import told_recipe
from generation.models import FileDeletion, Generation, StagedFiles
from tests.support import pictures
from tests.support.generations import make_generation
from tests.support.marked import content_of, encoded_again, make_marked
from tests.support.signed_pictures import CAPTURED, by_camera

pytestmark = pytest.mark.usefixtures("redis", "tiny_edit")

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(autouse=True)
def _own_folder(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path / "site"
    settings.DATA_DIR.mkdir()


def post(client: Client, content: bytes, **headers: str) -> Any:
    return client.post("/verify", {"image": SimpleUploadedFile("picture", content)}, headers=headers)


def verify(client: Client, content: bytes) -> dict[str, Any]:
    answer = post(client, content)
    assert answer.status_code == 200, answer.content
    assert answer["Cache-Control"] == "no-store"
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize("extension", ["png", "jpg", "webp"])
def test_a_result_as_downloaded_is_untouched(client: Client, alice: User, extension: str) -> None:
    image = make_marked(alice)
    client.force_login(alice)
    answer = client.get(reverse("download", args=[image.generation_id, 1, extension]))
    content = b"".join(answer) if answer.streaming else answer.content
    client.logout()
    told = verify(client, content)
    assert told["origin"] == "here"
    assert told["evidence"] == "content_credentials"
    assert told["altered"] is False
    assert told["deleted"] is False
    assert told["model_id"] == "dreamsite/tiny-edit"
    assert told["generation"] == str(image.generation_id)
    assert told["seed"] == 1207
    assert told["made"][:19] == f"{image.generation.finished:%Y-%m-%dT%H:%M:%S}"
    assert told["content_credentials"]["state"] == "own"
    assert told["recipe"] is None
    assert "alice" not in str(told)
    assert image.generation.prompt not in str(told)


@pytest.mark.parametrize("place", [-1, -2000])
def test_one_changed_byte_is_told(client: Client, alice: User, place: int) -> None:
    """In the end of a PNG file, which leaves the pixels as they are, or in the pixels, which cannot be read then."""
    content = bytearray(content_of(make_marked(alice)))
    content[place] ^= 1
    told = verify(client, bytes(content))
    assert told["content_credentials"]["state"] == "altered"
    assert told["altered"] is True


@pytest.mark.parametrize("box", [None, (40, 30, 330, 240)])
def test_a_picture_without_its_mark_is_known_by_its_watermark(
    client: Client, alice: User, box: tuple[int, int, int, int] | None
) -> None:
    image = make_marked(alice)
    told = verify(client, encoded_again(content_of(image), box=box))
    assert (told["origin"], told["evidence"], told["altered"]) == ("here", "watermark", True)
    assert told["model_id"] == "dreamsite/tiny-edit"
    assert told["made"][:19] == f"{image.generation.finished:%Y-%m-%dT%H:%M:%S}"
    assert told["content_credentials"] is None
    # Several users may have made it.
    assert told["generation"] is None
    assert "credentials are gone" in told["summary"]


@pytest.mark.parametrize("delete", [deletion.delete, lambda row: deletion.trash(Generation.objects.filter(pk=row.pk))])
def test_a_deleted_picture_is_told_to_be_deleted(client: Client, alice: User, delete: Any) -> None:
    image = make_marked(alice)
    content = content_of(image)
    delete(image.generation)
    for file, model_id in ((content, "dreamsite/tiny-edit"), (encoded_again(content), None)):
        told = verify(client, file)
        assert (told["origin"], told["deleted"], told["model_id"]) == ("here", True, model_id)
        assert "deleted" in told["summary"]


def test_a_picture_is_not_deleted_while_an_answer_with_a_copy_of_it_is_there(client: Client, alice: User) -> None:
    image = make_marked(alice)
    content = content_of(image)
    copy = make_generation(alice)
    Generation.objects.filter(pk=copy.pk).update(reused_from=image.generation)
    deletion.delete(image.generation)
    assert verify(client, content)["deleted"] is False
    deletion.delete(copy)
    assert verify(client, content)["deleted"] is True


def test_a_stranger_who_signs_is_named_as_a_stranger(client: Client) -> None:
    content = by_camera(pictures.photo(format_="JPEG"))
    told = verify(client, content)
    assert (told["origin"], told["evidence"], told["altered"]) == ("elsewhere", "content_credentials", False)
    claims = told["content_credentials"]
    assert claims["state"] == "foreign"
    assert claims["generator"] == "Contoso Camera 7"
    assert claims["signed"] == f"{CAPTURED:%Y-%m-%dT%H:%M:%SZ}"
    assert claims["digital_source_type"].endswith("/digitalCapture")
    assert told["made"] is None
    assert f"signed by {claims['signer']}, whom this site does not know" in told["summary"]
    page = post(client, content, **BROWSER).content.decode()
    assert "taken by a digital camera" in page
    assert "Signed elsewhere" in page


def test_a_result_that_others_signed_again_is_known_by_its_watermark(client: Client, alice: User) -> None:
    content = by_camera(encoded_again(content_of(make_marked(alice))))
    told = verify(client, content)
    assert (told["origin"], told["evidence"], told["altered"]) == ("here", "watermark", True)
    assert told["content_credentials"]["state"] == "foreign"
    assert any("anybody can sign" in sentence for sentence in told["unknown"])


def test_nobody_vouches_for_the_signer_of_an_upload(client: Client, alice: User) -> None:
    image = make_marked(alice, source=by_camera(pictures.photo(format_="JPEG")))
    told = verify(client, content_of(image))
    assert told["source"]["signer"] == "Contoso Camera"
    assert any("the upload" in sentence and "anybody can sign" in sentence for sentence in told["unknown"])
    untold = verify(client, content_of(make_marked(alice)))
    assert not any("anybody can sign" in sentence for sentence in untold["unknown"])


def test_a_mark_that_was_forged_before_this_site_signed_is_not_believed(client: Client, alice: User) -> None:
    content = content_of(make_marked(alice))
    transcoded = credentials.derive(encoded_again(content), "image/jpeg", "c2pa.transcoded", File(content, "image/png"))
    forged = transcoded.replace(b"dreamsite/tiny-edit", b"forged---/tiny-edit")
    assert forged != transcoded
    assert verify(client, forged)["content_credentials"]["state"] == "altered"
    again = credentials.derive(encoded_again(forged), "image/jpeg", "c2pa.resized", File(forged, "image/jpeg"))
    told = verify(client, again)
    assert told["content_credentials"]["state"] == "own"
    assert told["evidence"] == "watermark"
    assert "forged" not in str(told)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
def test_nothing_is_told_of_other_pictures(client: Client, format_: str) -> None:
    told = verify(client, pictures.photo(format_=format_))
    assert (told["origin"], told["evidence"], told["altered"]) == ("unknown", None, None)
    assert told["content_credentials"] is None
    assert told["unknown"]


def test_what_is_no_picture_is_refused_by_name(client: Client) -> None:
    answer = post(client, b"%PDF-1.7 and so on")
    assert answer.status_code == 422
    assert "a PDF document" in answer.json()["detail"][0]["msg"]
    page = post(client, b"%PDF-1.7 and so on", **BROWSER)
    assert page.status_code == 422
    assert "a PDF document" in page.content.decode()


@pytest.mark.parametrize("garbage", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF0000WEBPVP8 ", b"\0\0\0\x18ftypavif"])
def test_a_damaged_beginning_tells_nothing_or_is_refused(client: Client, garbage: bytes) -> None:
    answer = post(client, garbage + b"garbage" * 100)
    assert answer.status_code in (200, 422)
    if answer.status_code == 200:
        assert answer.json()["origin"] == "unknown"


def test_a_picture_must_be_sent(client: Client) -> None:
    answer = client.post("/verify", {"image": "https://example.org/"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["type"] == "missing"
    page = client.post("/verify", {}, headers=BROWSER)
    assert page.status_code == 422
    assert "Choose a picture first." in page.content.decode()


def test_the_page_is_for_browsers(client: Client) -> None:
    page = client.get("/verify", headers=BROWSER)
    assert page.status_code == 200
    assert page["Cache-Control"] == "max-age=0, no-cache, no-store, must-revalidate, private"
    assert client.head("/verify", headers=BROWSER).status_code == 200
    for answer in (client.get("/verify"), client.put("/verify", headers=BROWSER)):
        assert answer.status_code == 405
        assert answer["Allow"] == "POST, OPTIONS"


def test_a_recipe_is_told_if_its_owner_had_it_written_into_the_file(client: Client, alice: User) -> None:
    image = make_marked(alice, prompt="make it night")
    content = credentials.tell(content_of(image), "image/png", told_recipe(image.generation))
    told = verify(client, content)
    assert told["generation"] == str(image.generation_id)
    assert told["recipe"]["parameters"]["prompt"] == "make it night"
    assert "make it night" in post(client, content, **BROWSER).content.decode()


def test_nothing_is_stored_or_logged(
    client: Client, alice: User, caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    content = encoded_again(content_of(make_marked(alice)))
    before = set(Path(settings.MEDIA_ROOT).rglob("*"))
    with caplog.at_level(logging.DEBUG):
        verify(client, content)
    assert set(Path(settings.MEDIA_ROOT).rglob("*")) == before
    assert not StagedFiles.objects.exists()
    assert not FileDeletion.objects.exists()
    ours = [record for record in caplog.records if record.name.split(".")[0] in ("accounts", "dreamsite", "generation")]
    assert not ours


def test_staff_alone_are_led_to_the_generation(client: Client, alice: User, charlie: User) -> None:
    image = make_marked(alice)
    content = encoded_again(content_of(image))
    address = reverse("admin:generation_generation_change", args=[image.generation_id])
    for user, is_led in ((None, False), (alice, False), (charlie, True)):
        if user:
            client.force_login(user)
        assert (address in post(client, content, **BROWSER).content.decode()) is is_led
    charlie.is_superuser = False
    charlie.save()
    assert address not in post(client, content, **BROWSER).content.decode()
