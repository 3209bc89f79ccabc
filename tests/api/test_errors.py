"""Errors of the API, also those made outside of its views: their shapes, and whether clients repeat the request."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from django.test import RequestFactory

from generation.api.errors import server_error
from tests.support.pictures import photo
from tests.support.service import Service, wait_until

TOO_LARGE = {"Content-Length": "1000001"}
NO_TOKEN = {"Authorization": ""}
NO_BOUNDARY = {"Content-Type": "multipart/form-data", "Content-Length": "1"}
NO_FORM = {"Content-Type": "text/plain", "Content-Length": "1"}
UNKNOWN_ENCODING = {"Content-Encoding": "br", "Content-Length": "1"}


def send(service: Service, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    content = b"x" * int(headers.get("Content-Length", 0))
    with service.client() as client:
        return client.request(method, path, headers=headers, content=content)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/generations/", {}, 404, "not_found"),
        ("GET", "/generations/not-an-id", {}, 404, "not_found"),
        ("GET", "/image-to-image/x", {}, 404, "not_found"),
        ("GET", "/models/a/b/c", {}, 404, "not_found"),
        ("GET", "/loras/x", {}, 404, "not_found"),
        ("POST", "/image-to-image", {"Host": "evil.example"}, 400, "malformed_request"),
        ("POST", "/image-to-image", NO_TOKEN, 401, "invalid_token"),
        ("PUT", "/image-to-image", {}, 405, "method_not_allowed"),
        ("POST", "/image-to-image", TOO_LARGE, 413, "upload_too_large"),
        ("GET", "/generations", TOO_LARGE, 413, "upload_too_large"),
        ("PUT", "/generations/x", TOO_LARGE, 404, "not_found"),
    ],
)
def test_every_error_has_a_code_and_is_not_cached(
    service: Service, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = send(service, method, path, headers)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (status, code)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/v1", {}, 404, "not_found"),
        ("POST", "/v1/images/unheard-of", {}, 404, "not_found"),
        ("POST", "/v1/", {"Host": "evil.example"}, 400, "malformed_request"),
        ("POST", "/v1/images/edits", NO_BOUNDARY, 400, "malformed_request"),
        ("POST", "/v1/images/edits", NO_TOKEN, 401, "invalid_token"),
        ("GET", "/v1/images/edits", {}, 405, "method_not_allowed"),
        ("POST", "/v1/images/edits", TOO_LARGE, 413, "upload_too_large"),
        ("POST", "/v1/chat/completions", TOO_LARGE, 404, "not_found"),
        ("POST", "/v1/models", TOO_LARGE, 413, "upload_too_large"),
        ("POST", "/v1/images/edits", NO_FORM, 415, "unsupported_media_type"),
        ("POST", "/v1/models", UNKNOWN_ENCODING, 415, "unsupported_encoding"),
    ],
)
def test_every_error_under_v1_has_openais_shape(
    service: Service, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = send(service, method, path, headers)
    body = answer.json()
    assert body == {"error": {**body["error"], "type": "invalid_request_error", "param": None, "code": code}}
    assert body["error"]["message"]
    assert answer.status_code == status
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/images/edits", {"error": {"type": "server_error", "param": None, "code": "internal_error"}}),
        ("/image-to-image", {"detail": {"code": "internal_error"}}),
    ],
)
def test_an_unexpected_error_outside_of_views_has_the_shape_of_its_path(path: str, body: dict[str, Any]) -> None:
    answer = server_error(RequestFactory().post(path))
    ((name, error),) = json.loads(answer.content).items()
    assert error.pop("message", error.pop("msg", "")) == "Image-to-image pipeline error."
    assert {name: error} == body
    assert (answer.status_code, answer["Retry-After"], answer.has_header("X-Should-Retry")) == (500, "5", False)


def test_openais_client_reads_errors_of_unknown_paths(service: Service, alices_key: str) -> None:
    with (
        openai.OpenAI(base_url=f"{service.url}/v1", api_key=alices_key) as client,
        pytest.raises(openai.NotFoundError) as error,
    ):
        client.images.generate(prompt="a cat")
    assert (error.value.code, error.value.type) == ("not_found", "invalid_request_error")


def test_openais_client_does_not_repeat_what_was_canceled(service: Service, alices_key: str) -> None:
    """It repeats after any other 409."""
    form = {"prompt": "make it night", "num_inference_steps": "1"}
    files = [("image", ("a.png", photo(64, 64), "image/png"))]
    options: Any = {"headers": {"Content-Type": "multipart/form-data"}}
    with (
        openai.OpenAI(base_url=service.url, api_key=alices_key) as client,
        service.client(alices_key) as api,
        ThreadPoolExecutor(1) as thread,
    ):
        with service.paused_worker():
            answer = thread.submit(
                client.post, "/image-to-image", cast_to=object, body=form, files=files, options=options
            )
            wait_until(lambda: api.get("/generations?state=queued").json()["results"], "the request")
            (queued,) = api.get("/generations?state=queued").json()["results"]
            api.post(f"/generations/{queued['id']}/cancel")
        with pytest.raises(openai.ConflictError) as error:
            answer.result()
    assert error.value.request.headers["x-stainless-retry-count"] == "0"


def test_outside_of_the_api_errors_are_pages(service: Service) -> None:
    response = httpx.get(f"{service.url}/nowhere", headers={"Accept": "text/html"})
    assert response.status_code == 404
    assert response.headers["content-type"].startswith("text/html")
