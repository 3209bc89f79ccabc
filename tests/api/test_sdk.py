"""The published Python SDK, unchanged, over real HTTP."""

import asyncio
import json
from functools import partial
from pathlib import Path

import httpx
import pytest
from livepeer_ai import Livepeer
from livepeer_ai.models import components, errors
from livepeer_ai.utils import BackoffStrategy, RetryConfig

from tests.support import pictures
from tests.support.service import Service, wait_until

PATIENTLY = RetryConfig("backoff", BackoffStrategy(200, 1000, 1.5, 60_000), retry_connection_errors=True)


def request(**fields: object) -> dict[str, object]:
    picture = components.Image(file_name="picture.png", content=pictures.photo(128, 128))
    return {"prompt": "make it night", "image": picture, "num_inference_steps": 1, "seed": 7, **fields}


def sdk(service: Service, token: str) -> Livepeer:
    return Livepeer(server_url=service.url, http_bearer=token)


def test_it_works(service: Service, alices_key: str) -> None:
    with sdk(service, alices_key) as livepeer:
        response = livepeer.generate.image_to_image(request=request(num_images_per_prompt=2))
    assert response.image_response is not None
    images = response.image_response.images
    assert [(image.seed, image.nsfw) for image in images] == [(7, False), (8, False)]
    assert all(httpx.get(image.url).status_code == 200 for image in images)


def test_it_works_asynchronously(service: Service, alices_key: str) -> None:
    async def call() -> list[int]:
        async with sdk(service, alices_key) as livepeer:
            answers = await asyncio.gather(
                *(livepeer.generate.image_to_image_async(request=request(seed=seed)) for seed in (1, 2))
            )
        return [answer.image_response.images[0].seed for answer in answers if answer.image_response]

    assert asyncio.run(call()) == [1, 2]


def test_a_wrong_token_is_the_sdks_own_error(service: Service) -> None:
    with sdk(service, "dream_wrong") as livepeer, pytest.raises(errors.HTTPError) as caught:
        livepeer.generate.image_to_image(request=request())
    assert caught.value.data.detail.msg == "Invalid bearer token."


def test_an_unknown_model_is_the_sdks_own_error(service: Service, alices_key: str) -> None:
    with sdk(service, alices_key) as livepeer, pytest.raises(errors.HTTPError) as caught:
        livepeer.generate.image_to_image(request=request(model_id="someone/unheard-of"))
    assert "no such model" in str(caught.value.data.detail.msg)


def test_a_wrong_value_is_the_sdks_own_error(service: Service, alices_key: str) -> None:
    with sdk(service, alices_key) as livepeer, pytest.raises(errors.HTTPValidationError) as caught:
        livepeer.generate.image_to_image(request=request(strength=3))
    (item,) = caught.value.data.detail or []
    assert (item.loc, item.msg) == (["body", "strength"], "Input should be a number from 0 to 1")


def test_what_takes_long_is_an_sdk_error_that_leads_to_the_pictures(service: Service, alices_key: str) -> None:
    with sdk(service, alices_key) as livepeer, pytest.raises(errors.SDKError) as caught:
        livepeer.generate.image_to_image(request=request(), http_headers={"Prefer": "respond-async"})
    assert caught.value.status_code == 202
    generation_id = json.loads(caught.value.body)["id"]
    with service.client(alices_key) as client:
        wait_until(lambda: client.get(f"/generations/{generation_id}").json()["images"], 60, "the pictures")


def test_a_client_that_gave_up_waiting_and_tries_again_gets_what_it_asked_for_once(
    service: Service, alices_key: str
) -> None:
    headers = {"Idempotency-Key": "a client with little patience"}
    with service.client(alices_key) as client, sdk(service, alices_key) as livepeer:
        before = client.get("/generations").json()["results"]
        response = livepeer.generate.image_to_image(
            request=request(num_inference_steps=150), retries=PATIENTLY, timeout_ms=700, http_headers=headers
        )
        after = client.get("/generations").json()["results"]
    assert response.image_response is not None
    assert len(response.image_response.images) == 1
    assert len({record["id"] for record in after} - {record["id"] for record in before}) == 1


def test_a_client_that_is_over_a_limit_tries_until_there_is_room(tmp_path: Path) -> None:
    with (
        Service(tmp_path, LIMITS="on", USER_MAX_QUEUED="1") as strict,
        sdk(strict, strict.token) as livepeer,
        strict.client() as client,
    ):
        form = {"prompt": "x", "num_inference_steps": "100"}

        def is_in(path: str, state: str) -> bool:
            return bool(client.get(path).json()["state"] == state)

        for state in ("running", "queued"):
            picture = {"image": pictures.photo(128, 128)}
            accepted = client.post("/image-to-image", data=form, files=picture, headers={"Prefer": "respond-async"})
            wait_until(partial(is_in, accepted.headers["Location"], state), 60, state)
        with pytest.raises(errors.SDKError, match="429"):
            livepeer.generate.image_to_image(request=request())
        response = livepeer.generate.image_to_image(request=request(), retries=PATIENTLY)
        assert response.image_response is not None
        assert len(client.get("/generations").json()["results"]) == 3
