"""Paths with more slashes than meant, and unknown ones, over real HTTP."""

import httpx
import pytest

from tests.support import pictures
from tests.support.service import Service

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def test_several_slashes_lead_where_one_leads(service: Service, alices_key: str) -> None:
    fields = {"prompt": "make it night", "num_inference_steps": "1"}
    files = {"image": pictures.photo(128, 128)}
    with service.client(alices_key) as client:
        held = client.post(f"{service.url}//image-to-image", data=fields, files=files)
        assert (held.status_code, len(held.json()["images"])) == (200, 1)
        generation = held.json()["id"]
        edited = client.post(f"{service.url}//v1///images//edits//", data=fields, files=files)
        assert (edited.status_code, len(edited.json()["data"])) == (200, 1)
        record = client.get(f"{service.url}//generations//{generation}")
        assert record.json()["state"] == "succeeded"
        events = client.get(f"{service.url}/generations/{generation}//events")
        assert events.headers["content-type"] == "text/event-stream"
        assert client.get(f"{service.url}//health").json() == {"status": "OK"}
        for path in ("history/", "accounts/sign-in", "openapi.json", "static/sample.jpg"):
            one, two = (client.get(f"{service.url}{slashes}{path}") for slashes in ("/", "//"))
            assert (two.status_code, two.headers.get("location")) == (one.status_code, one.headers.get("location"))
            assert one.status_code in (200, 302)


def test_signed_and_administrative_paths_are_exact(service: Service, alices_key: str) -> None:
    with service.client(alices_key) as client:
        form = {"prompt": "make it night", "num_inference_steps": "1"}
        answer = client.post("/image-to-image", data=form, files={"image": pictures.photo(128, 128)})
    signed = answer.json()["images"][0]["url"]
    assert httpx.get(signed).status_code == 200
    assert httpx.get(f"{service.url}/admin/").status_code == 302
    for path in ("//media/", "/media//", "/media/outputs//"):
        assert httpx.get(signed.replace("/media/", path)).status_code == 404
    for path in ("//admin/", "//admin//login/", "//admin", "///admin/review/", "//ready"):
        assert httpx.get(service.url + path).status_code == 404, path


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/text-to-image", {"Authorization": "Bearer x"}),
        ("POST", "/upscale", {"Accept": "application/json"}),
        ("POST", "/upscale", {"Accept": "*/*"}),
        ("GET", "/upscale", {"Accept": "image/*"}),
        ("GET", "/nowhere", {"Accept": "application/json;q=1, text/html;q=0.5"}),
        ("GET", "/nowhere", {**BROWSER, "Authorization": "bearer x"}),
        ("POST", "/image-to-image/x", {}),
        ("GET", "/models/", BROWSER),
    ],
)
def test_an_unknown_path_is_json_for_clients_of_the_api(
    service: Service, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = httpx.request(method, service.url + path, headers=headers)
    detail = {"msg": "There is no such address; what there is stands at /docs.", "code": "not_found"}
    assert (answer.status_code, answer.json()) == (404, {"detail": detail})
    assert answer.headers["cache-control"] == "no-store"


def test_an_unknown_path_is_a_page_for_people(service: Service) -> None:
    # The last is how htmx asks.
    for headers in (BROWSER, {"Accept": "text/html, */*"}):
        answer = httpx.get(f"{service.url}/text-to-image", headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
