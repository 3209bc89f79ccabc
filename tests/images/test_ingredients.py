"""Uploads that others have signed: what of their content credentials is in the stored file and in results, by C2PA's reader."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import c2pa
import pytest
from PIL import Image
from pytest_django import Settings

from generation.images import certificates, credentials, encoding, manifests
from generation.images.credentials import File, Origin
from generation.images.ingredients import MAX_ARCHIVE_BYTES
from generation.images.input_files import encode_input, read_whole
from generation.images.uploads import InputFile, Upload, read_upload
from tests.support import pictures
from tests.support.marked import encoded_again
from tests.support.remotes import serving
from tests.support.signed_pictures import CAPTURED, PERSON, PLACE, by_camera, by_service, moved

ORIGIN = Origin("0197a6c1-5d2e-7c3a-9b54-0e8f2d6a1c47", 0, "dreamsite/tiny-edit", "ab" * 32, 7, True)
TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "TIFF": "image/tiff", "AVIF": "image/avif"}


@pytest.fixture(autouse=True)
def _own_folder(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path


def read(content: bytes) -> Upload:
    return read_upload(io.BytesIO(content), max_pixels=4_000_000)


def report(file: InputFile) -> dict[str, Any]:
    """Return C2PA's report on a stored file, which its reader accepts."""
    with c2pa.Reader(encoding.media_type(file.suffix), io.BytesIO(file.content)) as reader:
        assert reader.get_validation_state() == "Valid"
        found: dict[str, Any] = json.loads(reader.json())
    return found


def result_of(*inputs: InputFile) -> InputFile:
    """Return a result that was made of stored inputs."""
    files = [File(each.content, encoding.media_type(each.suffix)) for each in inputs]
    content = pictures.photo(200, 150)
    made = credentials.sign(content, "image/png", datetime.now(UTC), ORIGIN, files[0], files[1:])
    return InputFile(made, ".png")


def assertions(file: InputFile) -> list[str]:
    """Return the labels of all that the manifests of a file assert."""
    with c2pa.Reader(encoding.media_type(file.suffix), io.BytesIO(file.content)) as reader:
        found = json.loads(reader.detailed_json())
    return [label for manifest in found["manifests"].values() for label in manifest["assertion_store"]]


def signers(found: dict[str, Any]) -> set[str]:
    return {manifest["signature_info"]["common_name"] for manifest in found["manifests"].values()}


def mark(file: InputFile) -> manifests.Mark:
    known = certificates.known()
    found = manifests.mark(file.content, [each.anchor for each in known], [str(each.serial_number) for each in known])
    assert found
    return found


@pytest.mark.parametrize("format_", TYPES)
def test_a_result_has_the_whole_chain_and_nothing_personal(format_: str) -> None:
    upload = read(by_camera(pictures.photo(320, 240, format_), TYPES[format_]))
    assert upload.claims
    assert not upload.warnings
    assert (upload.claims.state, upload.claims.signer) == ("foreign", "Contoso Camera")
    assert upload.claims.signed == CAPTURED
    stored = encode_input(upload)
    with Image.open(io.BytesIO(stored.content)) as picture:
        assert picture.convert("RGB").tobytes() == upload.picture.tobytes() or stored.suffix == ".jpg"
    result = result_of(stored)
    found = report(result)
    assert len(found["manifests"]) == 3
    assert "Contoso Camera" in signers(found)
    for text in (PERSON, PLACE):
        assert text.encode() not in stored.content + result.content
    assert not any("thumbnail" in label for label in assertions(result))
    assert len(result.content) - len(pictures.photo(200, 150)) < 25_000
    told = mark(result)
    assert told.state == "own"
    assert told.told
    assert told.source == upload.claims


def test_a_picture_of_another_service_is_told_to_be_made_by_a_model() -> None:
    result = result_of(encode_input(read(by_service(pictures.photo(200, 150)))))
    source = mark(result).source
    assert source
    assert (source.signer, source.digital_source_type.rpartition("/")[2]) == (
        "Fabrikam Pictures",
        "trainedAlgorithmicMedia",
    )


def altered_pixels() -> bytes:
    content = bytearray(by_camera(pictures.photo(320, 240, "JPEG")))
    content[-300] ^= 1
    return bytes(content)


def altered_claim() -> bytes:
    return by_camera(pictures.photo(320, 240, "JPEG")).replace(b"digitalCapture", b"digitalCreatur")


def of_another_picture() -> bytes:
    return moved(by_camera(pictures.photo(320, 240, "JPEG")), pictures.photo(200, 150, "JPEG"))


@pytest.mark.parametrize("make", [altered_pixels, altered_claim, of_another_picture])
def test_credentials_that_do_not_match_are_kept_and_told_as_such(make: Any) -> None:
    upload = read(make())
    assert upload.claims
    assert upload.claims.state == "altered"
    result = result_of(encode_input(upload))
    # The result is as it was signed, whatever its source was.
    report(result)
    told = mark(result)
    assert told.told
    assert told.source
    assert (told.source.state, told.source.signer) == ("altered", "Contoso Camera")


def cut_off() -> bytes:
    content = by_camera(pictures.photo(320, 240, "PNG"), "image/png")
    place = content.index(b"caBX")
    length = int.from_bytes(content[place - 4 : place], "big")
    plain = content[: place - 4] + content[place + 8 + length :]
    return pictures.with_png_chunk(plain, b"caBX", content[place + 4 : place + 4 + length // 2])


def kept_elsewhere() -> bytes:
    content = pictures.photo(320, 240, "JPEG")
    return by_camera(content, remote_url="http://127.0.0.1:9/manifests/1", is_embedded=False)


def too_large() -> bytes:
    return by_camera(
        pictures.photo(320, 240, "JPEG"), thumbnail=pictures.noise(MAX_ARCHIVE_BYTES + 1), has_thumbnail=False
    )


def nested_deeply() -> bytes:
    box = b""
    for _ in range(20_000):
        box = (len(box) + 8).to_bytes(4, "big") + b"jumb" + box
    return pictures.with_png_chunk(pictures.photo(320, 240, "PNG"), b"caBX", box + b"c2pa")


@pytest.mark.parametrize(
    ("make", "state"),
    [
        (cut_off, "unreadable"),
        (kept_elsewhere, "unreadable"),
        (nested_deeply, "unreadable"),
        (too_large, "foreign"),
    ],
)
def test_what_cannot_be_kept_is_told_and_the_picture_accepted(make: Any, state: str) -> None:
    upload = read(make())
    assert upload.claims
    assert upload.claims.state == state
    (warning,) = upload.warnings
    assert "not passed on" in warning
    assert not upload.ingredient
    assert b"c2pa" not in encode_input(upload).content


@pytest.mark.parametrize("is_embedded", [False, True])
def test_no_address_in_a_picture_is_fetched(is_embedded: bool) -> None:
    with serving(b"") as server:
        url = f"http://127.0.0.1:{server.port}/manifest.c2pa"
        upload = read(by_camera(pictures.photo(320, 240, "JPEG"), remote_url=url, is_embedded=is_embedded))
        result_of(encode_input(upload))
        assert not server.requests
    assert upload.claims


def test_a_result_that_is_sent_again_is_known_to_be_made_here() -> None:
    first = result_of(encode_input(read(by_camera(pictures.photo(200, 150, "JPEG")))))
    upload = read(first.content)
    assert upload.claims
    assert upload.claims.state == "own"
    second = result_of(encode_input(upload))
    assert mark(second).source == upload.claims
    assert "Contoso Camera" in signers(report(second))


def test_a_result_that_was_changed_before_it_was_sent_again_is_not_made_here() -> None:
    first = bytearray(result_of(encode_input(read(pictures.photo(200, 150)))).content)
    first[-1] ^= 1
    upload = read(bytes(first))
    assert upload.claims
    assert upload.claims.state == "altered"
    source = mark(result_of(encode_input(upload))).source
    assert source
    assert source.state == "altered"


def test_a_result_of_a_stored_picture_with_a_damaged_manifest_is_signed_all_the_same() -> None:
    stored = encode_input(read(by_camera(pictures.photo(200, 150, "JPEG"))))
    place = stored.content.index(b"jumb")
    damaged = InputFile(stored.content[:place] + bytes(200) + stored.content[place + 200 :], stored.suffix)
    told = mark(result_of(damaged, stored))
    assert told.state == "own"
    assert told.told
    assert told.source is None


def test_a_stored_upload_is_no_result_of_this_site() -> None:
    told = mark(encode_input(read(by_camera(pictures.photo(200, 150, "JPEG")))))
    assert told.told is None
    assert told.digital_source_type == ""
    assert told.source
    assert told.source.signer == "Contoso Camera"


def test_further_pictures_are_ingredients_with_what_they_carry() -> None:
    stored = [
        encode_input(read(content))
        for content in (pictures.photo(200, 150), by_service(pictures.photo(64, 64)), pictures.photo(32, 32))
    ]
    result = result_of(*stored)
    found = report(result)
    active = found["manifests"][found["active_manifest"]]
    assert [each["relationship"] for each in active["ingredients"]] == ["parentOf", "inputTo", "inputTo"]
    assert "Fabrikam Pictures" in signers(found)


def test_what_is_made_of_a_result_has_the_chain(settings: Settings) -> None:
    result = result_of(encode_input(read(by_camera(pictures.photo(200, 150, "JPEG")))))
    smaller = credentials.derive(
        encoded_again(result.content), "image/jpeg", "c2pa.resized", File(result.content, "image/png")
    )
    told = mark(InputFile(smaller, ".jpg"))
    assert told.told
    assert told.source
    assert told.source.signer == "Contoso Camera"


def test_a_thumbnail_does_not_carry_the_chain() -> None:
    thumbnail = InputFile(
        credentials.sign_thumbnail(pictures.photo(64, 64, "WEBP"), "image/webp", datetime.now(UTC), ORIGIN), ".webp"
    )
    found = report(thumbnail)
    assert len(found["manifests"]) == 1
    assert mark(thumbnail).told


def test_all_pixels_beside_a_mask_are_kept_with_the_credentials() -> None:
    upload = read_whole(io.BytesIO(by_camera(pictures.photo(200, 150, "JPEG"))), max_pixels=4_000_000)
    stored = encode_input(upload)
    assert stored is upload.stored
    assert "Contoso Camera" in signers(report(stored))


def test_a_picture_without_credentials_is_stored_without(settings: Settings) -> None:
    upload = read(pictures.photo(200, 150))
    assert (upload.claims, upload.ingredient, upload.warnings) == (None, None, ())
    assert b"c2pa" not in encode_input(upload).content


def test_where_nothing_is_signed_uploads_are_not_either(settings: Settings) -> None:
    settings.CONTENT_CREDENTIALS = False
    upload = read(by_camera(pictures.photo(200, 150, "JPEG")))
    assert upload.claims
    assert b"c2pa" not in encode_input(upload).content
