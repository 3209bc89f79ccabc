"""Three of today's families through the whole service: the answer, the history, and what staff see."""

import html
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from django.template.defaultfilters import floatformat

from tests.support.pictures import photo
from tests.support.service import Service, signed_in
from tests.support.twins import save_twin

SIDE = 192
MEGAPIXELS = SIDE**2 / 1e6


class Case(NamedTuple):
    """A twin, its family, the steps to request, those that are run, and what the answer warns of."""

    twin: str
    family: str
    steps: int
    executed: int
    warnings: list[str]
    notes: list[str]
    """What the page of the generation says of request fields."""


CASES = {
    case.twin: case
    for case in (
        Case(
            "sd35",
            "stable-diffusion-3",
            steps=4,
            executed=3,
            warnings=["strength 0.8 was lowered to 0.75: with 4 steps, more would ignore the picture."],
            notes=["Strength 0.8 the model runs with 0.75"],
        ),
        Case(
            "flux-kontext",
            "flux-kontext",
            steps=3,
            executed=3,
            warnings=[
                "negative_prompt has no effect on twins/flux-kontext.",
                "strength has no effect on twins/flux-kontext.",
            ],
            notes=["Negative prompt a ship no effect on this model", "Strength 0.8 no effect on this model"],
        ),
        Case(
            "qwen-image-edit-plus",
            "qwen-image-edit-plus",
            steps=2,
            executed=2,
            warnings=["strength has no effect on twins/qwen-image-edit-plus."],
            notes=["Strength 0.8 no effect on this model"],
        ),
    )
}


@pytest.fixture(scope="module")
def enabled(service: Service) -> Iterator[None]:
    """The twins as models of the service, limited to small pictures, which takes less time."""
    for case in CASES.values():
        save_twin(service.data_dir / "models", case.twin)
    rows = [(f"twins/{case.twin}", case.family) for case in CASES.values()]
    code = f"""
from generation.models import DiffusionModel
for name, family in {rows}:
    DiffusionModel.objects.create(id=name, family=family, enabled=True, max_side={SIDE})
"""
    service.manage("shell", "-c", code)
    yield
    service.query("UPDATE generation_diffusionmodel SET enabled = 0 WHERE id LIKE 'twins/%'")


@pytest.fixture(scope="module")
def browser(service: Service) -> Iterator[httpx.Client]:
    with signed_in(service) as client:
        yield client


@pytest.mark.usefixtures("enabled")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_works(service: Service, browser: httpx.Client, case: Case) -> None:
    fields: dict[str, Any] = {
        "model_id": f"twins/{case.twin}",
        "prompt": f"make it night with {case.twin}",
        "negative_prompt": "a ship",
        "strength": 0.8,
        "guidance_scale": 4,
        "num_inference_steps": case.steps,
        "seed": 7,
    }
    with service.client() as api:
        files = {"image": photo(SIDE, SIDE)}
        estimate = api.post("/image-to-image", data=fields | {"dry_run": True}, files=files).json()
        response = api.post("/image-to-image", data=fields, files=files)
        assert response.status_code == 200, response.text
        answer = response.json()
        record = api.get(f"/generations/{answer['id']}").json()
    assert answer["warnings"] == estimate["warnings"] == record["warnings"] == case.warnings
    assert record["cost"] == estimate["cost"] == pytest.approx(case.executed * MEGAPIXELS)
    assert [(image["width"], image["height"], image["seed"]) for image in record["images"]] == [(SIDE, SIDE, 7)]
    assert len(httpx.get(answer["images"][0]["url"]).raise_for_status().content) > 1000

    assert case.twin in text(browser, "/history/")
    page = text(browser, f"/history/{answer['id']}/")
    for sentence in (*case.warnings, *case.notes):
        assert sentence in page
    admin_page = text(browser, f"/admin/generation/generation/{answer['id']}/change/")
    for sentence in (
        *case.warnings,
        f"cost {floatformat(record['cost'], '-2')}",
        f'"num_inference_steps": {case.steps}',
    ):
        assert sentence in admin_page


def text(browser: httpx.Client, address: str) -> str:
    """Return the words of a page."""
    page = browser.get(address).raise_for_status().text
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))
