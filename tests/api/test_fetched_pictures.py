"""Pictures that a real service fetches by their address: `image_url`, and the addresses in JSON of OpenAI's clients."""

import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.support import heif
from tests.support.environment import ROOT
from tests.support.pictures import photo
from tests.support.remotes import Server, answer, serving
from tests.support.service import Service

HEIC = heif.heic_grid(2, 3, heif.rotation(1))
"""192 x 128 pixels once it is turned."""


PROGRAM = """
import socket

from dreamsite.command_line import main
from generation.images import remote

look_up, names = socket.getaddrinfo, {"pictures.test": "127.0.0.1"}
socket.getaddrinfo = lambda host, *more, **options: look_up(names.get(host, host), *more, **options)
remote.is_public = lambda address: True
main()
"""
"""`manage.py` for which the name pictures.test leads to this machine, and pictures may be fetched from it."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("d")
    service = Service(folder, FETCH_IMAGE_URLS="on", WAIT_SECONDS="180", PYTHONPATH=str(ROOT))
    program = folder / "manage.py"
    program.write_text(PROGRAM)
    service.program = (sys.executable, program)
    with service, service.client() as client:
        yield client


def address(server: Server) -> str:
    return f"http://pictures.test:{server.port}/cat"


def size_of_result(api: httpx.Client, response: httpx.Response) -> tuple[int, int]:
    assert response.status_code == 200, response.text
    (image,) = api.get(f"/generations/{response.headers['X-Generation-Id']}").json()["images"]
    return image["width"], image["height"]


def test_a_photo_of_a_phone_is_fetched(api: httpx.Client) -> None:
    with serving(answer(HEIC)) as server:
        fields = {"prompt": "make it night", "num_inference_steps": "1", "image_url": address(server)}
        assert size_of_result(api, api.post("/image-to-image", data=fields)) == (192, 128)


@pytest.mark.parametrize("content", [HEIC, photo(192, 128)], ids=["HEIC", "PNG"])
def test_json_of_openais_clients_may_have_an_address(api: httpx.Client, content: bytes) -> None:
    with serving(answer(content)) as server:
        body = {"prompt": "make it night", "num_inference_steps": 1, "images": [{"image_url": address(server)}]}
        edited = api.post("/v1/images/edits", json=body)
        assert size_of_result(api, edited) == (192, 128)
        assert edited.json()["data"][0]["b64_json"]
        assert len(server.requests) == 1


def test_what_cannot_be_used_is_told_in_openais_shape(api: httpx.Client) -> None:
    with serving(answer(b"\xff\x0a" + bytes(100))) as server:
        body = {"prompt": "make it night", "images": [{"image_url": address(server)}]}
        refused = api.post("/v1/images/edits", json=body)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (400, "image_url", "image_url_refused")
    assert "JPEG XL" in error["message"]
    assert refused.headers["X-Should-Retry"] == "false"
