"""Uploads that others have signed, through the API of a real service, and what C2PA's own reader finds in results."""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import c2pa
import httpx
import pytest

from tests.support import pictures
from tests.support.service import WAIT_SECONDS, Service, record, signed_in
from tests.support.signed_pictures import PERSON, by_camera, by_service

FIELDS = {"prompt": "make it night", "num_inference_steps": "1", "seed": "5"}


@pytest.fixture(scope="module")
def browser(service: Service) -> Iterator[httpx.Client]:
    with signed_in(service) as client:
        yield client


def send(service: Service, content: bytes, **fields: str) -> dict[str, Any]:
    with service.client() as client:
        answer = client.post("/image-to-image", data={**FIELDS, **fields}, files={"image": ("a", content)})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def download(answer: dict[str, Any]) -> bytes:
    return httpx.get(answer["images"][0]["url"], timeout=WAIT_SECONDS).content


def chain(content: bytes, media_type: str = "image/png") -> dict[str, dict[str, Any]]:
    """Return the manifests of an intact file by the names of their signers."""
    with c2pa.Reader(media_type, io.BytesIO(content)) as reader:
        assert reader.get_validation_state() == "Valid"
        report = json.loads(reader.json())
    return {each["signature_info"]["common_name"]: each for each in report["manifests"].values()}


def claims_of_input(service: Service, answer: dict[str, Any]) -> dict[str, Any]:
    kept: Any = record(service, answer["id"])
    claims: dict[str, Any] = kept["inputs"][0]["content_credentials"]
    return claims


def verify(service: Service, content: bytes) -> dict[str, Any]:
    answer = httpx.post(
        f"{service.url}/verify",
        files={"image": ("a", content)},
        headers={"Accept": "application/json"},
        timeout=WAIT_SECONDS,
    )
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_a_signed_photo_is_in_the_chain_of_its_result(service: Service, browser: httpx.Client) -> None:
    answer = send(service, by_camera(pictures.phone_photo()))
    assert answer["warnings"] == []
    content = download(answer)
    camera = chain(content)["Contoso Camera"]
    (created,) = (item["data"]["actions"] for item in camera["assertions"] if item["label"] == "c2pa.actions.v2")
    assert created[0]["digitalSourceType"].endswith("/digitalCapture")
    assert PERSON.encode() not in content
    claims = claims_of_input(service, answer)
    assert (claims["state"], claims["signer"], claims["signed"]) == (
        "foreign",
        "Contoso Camera",
        "2026-11-03T08:15:00Z",
    )
    page = browser.get(f"/history/{answer['id']}/").text
    assert "signed by Contoso Camera on 3 November 2026, with Contoso Camera 7" in page
    told = verify(service, content)
    assert (told["origin"], told["source"]) == ("here", claims)
    assert "made of a picture that Contoso Camera had signed, and that was not changed before" in told["summary"]
    converted = browser.get(f"/history/{answer['id']}/1.webp").content
    assert "Contoso Camera" in chain(converted, "image/webp")


def test_an_altered_picture_of_another_service_is_told_to_be_altered(service: Service) -> None:
    content = by_service(pictures.photo(256, 192))
    changed = content.replace(b"Fabrikam Pictures", b"Fabrikam Pictured")
    answer = send(service, changed, seed="6")
    result = download(answer)
    chain(result)
    claims = claims_of_input(service, answer)
    assert claims["state"] == "altered"
    told = verify(service, result)
    assert told["source"] == claims
    assert "changed after" in told["summary"]


def test_a_result_is_known_again_when_it_is_the_next_input(service: Service, browser: httpx.Client) -> None:
    first = send(service, by_camera(pictures.photo(256, 192, "JPEG")), seed="7")
    answer = send(service, download(first), seed="8")
    claims = claims_of_input(service, answer)
    assert claims["state"] == "own"
    assert "Contoso Camera" in chain(download(answer))
    assert "made here, and unchanged since" in browser.get(f"/history/{answer['id']}/").text
    assert "made of a picture of this site" in verify(service, download(answer))["summary"]


def test_a_stored_upload_is_told_to_be_an_upload(service: Service, browser: httpx.Client) -> None:
    answer = send(service, by_camera(pictures.photo(256, 192, "JPEG")), seed="9")
    form = {"action": "download", "id": answer["id"], "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
    body = browser.post("/history/selection", data=form, headers={"Referer": str(browser.base_url)}).content
    with zipfile.ZipFile(io.BytesIO(body)) as file:
        (name,) = (name for name in file.namelist() if re.search(r"-input\.", name))
        content = file.read(name)
        recipe = json.loads(file.read("recipes.json"))["generations"][0]
    assert recipe["input"]["content_credentials"]["signer"] == "Contoso Camera"
    told = verify(service, content)
    assert told["origin"] == "elsewhere"
    assert told["model_id"] is None
    assert "It was sent to this site" in told["summary"]


def test_what_cannot_be_passed_on_is_said(service: Service) -> None:
    elsewhere = by_camera(pictures.photo(256, 192, "JPEG"), remote_url="http://127.0.0.1:9/c2pa", is_embedded=False)
    answer = send(service, elsewhere, seed="10")
    assert any("not passed on" in warning for warning in answer["warnings"])
    assert verify(service, download(answer))["source"] is None
