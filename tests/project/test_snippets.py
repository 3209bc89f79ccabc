"""Every snippet of README and docs/, run unchanged against a real service."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml
from playwright.sync_api import Error

from tests.support import node, pictures
from tests.support.browser import chromium, needs_chromium
from tests.support.environment import ROOT
from tests.support.service import WAIT_SECONDS, Service

PAGES = {
    path.name: path.read_text() for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"))
}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
# Fail where the page says that it works.
STRICT = 'set -euo pipefail; curl() { command curl --silent --show-error --fail-with-body --max-time 60 "$@"; }\n'


def snippets(language: str) -> list[Any]:
    """Return the snippets of a language that run here, as parameters named by page and heading.

    Blocks of `make` targets alone would run this suite within itself; `tests.project.test_docs` checks that they exist.
    """
    params = []
    for page, text in PAGES.items():
        for part in re.split(r"^#+ ", text, flags=re.M):
            codes = [code for fenced, code in FENCED.findall(part) if fenced == language]
            codes = [code for code in codes if not all(line.startswith("make ") for line in code.splitlines())]
            heading = part.partition("\n")[0]
            params += [pytest.param(code, id=f"{page}-{heading}-{number}") for number, code in enumerate(codes, 1)]
    return params


def run(service: Service, key: str, *command: str, **environment: str) -> str:
    """Run a command in the service's environment, with this token, and return what it prints."""
    with start(service, key, *command, **environment) as process:
        output, errors = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, output + errors
    return output


def start(service: Service, key: str, *command: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**service.environment, "TOKEN": key, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def for_service(service: Service, code: str) -> str:
    """Return the snippet for this service, with an input that takes less time."""
    assert "http://127.0.0.1:8000" in code or "manage.py" in code
    small = service.data_dir / "small.png"
    small.write_bytes(pictures.photo(128, 128))
    code = code.replace("http://127.0.0.1:8000", service.url).replace("dreamsite/static/sample.jpg", str(small))
    return code.replace(".venv/bin/python", sys.executable)


@pytest.fixture
def generation_id(service: Service, alices_key: str) -> str:
    """The id of a finished generation, for snippets that need one."""
    return str(make(service, alices_key, {})["id"])


def make(service: Service, key: str, headers: dict[str, str], **fields: str) -> dict[str, Any]:
    fields = {"prompt": "make it night", "num_inference_steps": "1", **fields}
    with service.client(key) as client:
        answer = client.post("/image-to-image", data=fields, files={"image": pictures.photo(128, 128)}, headers=headers)
    body: dict[str, Any] = answer.json()
    return body


def test_every_language_is_run() -> None:
    languages = {language for text in PAGES.values() for language, _ in FENCED.findall(text)}
    assert languages - {"text"} == {"sh", "python", "js", "mjs", "json", "yaml"}


@pytest.mark.parametrize("code", snippets("yaml"))
def test_configuration_can_be_read(code: str) -> None:
    assert yaml.safe_load(code)


@pytest.mark.parametrize("code", snippets("sh"))
def test_shell(code: str, service: Service, alices_key: str, request: pytest.FixtureRequest) -> None:
    code = for_service(service, code).replace("night.png", "/dev/null")
    needs_id = "$ID" in code and "ID=" not in code
    environment = {"ID": request.getfixturevalue("generation_id")} if needs_id else {}
    if "/events" in code:
        # The worker waits until the stream is open, or the run may have ended before.
        with service.paused_worker():
            process = start(service, alices_key, "bash", "-c", STRICT + code)
            assert process.stdout is not None
            assert "event: queued\n" in process.stdout
        output, errors = process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode == 0, errors
        assert [output.count(f"event: {kind}\n") for kind in ("started", "image", "succeeded")] == [1, 1, 1]
        return
    output = run(service, alices_key, "bash", "-c", STRICT + code, **environment)
    if "Idempotency-Key" in code:
        first, second = output.replace("}{", "}\n{").splitlines()
        assert first == second
        assert json.loads(first)["images"]


@pytest.mark.parametrize("code", snippets("python"))
def test_python(code: str, service: Service, alices_key: str) -> None:
    output = run(service, alices_key, sys.executable, "-W", "error", "-c", for_service(service, code))
    if "strength" in code:
        assert output == "strength: Input should be a number from 0 to 1\n"
    else:
        assert "/media/outputs/" in output


@pytest.mark.parametrize("code", snippets("mjs"))
def test_node(code: str, service: Service, alices_key: str) -> None:
    output = node.run_module(for_service(service, code), TOKEN=alices_key)
    assert output == "image/png\n" if "mediaType" in code else "/media/outputs/" in output


@needs_chromium
@pytest.mark.parametrize("code", snippets("js"))
def test_javascript(code: str, service: Service, alices_key: str) -> None:
    follow = (
        f"([id, token]) => {{ {for_service(service, code)}\n"
        "window.events = []; window.end = follow(id, token, (event) => events.push(event)); }"
    )
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{service.url}/health")
        # The worker waits until the stream is open, or the run may have ended before.
        with service.paused_worker():
            accepted = make(service, alices_key, {"Prefer": "respond-async"}, num_inference_steps="20")
            page.evaluate(follow, [accepted["id"], alices_key])
            page.wait_for_function("events.includes('queued')", timeout=1000 * WAIT_SECONDS)
        page.evaluate("end")
        events = page.evaluate("events")
        page.evaluate(follow, ["01980000-0000-7000-8000-000000000000", alices_key])
        with pytest.raises(Error, match="Not found"):
            page.evaluate("end")
    assert events.index("started") < events.index("progress") < events.index("image")
    assert events[-1] == "succeeded"


def test_the_response_in_the_readme_is_like_a_real_one(service: Service, alices_key: str) -> None:
    (code,) = [code for language, code in FENCED.findall(PAGES["README.md"]) if language == "json"]
    example = json.loads(code)
    real = make(service, alices_key, {})
    assert example.keys() == real.keys()
    assert example["images"][0].keys() == real["images"][0].keys()


def test_the_error_in_the_docs_is_a_real_one(service: Service, alices_key: str) -> None:
    (code,) = [code for language, code in FENCED.findall(PAGES["api.md"]) if language == "json"]
    assert make(service, alices_key, {}, strength="3") == json.loads(code)
