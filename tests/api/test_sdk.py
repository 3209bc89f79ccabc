"""The published Python SDK, unchanged, over real HTTP."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from livepeer_ai import Livepeer
from livepeer_ai.models import components, errors
from livepeer_ai.utils import BackoffStrategy, RetryConfig

from tests.support import pictures
from tests.support.service import WAIT_SECONDS, Service, wait_until

PATIENTLY = RetryConfig(
    "backoff", BackoffStrategy(200, 1000, 1.5, round(1000 * WAIT_SECONDS)), retry_connection_errors=True
)


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


def test_a_long_request_is_an_sdk_error_with_the_record(service: Service, alices_key: str) -> None:
    headers = {"Prefer": "respond-async", "Cache-Control": "no-cache"}
    with sdk(service, alices_key) as livepeer, pytest.raises(errors.SDKError) as caught:
        livepeer.generate.image_to_image(request=request(), http_headers=headers)
    assert caught.value.status_code == 202
    generation_id = json.loads(caught.value.body)["id"]
    with service.client(alices_key) as client:
        wait_until(lambda: client.get(f"/generations/{generation_id}").json()["images"], "the pictures")


class Statuses:
    """An HTTP client for the SDK that counts requests and records the statuses of responses."""

    def __init__(self) -> None:
        self.requests = 0
        self.statuses: list[int] = []
        self.client = httpx.Client(
            event_hooks={"request": [self._count], "response": [self._note]}, follow_redirects=True
        )

    def _count(self, request: httpx.Request) -> None:
        self.requests += 1

    def _note(self, response: httpx.Response) -> None:
        self.statuses.append(response.status_code)


def test_a_client_that_retries_after_a_timeout_gets_one_generation(service: Service, alices_key: str) -> None:
    headers = {"Idempotency-Key": "a client with little patience", "Cache-Control": "no-cache"}
    recorder = Statuses()
    with (
        service.client(alices_key) as client,
        Livepeer(server_url=service.url, http_bearer=alices_key, client=recorder.client) as livepeer,
        ThreadPoolExecutor(1) as thread,
    ):
        before = client.get("/generations").json()["results"]
        with service.paused_worker():
            answer = thread.submit(
                livepeer.generate.image_to_image,
                request=request(),
                retries=PATIENTLY,
                timeout_ms=3000,
                http_headers=headers,
            )
            wait_until(lambda: recorder.requests > 1, "the second try")
        response = answer.result()
        after = client.get("/generations").json()["results"]
    assert response.image_response is not None
    assert len(response.image_response.images) == 1
    assert len({record["id"] for record in after} - {record["id"] for record in before}) == 1


def test_a_client_over_its_limit_retries_until_it_is_accepted(limited_service: Service) -> None:
    token = limited_service.manage("createtoken", "erin", "--name", "tests", "--create")
    limited_service.query("UPDATE accounts_user SET max_queued = 1 WHERE username = 'erin'")
    recorder = Statuses()
    with (
        Livepeer(server_url=limited_service.url, http_bearer=token, client=recorder.client) as livepeer,
        limited_service.client(token) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        with limited_service.paused_worker():
            form, picture = {"prompt": "x", "num_inference_steps": "1"}, {"image": pictures.photo(128, 128)}
            client.post("/image-to-image", data=form, files=picture, headers={"Prefer": "respond-async"})
            with pytest.raises(errors.SDKError, match="429"):
                livepeer.generate.image_to_image(request=request())
            answer = thread.submit(livepeer.generate.image_to_image, request=request(), retries=PATIENTLY)
            wait_until(lambda: recorder.statuses.count(429) > 1, "the refusal of the second try")
        response = answer.result()
        assert response.image_response is not None
        assert len(client.get("/generations").json()["results"]) == 2
