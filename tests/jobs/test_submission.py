"""Options of a request: encoding of the pictures, dry run, `image_url`."""

import base64
import io
from collections.abc import Iterator

import httpx
import pytest
from django.test import Client
from PIL import Image
from pytest_django import Settings

from generation.models import DiffusionModel
from tests.support.pictures import photo
from tests.support.service import Service

PICTURE = photo(64, 64)


@pytest.fixture
def api(service: Service, alices_key: str) -> Iterator[httpx.Client]:
    with service.client(alices_key) as client:
        yield client


def post(api: httpx.Client, **fields: str) -> httpx.Response:
    data = {"prompt": "make it night", "num_inference_steps": "2", "seed": "3", **fields}
    return api.post("/image-to-image", data=data, files={"image": PICTURE})


@pytest.mark.parametrize(("format_", "type_"), [("png", "png"), ("jpeg", "jpeg"), ("webp", "webp")])
def test_pictures_have_the_requested_format(api: httpx.Client, format_: str, type_: str) -> None:
    url = post(api, output_format=format_).json()["images"][0]["url"]
    served = httpx.get(url)
    assert served.headers["Content-Type"] == f"image/{type_}"
    assert Image.open(io.BytesIO(served.content)).format == format_.upper()


def test_quality_counts_and_an_answer_may_carry_its_pictures(api: httpx.Client) -> None:
    sizes = []
    for quality in ("10", "95"):
        body = post(api, output_format="jpeg", output_quality=quality, response_format="data").json()
        head, _, data = body["images"][0]["url"].partition(",")
        assert head == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (64, 64)
        assert len(body["warnings"]) == 1, "quality has an effect here"
        sizes.append(len(data))
    # The content credentials are as large in both.
    assert sizes[1] - sizes[0] > 800


def test_fields_without_effect_are_in_the_warnings(api: httpx.Client) -> None:
    warnings = post(api, output_quality="80", **{"x" * 100: "1", "guidence": "7"}).json()["warnings"]
    assert "output_quality has no effect on png, which is lossless." in warnings
    assert f"There are no such fields, so they were ignored: guidence, {'x' * 50}." in warnings
    many = post(api, **{f"field{number:02}": "" for number in range(12)}).json()["warnings"]
    assert any(one.endswith("field09 and 2 more.") for one in many)


def test_a_dry_run_estimates_and_makes_nothing(api: httpx.Client) -> None:
    post(api)  # from which the service knows how long one takes
    before = api.get("/generations").json()["results"]
    response = post(api, dry_run="true")
    assert response.status_code == 200
    assert api.get("/generations").json()["results"] == before
    generation = post(api).json()
    record = api.get(f"/generations/{generation['id']}").json()
    estimate = response.json()
    assert estimate["effective"] == record["effective"]
    assert (estimate["cost"], estimate["warnings"], estimate["model_id"]) == (
        record["cost"],
        record["warnings"],
        record["model_id"],
    )
    assert estimate["waiting"]["position"] == 1
    assert estimate["waiting"]["estimated_finish"]
    assert "dry_run" not in record["parameters"]
    assert post(api, dry_run="true", model_id="no/such").status_code == 400


@pytest.mark.django_db
@pytest.mark.usefixtures("redis")
def test_a_dry_run_costs_the_steps_and_pixels_that_an_editor_makes(client: Client, alices_token: str) -> None:
    """Kontext ignores strength, and draws a picture of 64 x 64 at 512 x 512."""
    DiffusionModel.objects.create(id="someone/kontext", family="flux-kontext", enabled=True)
    fields = {"prompt": "make it night", "model_id": "someone/kontext", "dry_run": "true"}
    estimate = client.post(
        "/image-to-image",
        {**fields, "num_inference_steps": "200", "strength": "0.02", "image": io.BytesIO(PICTURE)},
        headers={"Authorization": f"Bearer {alices_token}"},
    ).json()
    assert estimate["cost"] == pytest.approx(200 * 512 * 512 / 1e6)
    assert "strength has no effect on someone/kontext." in estimate["warnings"]


def test_image_urls_are_off_by_default(api: httpx.Client) -> None:
    response = api.post("/image-to-image", data={"prompt": "x", "image_url": "https://example.org/x.png"})
    assert response.status_code == 422
    assert "Fetching pictures by URL is disabled" in response.json()["detail"][0]["msg"]


@pytest.mark.django_db
@pytest.mark.usefixtures("redis", "tiny_edit")
def test_the_form_takes_an_image_or_a_url(alices_token: str, client: Client, settings: Settings) -> None:
    settings.FETCH_IMAGE_URLS = True

    def post(**fields: object) -> tuple[int, list[list[str]]]:
        answer = client.post(
            "/image-to-image",
            {"prompt": "make it night", **fields},
            headers={"Authorization": f"Bearer {alices_token}"},
        )
        return answer.status_code, [item["loc"] for item in answer.json().get("detail", [])]

    url = "https://example.org/x.png"
    assert post(image_url=url)[0] == 202
    assert post(image_url=url, image=io.BytesIO(PICTURE)) == (422, [["body", "image_url"]])
    assert post(image_url="file:///etc/passwd") == (422, [["body", "image_url"]])
    assert post() == (422, [["body", "image"]])
