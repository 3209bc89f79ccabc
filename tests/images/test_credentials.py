"""Content credentials: what a picture says of its origin, read by C2PA's own reader."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pytest_django import Settings

from generation.images import certificates, credentials, encoding, manifests
from generation.images.credentials import File, Origin
from generation.parameters import OutputFormat
from tests.support import pictures
from tests.support.servers import free_port

MADE = datetime(2026, 12, 1, 12, 30, tzinfo=UTC)
ORIGIN = Origin("0197a6c1-5d2e-7c3a-9b54-0e8f2d6a1c47", 0, "dreamsite/tiny-edit", "ab" * 32, 7, True)
TYPES = {OutputFormat.PNG: "image/png", OutputFormat.JPEG: "image/jpeg", OutputFormat.WEBP: "image/webp"}


@pytest.fixture(autouse=True)
def _own_folder(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path


def photo() -> Image.Image:
    return Image.open(io.BytesIO(pictures.photo(96, 64))).convert("RGB")


def result(output_format: OutputFormat = OutputFormat.PNG) -> bytes:
    content = encoding.encode(photo(), output_format, 90)
    return credentials.sign(content, TYPES[output_format], MADE, ORIGIN, File(pictures.photo(96, 64), "image/png"))


def report(content: bytes, media_type: str) -> dict[str, Any]:
    anchors = [certificate.anchor for certificate in certificates.known()]
    found = manifests.read(content, media_type, anchors)
    assert found is not None
    return found


def manifest(found: dict[str, Any]) -> dict[str, Any]:
    active: dict[str, Any] = found["manifests"][found["active_manifest"]]
    return active


def assertion(active: dict[str, Any], label: str) -> Any:
    return next(item["data"] for item in active["assertions"] if item["label"] == label)


@pytest.mark.parametrize("output_format", OutputFormat)
def test_a_result_says_what_made_it_and_keeps_its_pixels(output_format: OutputFormat) -> None:
    unsigned = encoding.encode(photo(), output_format, 90)
    content = result(output_format)
    assert encoding.decode(content).tobytes() == encoding.decode(unsigned).tobytes()
    assert len(content) - len(unsigned) < 5_000
    found = report(content, TYPES[output_format])
    assert found["validation_state"] == "Trusted"
    active = manifest(found)
    opened, edited = assertion(active, "c2pa.actions.v2")["actions"]
    assert opened["action"] == "c2pa.opened"
    assert edited["action"] == "c2pa.edited"
    assert edited["digitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert edited["when"] == "2026-12-01T12:30:00Z"
    assert active["ingredients"][0]["relationship"] == "parentOf"
    told = assertion(active, manifests.GENERATION)
    assert told["model"] == "dreamsite/tiny-edit"
    assert told["seed"] == 7
    assert "recipe" not in told
    with Image.open(io.BytesIO(content)) as picture:
        xmp = picture.info.get("XML:com.adobe.xmp") or picture.info["xmp"].decode()
    assert "DigitalSourceType=" in xmp


def test_one_changed_byte_is_found() -> None:
    content = bytearray(result())
    content[-2000] ^= 1
    assert report(bytes(content), "image/png")["validation_state"] == "Invalid"


def test_a_conversion_has_the_manifest_of_its_source() -> None:
    converted = encoding.convert(result(), "1-0.png", OutputFormat.WEBP)
    found = report(converted, "image/webp")
    assert found["validation_state"] == "Trusted"
    assert [action["action"] for action in assertion(manifest(found), "c2pa.actions.v2")["actions"]] == [
        "c2pa.opened",
        "c2pa.transcoded",
    ]
    labels = [item["label"] for each in found["manifests"].values() for item in each["assertions"]]
    assert manifests.GENERATION in labels


def test_all_hosts_with_the_key_of_the_site_sign_with_the_same_certificate(settings: Settings) -> None:
    first = certificates.current()
    assert b"PRIVATE" not in first.chain
    assert certificates.current() == first
    settings.WATERMARK_KEY = "the key of another site, which is as long"
    assert certificates.current().chain != first.chain


def test_a_renewed_certificate_is_used_at_once_and_the_earlier_one_stays_known(
    settings: Settings, tmp_path: Path
) -> None:
    own, key = tmp_path / "chain.pem", settings.WATERMARK_KEY
    settings.C2PA_PRIVATE_KEY = settings.C2PA_CERTIFICATES = str(own)
    contents = []
    for number in (1, 2):
        settings.WATERMARK_KEY = f"{number}: only to have another certificate"
        with settings_without_files(settings):
            identity = certificates.current()
        own.write_bytes(identity.key + identity.chain)
        settings.WATERMARK_KEY = key
        contents.append(result())
    reports = [report(content, "image/png") for content in contents]
    serials = {manifest(each)["signature_info"]["cert_serial_number"] for each in reports}
    assert len(serials) == 2
    known = {str(certificate.serial_number) for certificate in certificates.known()}
    assert serials < known
    assert {each["validation_state"] for each in reports} == {"Trusted"}


@contextmanager
def settings_without_files(settings: Settings) -> Iterator[None]:
    key, settings.C2PA_PRIVATE_KEY = settings.C2PA_PRIVATE_KEY, ""
    yield
    settings.C2PA_PRIVATE_KEY = key


@pytest.mark.parametrize(("content", "message"), [("nothing", "no PEM files"), ("", "no PEM files")])
def test_files_that_are_no_keys_are_refused(settings: Settings, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "wrong.pem"
    path.write_text(content)
    settings.C2PA_PRIVATE_KEY = settings.C2PA_CERTIFICATES = str(path)
    with pytest.raises(certificates.CertificateError, match=message):
        certificates.read(path, path)
    # Pictures are signed all the same.
    assert report(result(), "image/png")["validation_state"] == "Trusted"


def test_a_time_stamp_server_that_is_away_stops_nothing(settings: Settings) -> None:
    settings.C2PA_TIMESTAMP_URL = f"http://127.0.0.1:{free_port()}/"
    assert report(result(), "image/png")["validation_state"] == "Trusted"


def test_it_can_be_switched_off(settings: Settings) -> None:
    settings.CONTENT_CREDENTIALS = False
    assert manifests.read(result(), "image/png", []) is None


def test_a_file_without_a_manifest_has_no_report() -> None:
    assert manifests.read(pictures.photo(96, 64), "image/png", []) is None


def test_the_report_is_json() -> None:
    assert json.loads(json.dumps(report(result(), "image/png")))
