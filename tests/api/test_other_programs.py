"""What users of other programs send: `seed=-1`, and prompt syntax that is plain text here. API over real HTTP, and studio."""

from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from generation import prompt_syntax
from generation.recipes import RANDOM_SEED_WARNING
from tests.support import pictures
from tests.support.service import Service

LORA = '<lora:style:0.8> in prompt has no effect; name LoRAs in loras, such as {"owner/name": 0.8}.'
WEIGHT = "(night:1.3) in prompt is syntax of other programs, and plain text here."
IGNORED = "negative_prompt has no effect on dreamsite/tiny-edit."
FIELDS = {
    "prompt": "(night:1.3), <lora:style:0.8>, (day:0.5)",
    "negative_prompt": "((blurry))",
    "num_inference_steps": "1",
    "seed": "-1",
}


def test_the_api_warns(service: Service, alices_key: str) -> None:
    files = {"image": pictures.photo(128, 128)}
    with service.client(alices_key) as client:
        made = client.post("/image-to-image", data={**FIELDS, "num_images_per_prompt": "2"}, files=files).json()
        assert made["warnings"] == [IGNORED, LORA, WEIGHT, RANDOM_SEED_WARNING]
        record = client.get(f"/generations/{made['id']}").json()
        assert record["parameters"]["seed"] is None
        seeds = [image["seed"] for image in made["images"]]
        assert record["effective"]["seeds"] == seeds == [seeds[0], seeds[0] + 1]
        assert seeds[0] >= 0
        estimate = client.post("/image-to-image", data={**FIELDS, "dry_run": "true"}, files=files).json()
        assert estimate["warnings"] == made["warnings"]
        edited = client.post("/v1/images/edits", data={**FIELDS, "dry_run": "true"}, files=files)
        assert edited.json()["warnings"] == made["warnings"]
        document: Any = client.get("/openapi.json").json()
    form = document["paths"]["/image-to-image"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    seed = document["components"]["schemas"][form["$ref"].rpartition("/")[2]]["properties"]["seed"]
    assert (seed["minimum"], seed["maximum"]) == (-1, 2**63 - 1)


@pytest.mark.usefixtures("redis", "tiny_edit")
def test_the_studio_warns(client: Client, alice: User) -> None:
    client.force_login(alice)
    estimate = client.post("/studio/estimate", {**FIELDS, "width": "128", "height": "128"}).json()
    assert (estimate["warnings"], estimate["errors"]) == ([IGNORED, LORA, WEIGHT, RANDOM_SEED_WARNING], {})


@pytest.mark.parametrize(
    "text",
    [
        "a (castle:1.3) at night",
        "a (castle, on a hill : .8)",
        "((castle))",
        "(((old castle)))",
        "[castle:ruin:0.5]",
        "[castle|ruin]",
        "a {red|green|blue} castle",
        "(the (castle:1.1) here)",
    ],
)
def test_syntax_of_other_programs_is_noticed(text: str) -> None:
    (warning,) = prompt_syntax.warnings("prompt", text)
    assert "is syntax of other programs, and plain text here" in warning


@pytest.mark.parametrize("text", ["<lora:a:1>", "<LoRA:owner/name:0.5>", "a castle<lyco:x:1:1>", "<hypernet:a:1>"])
def test_loras_in_prompts_are_noticed(text: str) -> None:
    (warning,) = prompt_syntax.warnings("prompt", text)
    assert "name LoRAs in loras" in warning


@pytest.mark.parametrize(
    "text",
    [
        "make it night (16:9)",
        "the clock (at 10:30) strikes",
        "read John (3:16) aloud",
        "a sign that says (sic)",
        "sad :(( and glad :))",
        "a face [smiling]",
        "either | or",
        "{}",
        "<b>bold</b>",
        "a lora: 0.8",
        "version 1.3 (beta: 2)",
        "f(g(x))",
        "(" * 4000,
        "((a" * 1000,
        "[:" * 2000,
    ],
)
def test_plain_text_is_not_warned_about(text: str) -> None:
    assert prompt_syntax.warnings("prompt", text) == []


def test_long_syntax_is_shortened() -> None:
    (warning,) = prompt_syntax.warnings("prompt", f"({'x' * 3000}:1.1)")
    assert len(warning) < 150
