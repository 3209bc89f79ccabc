"""`GET /models` and `GET /loras`: which models are listed, and whether their descriptions are true."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.test import Client
from jsonschema import Draft202012Validator
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.models import ApiToken
from generation.api.openapi import document
from generation.broker.connection import redis_client
from generation.capabilities import MODEL_FIELDS
from generation.families import Family
from generation.models import DiffusionModel, Lora
from generation.parameters import ImageToImageParameters, InvalidField
from generation.recipes import plan, traits_of
from tests.support.environment import ROOT
from tests.support.service import Service, wait_until
from tests.support.workers import register_worker

TINY = "dreamsite/tiny-edit"
REDRAW = "dreamsite/tiny-redraw"


@pytest.fixture
def api(client: Client, alices_token: str) -> Client:
    client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {alices_token}"
    return client


@pytest.fixture
def no_redis(settings: Settings) -> Iterator[None]:
    """Redis cannot be reached."""
    settings.REDIS_URL = f"unix://{settings.DATA_DIR}/nobody.sock"
    redis_client.cache_clear()
    yield
    redis_client.cache_clear()


@pytest.fixture
def several_models(tiny_edit: DiffusionModel) -> None:
    """One enabled model of every family, and one whose limit is below the default of steps; no LoRA."""
    Lora.objects.all().delete()
    for name, family in (
        ("stabilityai/sd-turbo", "turbo"),
        ("ByteDance/SDXL-Lightning-4step", "lightning"),
        ("someone/diffusion", "stable-diffusion"),
    ):
        DiffusionModel.objects.update_or_create(id=name, defaults={"family": family, "enabled": True})
    DiffusionModel.objects.create(
        id="someone/small", family="instruct-pix2pix", enabled=True, max_steps=20, max_images=2, max_side=200
    )


def models(api: Client) -> dict[str, Any]:
    response = api.get("/models")
    assert response.status_code == 200
    return {model["id"]: model for model in response.json()["models"]}


def add_lora(name: str, *bases: str, enabled: bool = True) -> None:
    Lora.objects.create(id=name, enabled=enabled).base_models.set(DiffusionModel.objects.filter(pk__in=bases))


def test_it_works(service: Service, alices_key: str) -> None:
    with service.client(alices_key) as api:

        def bundled() -> Any:
            return next(model for model in api.get("/models").json()["models"] if model["id"] == TINY)

        wait_until(lambda: bundled()["is_warm"], "the announcement of the warm model")
        model = bundled()
        assert (model["kind"], model["is_default"]) == ("instruct-pix2pix", True)
        assert model["sizes"] == {"min_side": 128, "max_side": 512, "max_pixels": 512**2}
        assert model["parameters"]["num_inference_steps"]["default"] == 100
        bundled_loras = {"dreamsite/banknote", "dreamsite/knitted"}
        assert bundled_loras <= set(model["loras"])
        assert bundled_loras <= {lora["id"] for lora in api.get("/loras").json()["loras"]}


@pytest.mark.parametrize("path", ["/models", "/loras"])
def test_the_lists_need_a_token_and_are_read_only(service: Service, alices_key: str, path: str) -> None:
    refused = httpx.get(service.url + path)
    assert (refused.status_code, refused.json()["detail"]["code"]) == (401, "invalid_token")
    with service.client(alices_key) as api:
        response = api.get(path)
        assert response.headers["cache-control"] == "no-store"
        head = api.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == response.headers["content-type"]
        posted = api.post(path)
        assert (posted.status_code, posted.json()["detail"]["code"]) == (405, "method_not_allowed")
        assert posted.headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.usefixtures("redis", "several_models")
def test_only_enabled_models_are_listed_with_the_default_first(api: Client) -> None:
    assert list(models(api)) == [
        TINY,
        "ByteDance/SDXL-Lightning-4step",
        REDRAW,
        "someone/diffusion",
        "someone/small",
        "stabilityai/sd-turbo",
    ]
    DiffusionModel.objects.update(is_default=False)
    DiffusionModel.objects.filter(pk="someone/small").update(is_default=True)
    DiffusionModel.objects.filter(pk=TINY).update(enabled=False)
    assert next(iter(models(api))) == "someone/small"
    assert TINY not in models(api)


@pytest.mark.usefixtures("redis", "several_models")
def test_loras_are_listed_with_the_models_that_allow_them(api: Client) -> None:
    DiffusionModel.objects.create(id="someone/disabled", family="turbo")
    add_lora("b/both", TINY, "someone/diffusion", "someone/disabled")
    add_lora("a/one", TINY)
    add_lora("a/disabled", TINY, enabled=False)
    add_lora("a/of-a-disabled-model", "someone/disabled")
    listed = models(api)
    assert listed[TINY]["loras"] == ["a/one", "b/both"]
    assert listed[REDRAW]["examples"][:2] == ["a red apple", "a lemon"]
    assert listed["someone/small"]["examples"] == []
    assert listed["someone/diffusion"]["loras"] == ["b/both"]
    assert listed["stabilityai/sd-turbo"]["loras"] == []
    assert listed[TINY]["parameters"]["loras"]["has_effect"]
    assert not listed["stabilityai/sd-turbo"]["parameters"]["loras"]["has_effect"]
    assert api.get("/loras").json() == {
        "loras": [{"id": "a/one", "models": [TINY]}, {"id": "b/both", "models": [TINY, "someone/diffusion"]}]
    }


@pytest.mark.usefixtures("redis", "several_models")
def test_each_model_has_its_own_recommended_and_forced_values(api: Client) -> None:
    listed = {name: model["parameters"] for name, model in models(api).items()}
    assert (listed[TINY]["guidance_scale"]["has_effect"], listed[TINY]["guidance_scale"]["forced"]) == (False, 1)
    assert listed[TINY]["num_inference_steps"]["recommended"] == 2
    assert listed["someone/diffusion"]["num_inference_steps"]["recommended"] == 30
    assert listed["someone/diffusion"]["strength"]["recommended"] is None
    turbo, lightning = listed["stabilityai/sd-turbo"], listed["ByteDance/SDXL-Lightning-4step"]
    assert turbo["num_inference_steps"] == {
        "has_effect": True,
        "default": 100,
        "minimum": 1,
        "maximum": 200,
        "recommended": 2,
        "forced": None,
    }
    assert (turbo["guidance_scale"]["has_effect"], turbo["guidance_scale"]["forced"]) == (False, 0)
    assert (lightning["num_inference_steps"]["has_effect"], lightning["num_inference_steps"]["forced"]) == (False, 4)
    assert isinstance(lightning["num_inference_steps"]["forced"], int)
    assert lightning["num_inference_steps"]["recommended"] is None


@pytest.mark.usefixtures("redis", "several_models")
def test_limits_of_staff_reduce_the_bounds(api: Client) -> None:
    DiffusionModel.objects.filter(pk=TINY).update(max_steps=1, max_side=100)
    DiffusionModel.objects.filter(pk="ByteDance/SDXL-Lightning-4step").update(max_steps=2)
    listed = models(api)
    small = listed["someone/small"]
    steps = small["parameters"]["num_inference_steps"]
    assert (steps["default"], steps["minimum"], steps["maximum"]) == (100, 1, 20)
    assert small["parameters"]["num_images_per_prompt"]["maximum"] == 2
    assert small["sizes"] == {"min_side": 200, "max_side": 200, "max_pixels": 200**2}
    assert listed[TINY]["parameters"]["num_inference_steps"]["recommended"] == 1
    assert listed[TINY]["sizes"] == {"min_side": 100, "max_side": 100, "max_pixels": 100**2}
    assert listed["ByteDance/SDXL-Lightning-4step"]["parameters"]["num_inference_steps"]["maximum"] == 200


@pytest.mark.usefixtures("redis", "several_models")
def test_descriptions_match_what_happens_to_a_request(api: Client) -> None:
    rows = [DiffusionModel(id=f"someone/{family}", family=family, enabled=True) for family in Family]
    DiffusionModel.objects.bulk_create(rows)
    for name, model in models(api).items():
        row = DiffusionModel.objects.get(pk=name)

        def warnings(row: DiffusionModel = row, **fields: Any) -> str:
            parameters = ImageToImageParameters(**{"prompt": "x", "num_inference_steps": 8, **fields})
            open_box = (0, 0, 200, 200) if traits_of(row.reference()).needs_mask else None
            return " ".join(plan(parameters, row.reference(), [], (200, 200), row.limits(), open_box)[1])

        for field, description in model["parameters"].items():
            if field == "loras":
                continue
            values = {description["default"], description["maximum"], description["recommended"]} - {None}
            if field == "num_inference_steps" and description["default"] > description["maximum"]:
                values.remove(description["default"])
            for value in values:
                assert (f"{field} has no effect" in warnings(**{field: value})) is not description["has_effect"], (
                    name,
                    field,
                )
    # A value above the limit is refused, also if it is the default.
    for field, value in (("num_inference_steps", 21), ("num_inference_steps", 100), ("num_images_per_prompt", 3)):
        parameters = ImageToImageParameters(**{"prompt": "x", "num_inference_steps": 8, field: value})
        small = DiffusionModel.objects.get(pk="someone/small")
        with pytest.raises(InvalidField):
            plan(parameters, small.reference(), [], (200, 200), small.limits())


@pytest.mark.usefixtures("redis", "several_models")
def test_a_model_is_warm_if_a_worker_of_its_pool_has_it_loaded(api: Client) -> None:
    assert not any(model["is_warm"] for model in models(api).values())
    register_worker("worker-1", models=[TINY, "someone/diffusion"])
    register_worker("worker-2", pool="other", models=["someone/small"])
    register_worker("worker-3", models=[])
    assert {name for name, model in models(api).items() if model["is_warm"]} == {TINY, "someone/diffusion"}


@pytest.mark.usefixtures("redis", "several_models")
def test_a_model_is_downloaded_if_a_worker_of_its_pool_has_it_on_its_disk(api: Client) -> None:
    assert {model["is_downloaded"] for model in models(api).values()} == {None}
    register_worker("worker-1", missing=["someone/small", "someone/diffusion"])
    register_worker("worker-2", missing=["someone/small"])
    register_worker("worker-3", pool="other")
    assert {name for name, model in models(api).items() if not model["is_downloaded"]} == {"someone/small"}


@pytest.mark.usefixtures("no_redis", "several_models")
def test_without_redis_is_warm_is_null(api: Client) -> None:
    answers = {(model["is_warm"], model["is_downloaded"]) for model in models(api).values()}
    assert answers == {(None, None)}


@pytest.mark.usefixtures("redis", "several_models")
def test_long_lists_need_no_more_queries(
    api: Client, alices: ApiToken, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    api.get("/models")  # notes the use of the token
    for number in range(10):
        DiffusionModel.objects.create(id=f"someone/model-{number}", family="turbo", enabled=True)
        add_lora(f"someone/lora-{number}", TINY, f"someone/model-{number}")
    for path in ("/models", "/loras"):
        # The token, its rate limit, the rows, and their related rows.
        with django_assert_num_queries(4):
            api.get(path)


@pytest.mark.usefixtures("redis", "tiny_edit")
def test_the_examples_are_real_responses(api: Client) -> None:
    register_worker("worker-1", models=[TINY])
    # Two of each are enough for an example.
    for name, prompts in {TINY: "turn it into a pencil sketch\nmake it night", REDRAW: "a red apple\na rocket"}.items():
        DiffusionModel.objects.filter(pk=name).update(example_prompts=prompts)
    answers = {"/models": api.get("/models").json()}
    Lora.objects.all().delete()
    add_lora("someone/watercolour", TINY)
    answers["/loras"] = api.get("/loras").json()
    described = json.loads(document())
    for path, answer in answers.items():
        content = described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
        (example,) = content["examples"].values()
        assert example["value"] == answer
        Draft202012Validator({**content["schema"], "components": described["components"]}).validate(answer)


@pytest.mark.usefixtures("redis", "tiny_edit")
def test_the_example_in_the_docs_is_part_of_the_real_response(api: Client) -> None:
    register_worker("worker-1", models=[TINY])
    page = (ROOT / "docs" / "models.md").read_text()
    (example,) = json.loads(re.findall(r"```json\n(.*?)```", page, re.DOTALL)[0])["models"]
    real = models(api)[TINY]
    assert set(real["parameters"]) == set(MODEL_FIELDS)
    assert len(MODEL_FIELDS) == 9
    parameters = {name: real["parameters"][name] for name in example["parameters"]}
    assert example == {**real, "parameters": parameters, "examples": real["examples"][:1]}
