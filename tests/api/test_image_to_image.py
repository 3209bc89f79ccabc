"""`POST /image-to-image` and the record, over real HTTP against a real service."""

import io
import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
from PIL import Image

from tests.support import camera_files, heif, pictures
from tests.support.camera_files import DNG_VERSION, NEW_SUBFILE_TYPE, REDUCED, Page
from tests.support.service import WAIT_SECONDS, Service

SMALL = {"prompt": "make it night", "num_inference_steps": "1", "seed": "7"}
BEARER_PROBLEM = {"detail": {"msg": "Invalid bearer token.", "code": "invalid_token"}}


@pytest.fixture
def api(service: Service, alices_key: str) -> Iterator[httpx.Client]:
    with service.client(alices_key) as client:
        yield client


def post(
    client: httpx.Client,
    image: bytes | None = None,
    *,
    path: str = "/image-to-image",
    cache: str = "no-cache",
    **fields: str,
) -> httpx.Response:
    files = {"image": ("picture", image if image is not None else pictures.photo(128, 128), "application/octet-stream")}
    return client.post(path, data={**SMALL, **fields}, files=files, headers={"Cache-Control": cache})


def fetch(url: str) -> Image.Image:
    """Fetch without any header."""
    response = httpx.get(url)
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    return Image.open(io.BytesIO(response.content))


def invalid(response: httpx.Response) -> dict[str, str]:
    """Return the message of each field of a 422."""
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/json"
    assert all(set(item) == {"loc", "msg", "type"} for item in response.json()["detail"])
    return {item["loc"][1]: item["msg"] for item in response.json()["detail"]}


def refused(response: httpx.Response, status: int = 400) -> str:
    """Return the code of an error other than 422."""
    assert response.status_code == status
    assert set(response.json()["detail"]) == {"msg", "code"}
    return str(response.json()["detail"]["code"])


def test_it_works(service: Service, api: httpx.Client) -> None:
    response = post(api)
    assert response.status_code == 200
    answer = response.json()
    assert set(answer) == {"images", "id", "model_id", "warnings"}
    assert (answer["model_id"], answer["warnings"]) == ("dreamsite/tiny-edit", [])
    assert response.headers["x-generation-id"] == answer["id"]
    assert response.headers["cache-control"] == "no-store"
    (image,) = answer["images"]
    assert (image["seed"], image["nsfw"]) == (7, False)
    assert image["url"].startswith(service.url + "/")
    assert fetch(image["url"]).size == (128, 128)


def test_the_path_with_a_slash_answers_directly(api: httpx.Client) -> None:
    assert post(api, path="/image-to-image/").status_code == 200


def test_the_same_seed_gives_the_same_pixels_and_image_i_has_seed_plus_i(api: httpx.Client) -> None:
    first = post(api, seed="11").json()["images"]
    again = post(api, seed="11").json()["images"]
    pair = post(api, seed="10", num_images_per_prompt="2").json()["images"]
    assert [image["seed"] for image in pair] == [10, 11]
    pixels = [fetch(image["url"]).tobytes() for image in (*first, *again, *pair)]
    assert pixels[0] == pixels[1]
    assert pixels[2] != pixels[3]
    assert max(abs(a - b) for a, b in zip(pixels[0], pixels[3], strict=True)) <= 1


def test_a_request_that_is_repeated_is_answered_with_the_same_pictures(api: httpx.Client) -> None:
    made = post(api, seed="4711").json()
    estimate = post(api, seed="4711", cache="", dry_run="true").json()
    assert (estimate["cost"], estimate["reused_from"]) == (0, made["id"])
    again = post(api, seed="4711", cache="max-age=600").json()
    assert again["reused_from"] == made["id"] != again["id"]
    pixels = fetch(made["images"][0]["url"]).tobytes()
    assert fetch(again["images"][0]["url"]).tobytes() == pixels
    record = api.get(f"/generations/{again['id']}").json()
    assert (record["state"], record["cost"], record["reused_from"]) == ("succeeded", 0, made["id"])
    for cache in ("no-cache", "max-age=0, no-store"):
        anew = post(api, seed="4711", cache=cache).json()
        assert "reused_from" not in anew
        assert api.get(f"/generations/{anew['id']}").json()["cost"] > 0
    edited = post(api, path="/v1/images/edits", seed="4711", cache="", response_format="url").json()
    assert fetch(edited["data"][0]["url"]).tobytes() == pixels


def test_the_record_can_be_read_later_and_only_by_its_user(service: Service, api: httpx.Client, bobs_key: str) -> None:
    answer = post(api, strength="0.5").json()
    record = api.get(f"/generations/{answer['id']}").json()
    assert record["state"] == "succeeded"
    assert record["parameters"]["prompt"] == "make it night"
    assert record["parameters"]["guidance_scale"] == 7.5
    assert record["effective"]["num_inference_steps"] == 1
    assert record["effective"]["seeds"] == [7]
    assert record["warnings"] == ["strength has no effect on dreamsite/tiny-edit."]
    assert record["error"] is None
    assert record["timings"]["queued"] >= 0
    assert record["timings"]["running"] > 0
    assert {"denoising", "decoding", "safety", "storing"} <= set(record["timings"]["phases"])
    (image,) = record["images"]
    assert (image["checked"], image["width"], image["height"]) == (True, 128, 128)
    assert 0 <= image["nsfw_score"] <= 1
    assert fetch(image["url"]).size == (128, 128)
    with service.client(bobs_key) as bob:
        assert refused(bob.get(f"/generations/{answer['id']}"), 404) == "not_found"
    assert refused(api.get(f"/generations/{uuid4()}"), 404) == "not_found"
    assert refused(httpx.get(f"{service.url}/generations/{answer['id']}"), 401) == "invalid_token"


def test_clients_cannot_use_the_internal_paths(api: httpx.Client) -> None:
    answer = post(api).json()
    assert api.get(f"/generations/{answer['id']}/answer").status_code == 404


def test_an_unchecked_picture_is_never_reported_as_safe(api: httpx.Client) -> None:
    answer = post(api, safety_check="false").json()
    assert answer["images"][0]["nsfw"] is False
    (image,) = api.get(f"/generations/{answer['id']}").json()["images"]
    assert (image["checked"], image["nsfw_score"]) == (False, None)


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer wrong", "Bearer dream_wrong", "Basic {}", "{}", "Bearer {}x"]
)
def test_401_comes_before_everything_else(service: Service, alices_key: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.format(alices_key)}
    for content in (b"", b"not a form", b"x" * 1_500_000):
        response = httpx.post(f"{service.url}/image-to-image", headers=headers, content=content)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json() == BEARER_PROBLEM


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
def test_the_authentication_scheme_is_case_insensitive(service: Service, alices_key: str, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {alices_key}"}
    assert httpx.post(f"{service.url}/image-to-image", headers=headers).status_code == 422


def test_other_methods_are_405(api: httpx.Client) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        response = api.request(method, "/image-to-image")
        assert refused(response, 405) == "method_not_allowed"
        assert response.headers["allow"] == "POST, OPTIONS"


def test_an_empty_body_lacks_both_required_fields(api: httpx.Client) -> None:
    both = {"prompt": "Field required", "image": "Field required"}
    assert invalid(api.post("/image-to-image")) == both
    assert set(invalid(api.post("/image-to-image", data={"prompt": "x"}))) == {"image"}
    assert set(invalid(api.post("/image-to-image", data={"prompt": "x", "image": "text"}))) == {"image"}


def test_errors_of_a_body_that_is_not_a_form_name_the_content_type(api: httpx.Client) -> None:
    messages = invalid(api.post("/image-to-image", json={"prompt": "x"}))
    assert messages == dict.fromkeys(("prompt", "image"), "Field required; send the fields as multipart/form-data")


def test_all_errors_are_in_one_response(api: httpx.Client) -> None:
    fields = {"prompt": "x", "strength": "2", "num_inference_steps": "0", "seed": "x"}
    messages = invalid(api.post("/image-to-image", data=fields))
    assert set(messages) == {"strength", "num_inference_steps", "seed", "image"}
    assert messages["strength"] == "Input should be a number from 0 to 1"


def test_a_picture_is_decoded_only_if_the_texts_are_valid(api: httpx.Client) -> None:
    assert set(invalid(post(api, b"no picture", strength="2"))) == {"strength"}
    assert set(invalid(post(api, b"no picture"))) == {"image"}


def test_the_last_of_repeated_fields_counts_and_unknown_ones_are_ignored(api: httpx.Client) -> None:
    files: Any = [
        ("seed", (None, "1")),
        ("seed", (None, "2")),
        ("prompt", (None, "make it night")),
        ("num_inference_steps", (None, "1")),
        ("unheard_of", (None, "x")),
        ("unheard_of_file", ("a.bin", b"x")),
        ("image", ("a.png", b"broken")),
        ("image", ("b.png", pictures.photo(128, 128))),
    ]
    assert api.post("/image-to-image", files=files).json()["images"][0]["seed"] == 2


def test_empty_fields_mean_the_default(api: httpx.Client) -> None:
    answer = post(api, model_id="", loras="", negative_prompt="", strength="", guidance_scale="").json()
    assert answer["model_id"] == "dreamsite/tiny-edit"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model_id": "someone/unheard-of"}, "unknown_model"),
        ({"model_id": "../../etc"}, "unknown_model"),
        ({"model_id": "stabilityai/sd-turbo"}, "unknown_model"),
        ({"loras": "["}, "invalid_loras"),
        ({"loras": "[1]"}, "invalid_loras"),
        ({"loras": '{"a/b": -1}'}, "invalid_loras"),
        ({"loras": '{"\\ud800": 1}'}, "invalid_loras"),
        ({"loras": '{"someone/style": 1}'}, "unknown_lora"),
    ],
)
def test_models_and_loras_that_are_not_allowed_are_400(api: httpx.Client, fields: dict[str, str], code: str) -> None:
    assert refused(post(api, None, **fields)) == code


def test_a_body_over_the_limit_is_413(api: httpx.Client) -> None:
    assert refused(post(api, b"x" * 1_000_001), 413) == "upload_too_large"


def test_a_huge_body_is_not_read_to_its_end(service: Service, alices_key: str) -> None:
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=WAIT_SECONDS) as connection:
        head = (
            f"POST /image-to-image HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {alices_key}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 10000000000\r\n\r\n"
        )
        connection.sendall(head.encode())
        sent = 0
        with suppress(OSError):
            while sent < 200_000_000:
                connection.sendall(b"x" * 1_000_000)
                sent += 1_000_000
        assert sent < 150_000_000


def test_the_format_of_an_upload_is_recognised_by_its_content(api: httpx.Client) -> None:
    for data in (pictures.photo(128, 128, "WEBP"), pictures.phone_photo(160, 128)):
        response = api.post("/image-to-image", data=SMALL, files={"image": ("x.txt", data, "text/plain")})
        assert response.status_code == 200


def test_what_cameras_and_other_programs_write_is_taken(api: httpx.Client) -> None:
    sound, png = pictures.photo(128, 128, "JPEG"), pictures.photo(128, 128)
    for content in (
        heif.heic_grid(2, 2, heif.rotation(1)),
        camera_files.tiff_of_pages([Page((9, 9, 9), tags={NEW_SUBFILE_TYPE: REDUCED}), Page((9, 9, 9), (128, 128))]),
        camera_files.bmp_with_alpha([0]),
        sound[:-2],
        camera_files.with_wrong_checksum(pictures.with_png_chunk(png, b"pHYs", bytes(9)), b"pHYs"),
        pictures.png_with_text_bomb(),
        pictures.png_with_profile_bomb(),
        camera_files.ultra_hdr(sound, pictures.photo(32, 32, "JPEG")),
        heif.heic_with_gain_map(),
    ):
        assert post(api, content, dry_run="true").status_code == 200


def test_the_orientation_is_that_of_exif(api: httpx.Client) -> None:
    by_xmp = pictures.photo(192, 128, "JPEG", xmp=camera_files.xmp_orientation(6))
    sizes = []
    for content in (by_xmp, pictures.phone_photo(192, 128, orientation=6)):
        effective = post(api, content, dry_run="true").json()["effective"]
        sizes.append((effective["width"], effective["height"]))
    assert sizes == [(192, 128), (128, 192)]


def test_a_jpeg_that_lacks_rows_is_refused(api: httpx.Client) -> None:
    content = pictures.photo(128, 128, "JPEG")
    for lacking in (20, len(content) // 2):
        assert "cut short" in invalid(post(api, content[:-lacking]))["image"]


def test_a_photo_of_a_phone_is_edited(api: httpx.Client) -> None:
    answer = post(api, heif.heic_grid(2, 3, heif.rotation(1))).json()
    assert fetch(answer["images"][0]["url"]).size == (192, 128)


def test_jpeg_xl_is_refused_by_name(api: httpx.Client) -> None:
    # A codestream, and a file of boxes (ISO/IEC 18181-2).
    for content in (b"\xff\x0a\xf8\x01", b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl "):
        message = invalid(post(api, content + bytes(100)))["image"]
        assert "JPEG XL" in message
        assert "send a PNG, JPEG" in message


def test_a_raw_photo_is_refused_by_name(api: httpx.Client) -> None:
    assert "raw photo (DNG)" in invalid(post(api, camera_files.raw_photo({DNG_VERSION: bytes((1, 7, 0, 0))})))["image"]


def test_position_and_orientation_are_not_in_the_output(api: httpx.Client) -> None:
    answer = post(api, pictures.phone_photo(160, 128, orientation=6)).json()
    png = httpx.get(answer["images"][0]["url"]).content
    picture = Image.open(io.BytesIO(png))
    assert picture.size == (128, 160)
    assert not picture.getexif()
    # Who made it, and nothing of the phone.
    assert set(picture.info) <= {"XML:com.adobe.xmp", "xmp"}
    assert b"Exif" not in png
    assert b"GPS" not in png


def test_a_picture_that_is_too_small_for_the_model_is_drawn_larger_and_scaled_back_with_a_warning(
    api: httpx.Client,
) -> None:
    answer = post(api, pictures.photo(64, 32)).json()
    assert fetch(answer["images"][0]["url"]).size == (64, 32)
    assert "was drawn at 256 x 128 pixels and scaled back to 64 x 32" in answer["warnings"][0]


def test_a_size_that_is_no_multiple_of_8_is_unchanged(api: httpx.Client) -> None:
    assert fetch(post(api, pictures.photo(151, 133)).json()["images"][0]["url"]).size == (151, 133)


def test_a_signed_url_serves_its_own_file_only(service: Service, api: httpx.Client) -> None:
    url, other_url = (post(api).json()["images"][0]["url"] for _ in range(2))
    assert httpx.get(url).headers["cache-control"].startswith("private, max-age=")
    assert httpx.get(url.partition("?")[0]).status_code == 404
    assert httpx.get(url.partition("?")[0] + "?" + other_url.partition("?")[2]).status_code == 404
    assert httpx.get(url.replace("expires=", "expires=9")).status_code == 404
    assert httpx.get(f"{service.url}/media/../secret_key?expires=1&signature=x").status_code == 404
    assert httpx.head(url).status_code == 200


def test_a_client_cannot_set_the_id(api: httpx.Client) -> None:
    chosen_id = str(uuid4())
    response = api.post(
        "/image-to-image",
        data=SMALL,
        files={"image": ("a", pictures.photo(128, 128))},
        headers={"X-Generation-Id": chosen_id, "dreamsite.generation_id": chosen_id},
    )
    assert response.json()["id"] != chosen_id
    assert UUID(response.json()["id"]).version == 7


def test_chunked_bodies_and_expect_continue_work(service: Service, alices_key: str) -> None:
    body = httpx.Request("POST", service.url, data=SMALL, files={"image": ("a", pictures.photo(128, 128))})
    content_type, content = body.headers["content-type"], body.read()
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=WAIT_SECONDS) as connection:
        connection.sendall(
            f"POST /image-to-image HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {alices_key}\r\n"
            f"Content-Type: {content_type}\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        for start in range(0, len(content), 10_000):
            chunk = content[start : start + 10_000]
            connection.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            time.sleep(0.001)
        connection.sendall(b"0\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, tail = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert json.loads(tail)["images"][0]["seed"] == 7


def test_health_and_readiness(service: Service) -> None:
    assert httpx.get(f"{service.url}/health").json() == {"status": "OK"}
    assert httpx.get(f"{service.url}/ready").json() == {"status": "OK"}
