"""Models and LoRAs that staff allow, through the real service: enabled ones make pictures, and nothing leaks."""

import io
import os
import signal
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from generation.repositories.files import BUNDLED
from tests.support import pictures
from tests.support.processes import wait_for_worker
from tests.support.service import Service
from tests.support.tiny_models import (
    diffusers,
    save_lora,
    save_stable_diffusion,
)

ALLOW = """
from generation.models import DiffusionModel, Lora
sd = DiffusionModel(id="tests/tiny-sd", family="stable-diffusion", enabled=True, max_steps=4)
broken = DiffusionModel(id="tests/broken", family="stable-diffusion", enabled=True)
for model in (sd, broken): model.full_clean(); model.save()
for name in ("tests/swirl", "tests/gone"):
    lora = Lora(id=name, enabled=True, revision="" if name == "tests/swirl" else "0" * 40)
    lora.full_clean(); lora.save()
    lora.base_models.set(["dreamsite/tiny-edit", "tests/tiny-sd"])
"""


# Their requests name them, so they cannot be deleted.
DISABLE = """
from generation.models import DiffusionModel, Lora
for kind in (DiffusionModel, Lora): kind.objects.filter(pk__startswith="tests/").update(enabled=False)
"""


@pytest.fixture(scope="module", autouse=True)
def allowed(service: Service) -> Iterator[None]:
    """A small Stable Diffusion model, one that cannot be loaded, a LoRA of the bundled model, and a missing LoRA."""
    models_dir = service.data_dir / "models"
    save_stable_diffusion(models_dir, "tests/tiny-sd")
    (models_dir / "tests" / "broken").mkdir()
    (models_dir / "tests" / "broken" / "model_index.json").write_text("{}")
    pipe = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(BUNDLED / "tiny-edit", safety_checker=None)
    save_lora(models_dir, "tests/swirl", pipe)
    service.manage("shell", "-v", "0", "-c", ALLOW)
    yield
    # Other modules list the models of this service.
    service.manage("shell", "-v", "0", "-c", DISABLE)


@pytest.fixture
def unmarked(service: Service) -> Iterator[None]:
    """The bundled model without watermarks, which say of pictures of another request that they are others."""
    rows = (
        'from generation.models import DiffusionModel; rows = DiffusionModel.objects.filter(pk="dreamsite/tiny-edit")'
    )
    service.manage("shell", "-v", "0", "-c", f"{rows}; rows.update(watermark=False)")
    yield
    service.manage("shell", "-v", "0", "-c", f"{rows}; rows.update(watermark=True)")


@pytest.fixture
def api(service: Service, alices_key: str) -> Iterator[httpx.Client]:
    with service.client(alices_key) as client:
        yield client


def post(api: httpx.Client, **fields: str) -> httpx.Response:
    return api.post(
        "/image-to-image",
        data={"prompt": "make it night", "num_inference_steps": "2", "seed": "7", **fields},
        files={"image": ("a.png", pictures.photo(128, 128))},
    )


def pixels(response: httpx.Response) -> bytes:
    assert response.status_code == 200, response.text
    return Image.open(io.BytesIO(httpx.get(response.json()["images"][0]["url"]).content)).tobytes()


def problem(response: httpx.Response) -> tuple[int, str, str]:
    detail = response.json()["detail"]
    return response.status_code, detail["code"], detail["msg"]


def test_an_enabled_model_is_used_with_its_own_rules(api: httpx.Client) -> None:
    response = post(api, model_id="tests/tiny-sd", image_guidance_scale="2", strength="1")
    assert pixels(response)
    assert response.json()["model_id"] == "tests/tiny-sd"
    assert "image_guidance_scale has no effect on tests/tiny-sd." in response.json()["warnings"]
    too_many = post(api, model_id="tests/tiny-sd", num_inference_steps="5")
    assert too_many.json()["detail"][0]["msg"] == "Input should be a number from 1 to 4 for tests/tiny-sd"
    nothing_to_do = post(api, model_id="tests/tiny-sd", strength="0.4")
    assert nothing_to_do.json()["detail"][0]["loc"] == ["body", "strength"]


def test_a_lora_works_and_does_not_leak_into_the_next_request(api: httpx.Client, unmarked: None) -> None:
    plain = pixels(post(api))
    styled = pixels(post(api, loras='{"tests/swirl": 1}'))
    assert styled != plain
    assert pixels(post(api)) == plain
    assert pixels(post(api, loras='{"tests/swirl": 0}')) == plain
    assert pixels(post(api, loras='{"tests/swirl": "1.0"}')) == styled


def test_the_bundled_loras_work_on_the_first_run(api: httpx.Client) -> None:
    plain = pixels(post(api))
    styled = {name: pixels(post(api, loras=f'{{"{name}": 1}}')) for name in ("dreamsite/banknote", "dreamsite/knitted")}
    assert len({plain, *styled.values()}) == 3
    assert pixels(post(api)) == plain


def test_an_incompatible_or_missing_lora_is_400(api: httpx.Client) -> None:
    misfit = post(api, model_id="tests/tiny-sd", strength="1", loras='{"tests/swirl": 1}')
    assert problem(misfit) == (400, "lora_failed", "LoRA incompatible with base model: 'tests/swirl'")
    missing = post(api, loras='{"tests/gone": 1}')
    assert problem(missing) == (400, "lora_failed", "LoRA repository 'tests/gone' not found")


def test_a_model_that_cannot_be_loaded_is_a_clear_500(api: httpx.Client) -> None:
    assert problem(post(api, model_id="tests/broken")) == (
        500,
        "model_failed",
        "Model 'tests/broken' could not be loaded.",
    )
    assert post(api).status_code == 200


def test_a_default_model_that_cannot_be_loaded_fails_only_its_own_requests(service: Service, api: httpx.Client) -> None:
    """The last of this module, since it restarts the worker."""
    change = "from generation.models import DiffusionModel as M; M.objects.update(is_default=False);"
    service.manage("shell", "-v", "0", "-c", f"{change} M.objects.filter(pk='tests/broken').update(is_default=True)")
    try:
        os.kill(service.worker(), signal.SIGKILL)
        assert pixels(post(api, model_id="dreamsite/tiny-edit"))
        assert problem(post(api)) == (500, "model_failed", "Model 'tests/broken' could not be loaded.")
        assert "the default model tests/broken cannot be loaded" in service.output
        assert httpx.get(f"{service.url}/ready").status_code == 200
    finally:
        default = "M.objects.filter(pk='dreamsite/tiny-edit').update(is_default=True)"
        service.manage("shell", "-v", "0", "-c", f"{change} {default}")
        wait_for_worker(service)
