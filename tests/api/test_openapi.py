"""The OpenAPI document and its page."""

from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.core.management import call_command
from jsonschema import Draft202012Validator
from playwright.sync_api import Browser, expect

from generation.parameters import ErrorCode, ImageToImageParameters, bounds
from tests.support.browser import needs_chromium
from tests.support.pictures import photo
from tests.support.service import Service


@pytest.fixture(scope="module")
def document(service: Service) -> Any:
    response = httpx.get(f"{service.url}/openapi.json")
    assert response.headers["content-type"] == "application/json"
    return response.json()


def test_the_document_is_valid() -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", "/dev/null")


def test_the_names_are_the_published_ones(document: Any) -> None:
    assert document["openapi"].startswith("3.1")
    operation = document["paths"]["/image-to-image"]["post"]
    assert operation["operationId"] == "genImageToImage"
    assert operation["tags"] == ["generate"]
    assert operation["security"] == [{"HTTPBearer": []}]
    components = document["components"]
    assert components["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert components["schemas"].keys() >= {
        "Body_genImageToImage",
        "ImageResponse",
        "Media",
        "HTTPError",
        "APIError",
        "HTTPValidationError",
        "ValidationError",
    }
    (content_type,) = operation["requestBody"]["content"]
    assert content_type == "multipart/form-data"


def test_every_field_has_its_default_and_bounds(document: Any) -> None:
    body = document["components"]["schemas"]["Body_genImageToImage"]
    assert body["required"] == ["prompt", "image"]
    assert set(body["properties"]) == {"image", "mask", "images[]", *ImageToImageParameters.model_fields}
    names = {"ge": "minimum", "le": "maximum", "max_length": "maxLength"}
    for name, field in ImageToImageParameters.model_fields.items():
        described = body["properties"][name]
        assert described["description"] == field.description
        assert described.get("default") == (None if field.is_required() else field.default)
        assert bounds(field) == {bound: described[key] for bound, key in names.items() if key in described}


def test_every_status_and_code_is_documented(document: Any) -> None:
    responses = document["paths"]["/image-to-image"]["post"]["responses"]
    codes = (200, 202, 400, 401, 408, 409, 410, 413, 415, 422, 429, 431, 500, 503, 504)
    assert set(responses) == {str(code) for code in codes}
    schema = document["components"]["schemas"]["ErrorCode"]
    assert set(schema["enum"]) == {code.value for code in ErrorCode}
    assert all(f"`{code.value}` ({code.status})" in schema["description"] for code in ErrorCode)


def test_the_openai_path_has_the_same_request_headers(document: Any) -> None:
    original, alias = (document["paths"][path]["post"] for path in ("/image-to-image", "/v1/images/edits"))
    assert alias["parameters"] == original["parameters"]
    assert alias["responses"]["422"]["headers"].keys() >= {"Location", "X-Generation-Id", "Preference-Applied"}


def test_every_response_documents_request_id_and_rate_limit(document: Any) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            assert {"$ref": "#/components/parameters/X-Request-Id"} in operation["parameters"]
            for status, response in operation["responses"].items():
                assert "X-Request-Id" in response["headers"]
                assert ("RateLimit-Remaining" in response["headers"]) == (status != "401" and "security" in operation)


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_requests_nothing_from_other_hosts(service: Service, browser: Browser, scheme: Any) -> None:
    with closing(browser.new_page(color_scheme=scheme)) as page:
        urls: list[str] = []
        page.on("request", lambda request: urls.append(request.url))
        page.goto(f"{service.url}/docs")
        expect(page.get_by_text("/image-to-image", exact=True)).to_be_visible()
        page.wait_for_load_state("networkidle")
    assert {urlsplit(url).netloc for url in urls if not url.startswith("data:")} == {urlsplit(service.url).netloc}


@needs_chromium
def test_the_page_can_send_its_example_request(service: Service, browser: Browser, alices_key: str) -> None:
    with closing(browser.new_page()) as page:
        page.goto(f"{service.url}/docs")
        page.get_by_role("button", name="Authorize").click()
        page.locator(".auth-container input").fill(alices_key)
        page.locator(".auth-btn-wrapper .authorize").click()
        page.locator(".btn-done").click()
        operation = page.locator("#operations-generate-genImageToImage")
        operation.locator(".opblock-summary-control").click()
        operation.locator("input[type=file]").first.set_input_files(
            {"name": "a.png", "mimeType": "", "buffer": photo(64, 64)}
        )
        operation.locator("[data-property-name=dry_run] select").select_option("true")
        operation.get_by_role("button", name="Execute").click()
        expect(operation.locator(".live-responses-table .response-col_status").last).to_have_text("200")


def test_the_examples_fit_their_schemas(document: Any) -> None:
    for status, response in document["paths"]["/image-to-image"]["post"]["responses"].items():
        content = response["content"]["application/json"]
        examples = content["examples"]
        assert examples, status
        schema = {**content["schema"], "components": document["components"]}
        for example in examples.values():
            Draft202012Validator(schema).validate(example["value"])
