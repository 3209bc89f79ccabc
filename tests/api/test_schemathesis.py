"""The OpenAPI document against the real service: every response is as documented.

Two runs of 2,000 cases and more. In the first anything is sent: valid and invalid fields, bytes that are hardly ever a
picture, unknown methods, wrong tokens. In the second every form has a real picture, so that pictures are made. Both are the
same every time.
"""

import base64
import json
import re
from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from generation.api.openapi import document
from generation.parameters import ImageToImageParameters, bounds
from tests.support import pictures
from tests.support.service import Service

load_all_checks()

PICTURE = pictures.photo(128, 128)
SETTINGS = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
EXPECTED = {
    "POST /generations/{generation_id}/cancel": {409},
    # A case can get 410 after an earlier one has deleted the generation.
    "DELETE /generations/{generation_id}": {204, 410},
    "GET /generations/{generation_id}/images/{number}": {302},
    "POST /generations/{generation_id}/prove": {200, 202},
}
"""Statuses of valid requests, where they are not 200."""


def load(**generation: object) -> Any:
    config = schemathesis.Config.from_dict({"seed": 1, "generation": {"deterministic": True, **generation}})
    return schemathesis.openapi.from_dict(json.loads(document()), config=config)


case_counts: Counter[str] = Counter()
anything = load()
valid = load(**{"mode": "positive", "allow-x00": False})


@pytest.fixture(scope="module")
def existing_id(service: Service, alices_key: str) -> str:
    return make(service, alices_key)


@pytest.fixture(scope="module")
def doomed_id(service: Service, alices_key: str) -> str:
    """A generation that may be deleted."""
    return make(service, alices_key)


def make(service: Service, key: str) -> str:
    with service.client(key) as client:
        fields = {"prompt": "x", "num_inference_steps": "1"}
        response = client.post("/image-to-image", data=fields, files={"image": PICTURE})
    return str(response.json()["id"])


def shorten(body: Any) -> None:
    """Replace every allowed number of steps and pictures by 1, since the run would take hours."""
    if isinstance(body, dict):
        for name in ("num_inference_steps", "num_images_per_prompt", "n"):
            bound = bounds(ImageToImageParameters.model_fields["num_images_per_prompt" if name == "n" else name])
            value = body.get(name, 1)
            if type(value) is int and bound["ge"] <= value <= bound["le"]:
                body[name] = 1


def check_response(case: Any, service: Service, key: str) -> None:
    shorten(case.body)
    case_counts[case.operation.label] += 1
    case.call_and_validate(
        service.url,
        headers={"Authorization": f"Bearer {key}"},
        # A schema cannot require that the bytes are a picture or that the id is the user's; and in forms, 0 is a boolean.
        excluded_checks=[positive_data_acceptance, negative_data_rejection],
    )


def check_success(case: Any, service: Service, key: str, existing_id: str, doomed_id: str) -> None:
    # A deadline may be too short, and a key may have been used with another request.
    case.headers = {}
    case_counts[case.operation.label] += 1
    if case.method == "POST" and isinstance(case.body, dict):
        for name in ("model_id", "model", "loras", "strength", "seed", "priority", "image_url", "mask", "images[]"):
            case.body.pop(name, None)
        if case.media_type == "application/json":
            case.body["images"] = [{"image_url": f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"}]
        else:
            case.body["image"] = PICTURE
        shorten(case.body)
    elif case.path == "/generations":
        # Valid cursors are only in responses.
        case.query.pop("cursor", None)
    elif case.path == "/v1/models/{model_id}":
        case.path_parameters = {"model_id": "gpt-image-1"}
    else:
        generation_id = doomed_id if case.method == "DELETE" else existing_id
        case.path_parameters = {"generation_id": generation_id, "number": 0}
    response = case.call_and_validate(
        service.url,
        headers={"Authorization": f"Bearer {key}"},
        # The form is not the generated one.
        excluded_checks=[negative_data_rejection],
    )
    assert response.status_code in EXPECTED.get(case.operation.label, {200}), response.text


def responses_of(label: str) -> Any:
    @anything.include(name=label).parametrize()  # type: ignore[untyped-decorator]
    @settings(SETTINGS, max_examples=125)
    def test(case: Any, service: Service, alices_key: str) -> None:
        check_response(case, service, alices_key)

    return test


def successes_of(label: str) -> Any:
    @valid.include(name=label).parametrize()  # type: ignore[untyped-decorator]
    @settings(SETTINGS, max_examples=8)
    def test(case: Any, service: Service, alices_key: str, existing_id: str, doomed_id: str) -> None:
        check_success(case, service, alices_key, existing_id, doomed_id)

    return test


# A function for each operation: schemathesis gives the same node id to all operations of a function, and pytest-xdist
# runs only one test of each id.
for _operation in anything.get_all_operations():
    _label = _operation.ok().label
    _name = re.sub(r"\W+", "_", _label).strip("_").lower()
    globals()[f"test_every_response_of_{_name}_is_as_documented"] = responses_of(_label)
    globals()[f"test_valid_requests_of_{_name}_succeed"] = successes_of(_label)


def test_two_thousand_cases_were_run() -> None:
    described = {
        f"{method.upper()} {path}" for path, methods in json.loads(document())["paths"].items() for method in methods
    }
    if set(case_counts) != described:
        pytest.skip("a part of this module was chosen")
    assert case_counts.total() >= 2000, case_counts
