"""The event stream of a generation, and `Prefer`, over real HTTP with a real worker."""

import base64
import io
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from PIL import Image
from pytest_django import Settings

from generation import signatures
from tests.support.pictures import photo
from tests.support.service import WAIT_SECONDS, Service, wait_until

FINAL = ("succeeded", "failed", "canceled")


# The default model runs few steps.
REDRAW = "dreamsite/tiny-redraw"


@dataclass(frozen=True)
class Event:
    id: str
    name: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Stream:
    """A stream whose event `queued` has been read; `events` are those after it."""

    generation_id: str
    response: httpx.Response
    events: Iterator[Event]


def read_events(response: httpx.Response) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            key, _, value = line.partition(":")
            fields[key] = value.strip()
        else:
            if "data" in fields:
                yield Event(fields.get("id", ""), fields["event"], json.loads(fields["data"]))
            fields = {}


def post(service: Service, prefer: str, steps: int = 3, **fields: str) -> httpx.Response:
    data = {"prompt": "make it night", "num_inference_steps": str(steps), "safety_check": "false", **fields}
    with service.client() as client:
        return client.post("/image-to-image", data=data, files={"image": photo(64, 64)}, headers={"Prefer": prefer})


@contextmanager
def open_stream(service: Service, query: str = "", steps: int = 3, **fields: str) -> Iterator[Stream]:
    """Submit a request and open its stream. The worker is paused until then, or the run might have ended before."""
    with service.client() as client:
        with service.paused_worker():
            generation_id = post(service, "respond-async", steps, **fields).json()["id"]
            request = client.build_request("GET", f"/generations/{generation_id}/events{query}")
            response = client.send(request, stream=True)
            events = read_events(response)
            assert next(events).name == "queued"
        with closing(response):
            yield Stream(generation_id, response, events)


def follow(service: Service, generation_id: str, last: str = "", query: str = "") -> list[Event]:
    headers = {"Last-Event-ID": last} if last else {}
    url = f"/generations/{generation_id}/events{query}"
    with service.client() as client, client.stream("GET", url, headers=headers) as response:
        assert response.status_code == 200
        return list(read_events(response))


def test_respond_async_is_answered_at_once(service: Service) -> None:
    answer = post(service, "respond-async")
    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert answer.headers["Location"] == f"{service.url}/generations/{answer.json()['id']}"
    assert answer.headers["X-Generation-Id"] == answer.json()["id"]
    assert follow(service, answer.json()["id"])[-1].name == "succeeded"


def test_a_client_can_limit_its_wait(service: Service) -> None:
    with service.paused_worker():
        answer = post(service, "wait=1", steps=1)
    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "wait=1"
    answer = post(service, "respond-async, wait=100000", steps=1)
    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == "wait=180", "not longer than the server holds anybody"
    answer = post(service, "wait=0", steps=1)
    assert answer.status_code == 200
    assert "Preference-Applied" not in answer.headers


def test_all_events_are_sent_in_order(service: Service) -> None:
    with open_stream(service, steps=40, model_id=REDRAW, num_images_per_prompt="2", seed="7") as stream:
        headers = stream.response.headers
        assert headers["Content-Type"] == "text/event-stream"
        assert headers["X-Accel-Buffering"] == "no"
        assert headers["Cache-Control"] == "no-store"
        assert "Content-Encoding" not in headers
        events = list(stream.events)
    with service.client() as client:
        record = client.get(f"/generations/{stream.generation_id}").json()
    kinds = [event.name for event in events]
    assert kinds.count("started") == 1
    assert kinds.index("started") < kinds.index("progress") < kinds.index("preview") < kinds.index("image")
    steps = [event.data["step"] for event in events if event.name == "progress" and event.data["phase"] == "denoising"]
    assert steps == sorted(steps)
    assert len(steps) > 20
    previews = [event.data for event in events if event.name == "preview"]
    assert {preview["index"] for preview in previews} == {0, 1}
    picture = base64.b64decode(previews[0]["image"].removeprefix("data:image/webp;base64,"))
    assert len(picture) < 8000
    assert max(Image.open(io.BytesIO(picture)).size) <= 128
    images = [event.data for event in events if event.name == "image"]
    assert [(image["index"], image["seed"]) for image in images] == [(0, 7), (1, 8)]
    stored = httpx.get(images[0]["url"])
    assert (stored.status_code, Image.open(io.BytesIO(stored.content)).size) == (200, (64, 64))
    assert kinds[-1] == "succeeded"
    assert {**events[-1].data, "images": []} == {**record, "images": []}


def test_a_client_that_reconnects_misses_no_event(service: Service) -> None:
    first_events: list[Event] = []
    with open_stream(service, "?previews=0", steps=20, model_id=REDRAW) as stream:
        for event in stream.events:
            first_events.append(event)
            if event.name == "progress" and event.data["step"] == 5:
                break
    later_events = follow(service, stream.generation_id, last=first_events[-1].id, query="?previews=0")
    events = [event for event in [*first_events, *later_events] if event.name != "queued"]
    steps = [event.data["step"] for event in events if event.name == "progress" and event.data["phase"] == "denoising"]
    assert steps == list(range(steps[0], 17)), "strength leaves 16 of 20"
    assert len({event.id for event in events}) == len(events)
    assert [event.name for event in events].count("started") == 1
    assert events[-1].name == "succeeded"
    again = follow(service, stream.generation_id)
    assert [(event.id, event.name) for event in again] == [(events[-1].id, "succeeded")], (
        "a stream that is opened after the end has only the last event"
    )
    with service.client() as client:
        path = f"/generations/{stream.generation_id}/events"
        answer = client.get(path, headers={"Last-Event-ID": again[-1].id})
    assert (answer.status_code, answer.content) == (204, b""), "EventSource reconnects until it is told not to"


def test_no_previews_are_made_without_a_client_that_wants_them(service: Service) -> None:
    with open_stream(service, "?previews=0", steps=15, model_id=REDRAW) as stream:
        kinds = {event.name for event in stream.events}
    assert "progress" in kinds
    assert "preview" not in kinds


def test_a_queued_generation_has_its_position_and_ends_with_a_cancel(service: Service) -> None:
    with service.paused_worker(), service.client() as client:
        first, second = (post(service, "respond-async").json()["id"] for _ in range(2))
        with client.stream("GET", f"/generations/{second}/events") as response:
            events = read_events(response)
            queued = next(events)
            assert (queued.id, queued.name) == ("", "queued")
            assert queued.data["position"] == 2
            assert queued.data["reason"]
            with service.client() as other:
                for generation_id in (second, first):
                    other.post(f"/generations/{generation_id}/cancel")
            assert [event.name for event in events][-1] == "canceled"


def test_a_stream_outlives_its_signed_address(service: Service, settings: Settings) -> None:
    settings.URL_SECRET_KEYS = [(service.data_dir / "url_secret_key").read_text()]
    with httpx.Client(timeout=WAIT_SECONDS) as client:
        with service.paused_worker():
            accepted = post(service, "respond-async", steps=1).json()
            assert client.head(accepted["events_url"]).status_code == 200
            token_id = parse_qs(urlsplit(accepted["events_url"]).query)["token_id"][0]
            query = signatures.signed_query("events", f"{accepted['id']} {token_id}", 1)
            url = f"{service.url}/generations/{accepted['id']}/events?token_id={token_id}&{query}"
            response = client.send(client.build_request("GET", url), stream=True)
            assert response.status_code == 200
            wait_until(lambda: client.head(url).status_code == 401, "the end of the address")
        events = list(read_events(response))
    assert events[-1].name == "succeeded"
    assert events[-1].data["events_url"] is None


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [
        ("/generations/01980000-0000-7000-8000-000000000000/events", None, 404),
        ("/generations/not-an-id/events", None, 404),
        ("/generations/01980000-0000-7000-8000-000000000000/events", "wrong", 401),
    ],
)
def test_refused_streams_are_answered_in_json(service: Service, path: str, token: str | None, status: int) -> None:
    with service.client(token) as client:
        answer = client.get(path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json")


def test_the_events_of_another_user_are_not_found(service: Service, bobs_key: str) -> None:
    generation_id = post(service, "respond-async", steps=1).json()["id"]
    with service.client(bobs_key) as client:
        assert client.get(f"/generations/{generation_id}/events").status_code == 404


def test_head_returns_only_the_headers(service: Service) -> None:
    generation_id = post(service, "wait=30", steps=1).json()["id"]
    with service.client() as client:
        answer = client.head(f"/generations/{generation_id}/events")
    assert (answer.status_code, answer.headers["Content-Type"], answer.content) == (200, "text/event-stream", b"")


def test_five_hundred_streams_need_no_more_threads(service: Service) -> None:
    web = service.child("manage.py web")

    def threads() -> int:
        return len(list(Path(f"/proc/{web}/task").iterdir()))

    before = threads()
    with service.client() as client, service.paused_worker():
        generation_id = post(service, "respond-async").json()["id"]
        client._transport = httpx.HTTPTransport(limits=httpx.Limits(max_connections=600))
        streams = [
            client.send(client.build_request("GET", f"/generations/{generation_id}/events"), stream=True)
            for _ in range(500)
        ]
        assert all(stream.status_code == 200 for stream in streams)
        assert threads() - before <= 16, "those that Django needs for its responses for a moment"
        client.post(f"/generations/{generation_id}/cancel")
        assert all(list(read_events(stream))[-1].name == "canceled" for stream in streams)
    wait_until(lambda: threads() - before <= 16)
