"""A real worker that is told what to do from the page: drain while a request runs, resume, evict, warm, download."""

import html
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.support.service import Service, post, record, wait_until

PAGE = "/admin/operations/"
MODEL = "dreamsite/tiny-edit"


@pytest.fixture(scope="module")
def service_to_operate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(
        tmp_path_factory.mktemp("d"), WAIT_SECONDS="0", MODELS_DIR=str(tmp_path_factory.mktemp("m"))
    ) as service:
        yield service


@pytest.fixture(scope="module")
def admin(service_to_operate: Service) -> Iterator[httpx.Client]:
    """The administrator's browser, signed in."""
    with httpx.Client(base_url=service_to_operate.url, follow_redirects=True, timeout=30) as client:
        client.get("/admin/login/")
        form = {"username": "admin", "password": service_to_operate.password}
        send(client, "/admin/login/?next=/admin/operations/", form)
        yield client


def send(client: httpx.Client, address: str, form: dict[str, str]) -> str:
    """What a form of the page shows once it is sent."""
    form = {**form, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
    return client.post(address, data=form, headers={"Referer": str(client.base_url)}).raise_for_status().text


def live(client: httpx.Client) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", client.get(f"{PAGE}live").raise_for_status().text))


def worker_of(client: httpx.Client) -> str:
    names = re.findall(r'aria-label="Worker ([^"]+)"', client.get(PAGE).text)
    assert len(names) == 1
    return str(names[0])


def tell(client: httpx.Client, action: str, target: str = "") -> None:
    told = send(client, f"{PAGE}order", {"action": action, "worker": worker_of(client), "target": target})
    assert f"to {action}" in told


def test_a_worker_is_drained_while_a_request_runs_and_resumes(service_to_operate: Service, admin: httpx.Client) -> None:
    first = post(service_to_operate, "80").json()["id"]
    wait_until(lambda: "step " in live(admin), what="the run on the card")
    tell(admin, "drain")
    second = post(service_to_operate, "2").json()["id"]
    assert record(service_to_operate, first)["state"] == "running"
    assert " draining " in live(admin)
    wait_until(lambda: " drained " in live(admin), 120, "the drain")
    assert record(service_to_operate, first)["state"] == "succeeded"
    waiting = record(service_to_operate, second)
    assert waiting["state"] == "queued"
    assert isinstance(waiting["waiting"], dict)
    assert waiting["waiting"]["reason"] == "No worker is at work in its pool."
    wait_until(lambda: "has no worker that takes work; 1 request waits in it" in live(admin), what="the concern")
    tell(admin, "resume")
    wait_until(lambda: record(service_to_operate, second)["state"] == "succeeded", what="the rest of the work")
    assert "Resumed: it takes work." in live(admin)


def test_a_worker_evicts_warms_and_downloads(admin: httpx.Client) -> None:
    tell(admin, "evict", MODEL)
    wait_until(lambda: "Removed from memory." in live(admin), what="the eviction")
    wait_until(lambda: " no model " in live(admin), what="the card without a model")
    tell(admin, "warm", MODEL)
    wait_until(lambda: "Loaded." in live(admin), what="the warming")
    tell(admin, "download", MODEL)
    wait_until(lambda: "Downloaded to " in live(admin), what="the download")
    tell(admin, "download", "stabilityai/sd-turbo")
    wait_until(lambda: "is not available on this server." in live(admin), what="the failure of a download")
    tell(admin, "warm", "stabilityai/sd-turbo")
    words = "was told to warm stabilityai/sd-turbo, which failed: Model 'stabilityai/sd-turbo' is not available"
    wait_until(lambda: words in html.unescape(live(admin)), what="the failure of a warming")


def test_a_paused_pool_stays_paused_until_it_is_resumed(service_to_operate: Service, admin: httpx.Client) -> None:
    send(admin, f"{PAGE}pools/default/pause", {})
    paused = post(service_to_operate, "2").json()
    assert paused["waiting"]["reason"] == "Its pool is paused; nothing new starts there until staff resume it."
    send(admin, f"{PAGE}pools/default/resume", {})
    wait_until(lambda: record(service_to_operate, paused["id"])["state"] == "succeeded", what="the end of the pause")
