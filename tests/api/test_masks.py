"""Masks over real HTTP: with them, the result is the upload outside of the mask, from this API and OpenAI's package."""

import io
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from PIL import Image, ImageChops

from tests.support.pictures import encoded, scene
from tests.support.service import WAIT_SECONDS, Service

SIZE = (600, 420)
OPEN = (60, 40, 220, 180)
"""The part that may change; the picture is larger than the model draws."""


def mask(mode: str = "L") -> bytes:
    """A mask of `OPEN`: in L white, in RGBA as OpenAI means it, transparent."""
    picture = Image.new(mode, SIZE, 0 if mode == "L" else (0, 0, 0, 255))
    picture.paste(255 if mode == "L" else (0, 0, 0, 0), OPEN)
    return encoded(picture)


def upload() -> bytes:
    return encoded(scene(*SIZE))


def changed_box(result: bytes) -> Any:
    """Return the box of all pixels that differ from the upload."""
    return ImageChops.difference(Image.open(io.BytesIO(result)).convert("RGB"), scene(*SIZE)).getbbox()


def is_within(box: Any, outer: tuple[int, int, int, int]) -> bool:
    return bool(box) and box[0] >= outer[0] and box[1] >= outer[1] and box[2] <= outer[2] and box[3] <= outer[3]


@pytest.fixture
def client(service: Service, alices_key: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {alices_key}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=WAIT_SECONDS) as client:
        yield client


def test_outside_of_the_mask_the_result_is_the_upload(client: httpx.Client) -> None:
    fields = {"prompt": "make it night", "num_inference_steps": "2", "seed": "7"}
    answer = client.post("/image-to-image", data=fields, files={"image": upload(), "mask": mask()}).json()
    made = client.get(answer["images"][0]["url"]).content
    assert is_within(changed_box(made), OPEN)
    record = client.get(f"/generations/{answer['id']}").json()
    assert record["outside_mask"] == "identical"
    assert record["mask"]["open_share"] == pytest.approx(160 * 140 / (600 * 420))
    stored = Image.open(io.BytesIO(client.get(record["mask"]["url"]).content))
    assert (stored.size, stored.getbbox()) == (SIZE, OPEN)
    assert [picture["width"] for picture in record["inputs"]] == [600]
    assert answer["warnings"] == []


def test_an_inverted_mask_of_another_size_is_fitted(client: httpx.Client) -> None:
    small = Image.new("L", (60, 42), 255)
    small.paste(0, (6, 4, 22, 18))
    fields = {"prompt": "make it night", "num_inference_steps": "1", "mask_invert": "true", "mask_padding": "16"}
    answer = client.post(
        "/image-to-image", data=fields, files={"image": upload(), "mask": encoded(small, "GIF")}
    ).json()
    assert answer["warnings"] == ["The mask of 60 x 42 pixels was fitted to the picture of 600 x 420."]
    assert is_within(changed_box(client.get(answer["images"][0]["url"]).content), OPEN)
    record = client.get(f"/generations/{answer['id']}").json()
    assert record["parameters"]["mask_invert"] is False


def test_openais_package_sends_transparent_masks(service: Service, alices_key: str) -> None:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key=alices_key, timeout=WAIT_SECONDS, max_retries=0) as client:
        answer = client.images.edit(
            image=("a.png", upload()),
            mask=("mask.png", mask("RGBA")),
            prompt="make it night",
            size="256x256",
            response_format="url",
            extra_body={"num_inference_steps": 1},
        )
    assert answer.data
    assert is_within(changed_box(httpx.get(str(answer.data[0].url)).content), OPEN)
    assert answer.model_extra
    assert answer.model_extra["warnings"][0].startswith("size has no effect with a mask")


@pytest.mark.parametrize(
    ("files", "fields", "words"),
    [
        ({"mask": encoded(Image.new("L", (8, 8)))}, {}, "mark what may change in white"),
        ({"mask": encoded(Image.new("L", (8, 8), 255))}, {"mask_invert": "true"}, "mark what may change in black"),
        ({"mask": b"no picture"}, {}, ""),
        ({}, {"mask": "text"}, "data URL"),
    ],
)
def test_a_mask_that_cannot_be_used_is_an_error_of_its_field(
    client: httpx.Client, files: dict[str, bytes], fields: dict[str, str], words: str
) -> None:
    answer = client.post(
        "/image-to-image", data={"prompt": "make it night", **fields}, files={"image": upload(), **files}
    )
    assert answer.status_code == 422
    (item,) = answer.json()["detail"]
    assert item["loc"] == ["body", "mask"]
    assert words in item["msg"]


def test_a_full_mask_counts_as_none(client: httpx.Client) -> None:
    full = encoded(Image.new("L", (8, 8), 255))
    answer = client.post(
        "/image-to-image",
        data={"prompt": "make it night", "dry_run": "true"},
        files={"image": upload(), "mask": full},
    ).json()
    assert answer["warnings"][0] == "The mask lets all of the picture change, so it counts as none."
    assert answer["effective"]["inpainting"] is None
