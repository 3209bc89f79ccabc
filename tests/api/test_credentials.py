"""Every address of the service that gives a result gives it with content credentials, which C2PA's own reader accepts."""

import base64
import io
import json
import re
import zipfile
from collections.abc import Iterator

import c2pa
import httpx
import pytest
from PIL import Image

from generation.images.credentials import DIGITAL_SOURCE_TYPE
from generation.images.manifests import GENERATION, RECIPE
from tests.support import pictures
from tests.support.service import Service, record, send_form, signed_in

TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


def credentials(content: bytes) -> dict[str, object]:
    """Return what the mark of a result tells of its generation, itself or by its source. It must be intact."""
    with Image.open(io.BytesIO(content)) as picture:
        media_type = TYPES[str(picture.format)]
        xmp = picture.info.get("XML:com.adobe.xmp") or picture.info.get("xmp", b"").decode()
    with c2pa.Reader(media_type, io.BytesIO(content)) as reader:
        assert reader.get_validation_state() == "Valid"
        report = json.loads(reader.json())
    active = report["manifests"][report["active_manifest"]]
    (actions,) = (item["data"]["actions"] for item in active["assertions"] if item["label"] == "c2pa.actions.v2")
    assert actions[-1]["digitalSourceType"] == DIGITAL_SOURCE_TYPE
    # Thumbnails have the signature alone.
    assert DIGITAL_SOURCE_TYPE in xmp or max(picture.size) <= 392
    told = [
        item["data"]
        for manifest in report["manifests"].values()
        for item in manifest["assertions"]
        if item["label"] == GENERATION
    ]
    return dict(told[0]) if told else {}


@pytest.fixture(scope="module")
def browser(service: Service) -> Iterator[httpx.Client]:
    with signed_in(service) as client:
        yield client


@pytest.fixture(scope="module")
def generation_id(service: Service) -> str:
    with service.client() as client:
        answer = client.post(
            "/image-to-image",
            data={"prompt": "make it night", "num_inference_steps": "1", "seed": "5"},
            files={"image": ("a.png", pictures.photo(512, 384))},
        )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def test_results_and_thumbnails(service: Service, browser: httpx.Client, generation_id: str) -> None:
    images = record(service, generation_id)["images"]
    assert isinstance(images, list)
    told = credentials(httpx.get(images[0]["url"]).content)
    assert told["generation"] == generation_id
    assert told["seed"] == 5
    assert told["model"] == "dreamsite/tiny-edit"
    assert "recipe" not in told
    (thumbnail,) = set(re.findall(r'src="([^"]+-small\.webp[^"]*)"', browser.get("/history/?seed=5").text))
    assert credentials(browser.get(thumbnail.replace("&amp;", "&")).content)["generation"] == generation_id


@pytest.mark.parametrize("extension", ["png", "jpg", "webp"])
def test_downloads(browser: httpx.Client, generation_id: str, extension: str) -> None:
    content = browser.get(f"/history/{generation_id}/1.{extension}").content
    assert credentials(content)["generation"] == generation_id


def test_a_zip(browser: httpx.Client, generation_id: str) -> None:
    form = {"action": "download", "id": generation_id, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
    answer = browser.post("/history/selection", data=form, headers={"Referer": str(browser.base_url)})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as file:
        (name,) = (name for name in file.namelist() if name.endswith("-1.png"))
        assert credentials(file.read(name))["generation"] == generation_id


def test_a_shared_page(service: Service, browser: httpx.Client, generation_id: str) -> None:
    page = send_form(browser, f"/history/{generation_id}/share", {"picture": "1", "days": "7"})
    code = re.findall(r"/s/([A-Za-z0-9_-]{43})", page)[0]
    for address in ("picture", "preview.jpg"):
        content = httpx.get(f"{service.url}/s/{code}/{address}").content
        assert credentials(content)["generation"] == generation_id


def test_the_alias(service: Service) -> None:
    with service.client() as client:
        answer = client.post(
            "/v1/images/edits",
            data={"prompt": "make it night", "output_format": "jpeg"},
            files={"image": ("a.png", pictures.photo(128, 128))},
        )
    assert answer.status_code == 200, answer.text
    content = base64.b64decode(answer.json()["data"][0]["b64_json"])
    assert credentials(content)["model"] == "dreamsite/tiny-edit"


def recipes(content: bytes) -> list[str]:
    """Return the prompts that the mark of a picture tells."""
    credentials(content)
    with Image.open(io.BytesIO(content)) as picture:
        media_type = TYPES[str(picture.format)]
    with c2pa.Reader(media_type, io.BytesIO(content)) as reader:
        report = json.loads(reader.json())
    assertions = [item for manifest in report["manifests"].values() for item in manifest["assertions"]]
    return [item["data"]["parameters"]["prompt"] for item in assertions if item["label"] == RECIPE]


def test_only_its_owner_lets_a_picture_tell_its_prompt(
    service: Service, browser: httpx.Client, generation_id: str
) -> None:
    settings = {"blur_flagged": "on", "theme": "auto", "default_model": ""}
    assert recipes(browser.get(f"/history/{generation_id}/1.webp").content) == []
    send_form(browser, "/settings/", {**settings, "tells_recipe": "on"})
    try:
        for extension in ("png", "webp"):
            assert recipes(browser.get(f"/history/{generation_id}/1.{extension}").content) == ["make it night"]
        form = {"action": "download", "id": generation_id, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        answer = browser.post("/history/selection", data=form, headers={"Referer": str(browser.base_url)})
        with zipfile.ZipFile(io.BytesIO(answer.content)) as file:
            (name,) = (name for name in file.namelist() if name.endswith("-1.png"))
            assert recipes(file.read(name)) == ["make it night"]
        for with_recipe, told in (("", []), ("on", ["make it night"])):
            page = send_form(
                browser, f"/history/{generation_id}/share", {"picture": "1", "days": "7", "with_recipe": with_recipe}
            )
            code = re.findall(r"/s/([A-Za-z0-9_-]{43})", page)[0]
            assert recipes(httpx.get(f"{service.url}/s/{code}/picture").content) == told
    finally:
        send_form(browser, "/settings/", settings)
    images = record(service, generation_id)["images"]
    assert isinstance(images, list)
    assert recipes(httpx.get(images[0]["url"]).content) == []
