"""Commands from the operations page to a real worker: drain during a run, resume, evict, warm, download."""

import html
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.support.service import (
    Service,
    record,
    send_form,
    signed_in,
    submit,
    wait_until,
)

PAGE = "/admin/operations/"
MODEL = "dreamsite/tiny-edit"


@pytest.fixture(scope="module")
def admin(service: Service) -> Iterator[httpx.Client]:
    with signed_in(service) as client:
        yield client


def live(client: httpx.Client) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", client.get(f"{PAGE}live").raise_for_status().text))


def worker_of(client: httpx.Client) -> str:
    """Return the name of the service's worker, once those that other tests killed are stale."""
    names: list[str] = []

    def is_only_one() -> bool:
        names[:] = re.findall(r'class="worker (?!stale)\w+" aria-label="Worker ([^"]+)"', client.get(PAGE).text)
        return len(names) == 1

    wait_until(is_only_one, "a single live worker")
    return names[0]


def send_command(client: httpx.Client, action: str, target: str = "", worker: str = "") -> None:
    """Send a command to this worker, or to the only one."""
    form = {"action": action, "worker": worker or worker_of(client), "target": target}
    page = send_form(client, f"{PAGE}command", form)
    assert f"Sent “{f'{action} {target}'.strip()}” to " in html.unescape(page)


def test_a_worker_is_drained_while_a_request_runs_and_resumes(service: Service, admin: httpx.Client) -> None:
    # The worker is not paused for this: its lease would expire, or its heartbeat, if the page took a few seconds.
    worker = worker_of(admin)
    first = submit(service, steps=200)
    wait_until(lambda: service.state(first) == "running", "the start of the run")

    def shows_run_and_drain() -> bool:
        page = live(admin)
        return "step " in page and " draining " in page

    try:
        send_command(admin, "drain", worker=worker)
        wait_until(shows_run_and_drain, "the run of a draining worker on the page")
        second = submit(service, steps=2)
        wait_until(lambda: " drained " in live(admin), "the drain")
        assert record(service, first)["state"] == "succeeded"
        other = record(service, second)
        assert other["state"] == "queued"
        assert isinstance(other["waiting"], dict)
        assert other["waiting"]["reason"] == "Its pool has no active worker."
        wait_until(lambda: "has no active worker; 1 request waits in it" in live(admin), "the alert")
    finally:
        # Other tests share the worker.
        send_command(admin, "resume", worker=worker)
    wait_until(lambda: record(service, second)["state"] == "succeeded", "the run of the other request")
    assert "Resumed: it takes work." in live(admin)


def test_a_worker_evicts_warms_and_downloads(admin: httpx.Client) -> None:
    send_command(admin, "evict", MODEL)
    wait_until(lambda: "Evicted." in live(admin), "the eviction")
    wait_until(lambda: f"Evict {MODEL} from the memory of" not in admin.get(PAGE).text, "the card without the model")
    send_command(admin, "warm", MODEL)
    wait_until(lambda: "Loaded." in live(admin), "the warming")
    send_command(admin, "download", MODEL)
    wait_until(lambda: "Downloaded." in live(admin), "the download")
    send_command(admin, "download", "stabilityai/sd-turbo")
    wait_until(lambda: "MODELS_OFFLINE is on, so nothing is downloaded." in live(admin), "the failure of a download")
    send_command(admin, "warm", "stabilityai/sd-turbo")
    words = r"The command “warm stabilityai/sd-turbo” failed on \S+: Model 'stabilityai/sd-turbo' is not downloaded yet"
    wait_until(lambda: re.search(words, html.unescape(live(admin))), "the failure of a warming")


def test_a_paused_pool_stays_paused_until_it_is_resumed(service: Service, admin: httpx.Client) -> None:
    send_form(admin, f"{PAGE}pools/default/pause", {})
    try:
        generation_id = submit(service)
        forecast = record(service, generation_id)["waiting"]
        assert isinstance(forecast, dict)
        assert forecast["reason"] == "Its pool is paused; nothing new starts there until staff resume it."
    finally:
        send_form(admin, f"{PAGE}pools/default/resume", {})
    wait_until(lambda: record(service, generation_id)["state"] == "succeeded", "the end of the pause")
