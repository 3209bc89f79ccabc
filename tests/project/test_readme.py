"""The snippets of README's chapters about the API, run as they stand against the real service."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from playwright.sync_api import Error

from tests.support import pictures
from tests.support.browser import chromium, needs_chromium
from tests.support.environment import ROOT
from tests.support.service import Service

CHAPTERS = (
    (ROOT / "README.md").read_text().partition("## The API by example")[2].partition("## Tokens, users, models")[0]
)
FENCED = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
# What README says goes wrong should fail here.
STRICT = 'set -euo pipefail; curl() { command curl --silent --show-error --fail-with-body --max-time 60 "$@"; }\n'


def snippets(language: str) -> list[Any]:
    named = []
    for part in re.split(r"^#+ ", CHAPTERS, flags=re.M):
        title = part.partition("\n")[0].strip() or "One call"
        found = [code for fenced, code in FENCED.findall(part) if fenced == language]
        named += [pytest.param(code, id=f"{title}-{number}") for number, code in enumerate(found, 1)]
    return named


def run(service: Service, key: str, *command: str, **environment: str) -> str:
    finished = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "TOKEN": key, **environment}, capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def at(service: Service, code: str) -> str:
    """The snippet for this service, with a picture that takes less time."""
    assert "http://127.0.0.1:8000" in code
    small = service.data_dir / "small.png"
    small.write_bytes(pictures.photo(128, 128))
    return code.replace("http://127.0.0.1:8000", service.url).replace("dreamsite/static/sample.jpg", str(small))


@pytest.fixture
def generation_id(service: Service, alices_key: str) -> str:
    """One that has ended."""
    return str(make(service, alices_key, {})["id"])


def make(service: Service, key: str, headers: dict[str, str], steps: int = 1) -> dict[str, Any]:
    fields = {"prompt": "make it night", "num_inference_steps": str(steps)}
    with service.client(key) as client:
        answer = client.post("/image-to-image", data=fields, files={"image": pictures.photo(128, 128)}, headers=headers)
    made: dict[str, Any] = answer.json()
    return made


def test_every_language_is_run() -> None:
    assert {language for language, _ in FENCED.findall(CHAPTERS)} == {"sh", "python", "js", "json"}


@pytest.mark.parametrize("code", snippets("sh"))
def test_shell(code: str, service: Service, alices_key: str, generation_id: str) -> None:
    code = at(service, code).replace("night.png", "/dev/null")
    told = run(service, alices_key, "bash", "-c", STRICT + code, ID=generation_id)
    if "Idempotency-Key" in code:
        first, second = told.replace("}{", "}\n{").splitlines()
        assert first == second
        assert json.loads(first)["images"]
    elif "/events" in code:
        assert [told.count(f"event: {kind}\n") for kind in ("started", "image", "succeeded")] == [1, 1, 1]


@pytest.mark.parametrize("code", snippets("python"))
def test_python(code: str, service: Service, alices_key: str) -> None:
    told = run(service, alices_key, sys.executable, "-W", "error", "-c", at(service, code))
    if "strength" in code:
        assert told == "strength: Input should be a number from 0 to 1\n"
    else:
        assert "/media/outputs/" in told


@needs_chromium
@pytest.mark.parametrize("code", snippets("js"))
def test_javascript(code: str, service: Service, alices_key: str) -> None:
    follow = (
        f"([id, token]) => {{ {at(service, code)}\n"
        "const told = []; return follow(id, token, (event) => told.push(event)).then(() => told); }"
    )
    accepted = make(service, alices_key, {"Prefer": "respond-async"}, steps=60)
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{service.url}/health")
        told = page.evaluate(follow, [accepted["id"], alices_key])
        with pytest.raises(Error, match="no such"):
            page.evaluate(follow, ["01980000-0000-7000-8000-000000000000", alices_key])
    assert told.index("started") < told.index("progress") < told.index("image")
    assert told[-1] == "succeeded"


def test_the_answer_shown_is_like_a_real_one(service: Service, alices_key: str) -> None:
    shown = json.loads(next(code for language, code in FENCED.findall(CHAPTERS) if language == "json"))
    real = make(service, alices_key, {})
    assert shown.keys() == real.keys()
    assert shown["images"][0].keys() == real["images"][0].keys()
