"""Cancel: by the API, the history and the admin, by deadlines, and by clients that disconnect."""

from contextlib import closing
from datetime import timedelta
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts.models import ApiToken, User
from generation.broker import progress
from generation.jobs import queue
from generation.jobs.queue import LeaseStatus
from generation.maintenance import reaper
from generation.models import Generation, State
from generation.parameters import ErrorCode
from tests.support import pictures
from tests.support.generations import make_generation
from tests.support.jobs import claim, claimed, expire, image_of, submit
from tests.support.service import (
    Service,
    record,
    wait_until,
)
from tests.support.service import (
    submit as submit_to,
)


@pytest.fixture
def token(alice: User, redis: None, tiny_edit: object) -> ApiToken:
    return ApiToken.objects.issue(alice, "laptop")[0]


def final_state(generation: Generation) -> tuple[str, str]:
    generation.refresh_from_db()
    assert generation.finished
    return generation.state, generation.error_code


def test_a_queued_generation_is_canceled_at_once(token: ApiToken) -> None:
    generation = submit(token)
    assert queue.cancel(generation)
    assert final_state(generation) == (State.CANCELED, ErrorCode.CANCELED)
    assert claim() is None
    assert queue.cancel(generation)


def test_a_running_generation_is_canceled_through_redis_and_the_row(token: ApiToken) -> None:
    generation = claimed(token)
    assert progress.report([generation.pk], progress.Progress(1, 20, "denoising")).cancel == set()
    assert queue.cancel(generation)
    assert progress.report([generation.pk], progress.Progress(2, 20, "denoising")).cancel == {generation.pk}
    assert queue.renew(generation) is LeaseStatus.CANCEL_REQUESTED
    assert queue.finish_canceled(generation, ErrorCode.CANCELED, 0.1)
    assert final_state(generation) == (State.CANCELED, ErrorCode.CANCELED)
    assert not queue.finish(generation, [image_of(generation)], [], {}, 100)


def test_a_finished_generation_cannot_be_canceled(token: ApiToken) -> None:
    generation = claimed(token)
    assert queue.finish(generation, [image_of(generation)], [], {}, 100)
    assert not queue.cancel(generation)
    assert Generation.objects.get().state == State.SUCCEEDED


def test_a_cancel_request_outlives_its_worker(token: ApiToken) -> None:
    lost, released = claimed(token), claimed(token)
    queue.cancel(lost)
    queue.cancel(released)
    expire(lost)
    reaper.reap()
    queue.release(released)
    assert final_state(lost) == final_state(released) == (State.CANCELED, ErrorCode.CANCELED)


def test_a_cancel_request_during_a_requeue_is_not_lost(token: ApiToken) -> None:
    """The reaper read the row before the request, and requeued it afterwards."""
    generation = claimed(token)
    queue.cancel(generation)
    Generation.objects.filter(pk=generation.pk).update(state=State.QUEUED, lease_expires=None)
    assert claim() is None
    reaper.reap()
    assert final_state(generation) == (State.CANCELED, ErrorCode.CANCELED)


def test_a_cancel_request_during_a_release_is_not_lost(token: ApiToken) -> None:
    generation = claimed(token)
    released = iter([True])

    def release_once(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        """Release it between the update of queued rows and the update of running ones."""
        done = execute(sql, params, many, context)
        if sql.startswith("UPDATE") and next(released, False):
            Generation.objects.filter(pk=generation.pk).update(state=State.QUEUED, lease_expires=None)
        return done

    with connection.execute_wrapper(release_once):
        assert queue.cancel(generation)
    assert final_state(generation) == (State.CANCELED, ErrorCode.CANCELED)


def test_a_released_generation_ends_at_its_deadline(token: ApiToken) -> None:
    generation = claimed(token)
    queue.release(generation)
    Generation.objects.filter(pk=generation.pk).update(deadline=timezone.now())
    reaper.reap()
    assert final_state(generation) == (State.CANCELED, ErrorCode.DEADLINE)


def test_a_generation_that_does_not_start_before_its_deadline_is_canceled(token: ApiToken) -> None:
    late, early = submit(token), submit(token)
    Generation.objects.filter(pk=late.pk).update(deadline=timezone.now() - timedelta(seconds=1))
    Generation.objects.filter(pk=early.pk).update(deadline=timezone.now() + timedelta(minutes=1))
    assert claim() == early
    reaper.reap()
    assert final_state(late) == (State.CANCELED, ErrorCode.DEADLINE_BEFORE_START)
    late.refresh_from_db()
    assert late.cost == 0


def test_people_cancel_from_their_history(client: Client, token: ApiToken, alice: User, bob: User) -> None:
    generation = submit(token)
    client.force_login(bob)
    assert client.post(f"/history/{generation.pk}/cancel").status_code == 404
    client.force_login(alice)
    assert f'action="/history/{generation.pk}/cancel"' in client.get("/history/").content.decode()
    page = client.get(f"/history/{generation.pk}/").content.decode()
    assert "Its pool has no active worker" in page
    assert client.get(f"/history/{generation.pk}/cancel").status_code == 405
    answer = client.post(f"/history/{generation.pk}/cancel", {"next": "/history/?state=queued"})
    assert answer["Location"] == "/history/?state=queued"
    assert final_state(generation)[0] == State.CANCELED
    assert "It was canceled." in client.get(f"/history/{generation.pk}/").content.decode()


def test_canceling_a_finished_generation_says_so(client: Client, alice: User) -> None:
    generation = make_generation(alice)
    client.force_login(alice)
    page = client.post(f"/history/{generation.pk}/cancel", follow=True).content.decode()
    assert "It had ended already, so nothing was canceled." in page


def test_staff_cancel_from_the_admin(client: Client, token: ApiToken, charlie: User, alice: User) -> None:
    waiting, done = submit(token), make_generation(alice)
    client.force_login(charlie)
    page = client.post(
        "/admin/generation/generation/",
        {"action": "cancel", "confirmed": "yes", "_selected_action": [str(waiting.pk), str(done.pk)]},
        follow=True,
    )
    for words in ("1 canceled.", "1 not canceled: it had ended already."):
        assert words in page.content.decode()
    assert final_state(waiting)[0] == State.CANCELED


def post_asynchronously(service: Service, **headers: str) -> httpx.Response:
    """Send a request with a long run, and do not wait for its pictures."""
    fields = {
        "prompt": "a whale",
        "model_id": "dreamsite/tiny-redraw",
        "strength": "1",
        "num_inference_steps": "200",
        "num_images_per_prompt": "4",
        "seed": "7",
    }
    headers = {"Prefer": "respond-async", **headers}
    with service.client() as client:
        return client.post("/image-to-image", data=fields, files={"image": pictures.photo(256, 256)}, headers=headers)


def end_at_deadline(service: Service, cancel_after: str) -> dict[str, str]:
    """Send a request with a long run, and return its error once its deadline has passed."""
    generation_id = post_asynchronously(service, **{"Cancel-After": cancel_after}).json()["id"]
    wait_until(lambda: record(service, generation_id)["state"] == "canceled", "the deadline")
    error = record(service, generation_id)["error"]
    assert isinstance(error, dict)
    return error


def cancel(service: Service, generation_id: str) -> httpx.Response:
    with service.client() as client:
        return client.post(f"/generations/{generation_id}/cancel")


def running(service: Service, **headers: str) -> str:
    generation_id = str(post_asynchronously(service, **headers).json()["id"])
    wait_until(lambda: "denoising" in str(record(service, generation_id)["progress"]), "the first step")
    return generation_id


def test_the_api_explains_and_cancels_and_the_worker_stays_warm(service: Service) -> None:
    first = running(service)
    progress = record(service, first)["progress"]
    assert isinstance(progress, dict)
    assert (progress["phase"], progress["of"]) == ("denoising", 200)
    assert 0 <= progress["percent"] < 100
    second = post_asynchronously(service).json()
    assert second["waiting"]["position"] == 1
    wait_until(
        lambda: "It is next, as soon as a worker is free." in str(record(service, second["id"])["waiting"]),
        "the heartbeat that lists the model",
    )
    worker = service.worker()

    answer = cancel(service, second["id"])
    assert (answer.status_code, answer.json()["state"]) == (200, "canceled")
    answer = cancel(service, first)
    assert answer.status_code == 202
    wait_until(lambda: record(service, first)["state"] == "canceled", "the stop")
    stopped = record(service, first)
    assert stopped["error"] == {"code": "canceled", "msg": "It was canceled."}
    assert stopped["images"] == []
    again = cancel(service, first)
    assert (again.status_code, again.json()["state"]) == (200, "canceled")

    done = submit_to(service)
    wait_until(lambda: record(service, done)["state"] == "succeeded", "the next request")
    assert service.worker() == worker
    late = cancel(service, done)
    assert (late.status_code, late.json()["detail"]["code"]) == (409, "already_finished")
    assert "succeeded already" in late.json()["detail"]["msg"]


def test_nobody_cancels_generations_of_others(service: Service, bobs_key: str) -> None:
    generation_id = submit_to(service)
    with service.client(bobs_key) as client:
        assert client.post(f"/generations/{generation_id}/cancel").status_code == 404
    assert httpx.post(f"{service.url}/generations/{generation_id}/cancel").status_code == 401


def test_deadlines_end_queued_and_running_generations(service: Service) -> None:
    with service.paused_worker():
        error = end_at_deadline(service, "0.5s")
    assert error == {
        "code": "deadline_before_start",
        "msg": "No worker was free before its deadline; try again later or allow more time.",
    }
    # The longer times are for a machine so busy that the worker does not start sooner.
    codes = (end_at_deadline(service, f"{2**power}s")["code"] for power in range(1, 8))
    assert next(code for code in codes if code != "deadline_before_start") == "deadline"
    response = post_asynchronously(service, **{"Cancel-After": "soon"})
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["header", "Cancel-After"]


@pytest.mark.parametrize(("headers", "state"), [({"Prefer": "cancel-on-disconnect"}, "canceled"), ({}, "succeeded")])
def test_a_client_that_hangs_up(service: Service, headers: dict[str, str], state: str) -> None:
    address = urlsplit(service.url)
    newest = "SELECT id FROM generation_generation ORDER BY id DESC LIMIT 1"
    before = service.query(newest)
    with service.client() as client:
        fields, files = {"prompt": "make it night", "num_inference_steps": "1"}, {"image": pictures.photo(128, 128)}
        request = client.build_request("POST", "/image-to-image", data=fields, files=files, headers=headers)
    with service.paused_worker():
        with closing(HTTPConnection(str(address.hostname), address.port)) as connection:
            connection.request("POST", "/image-to-image", request.read(), dict(request.headers))
            wait_until(lambda: service.query(newest) != before, "the submission")
        ((generation_id,),) = service.query(newest)
        if state == "canceled":
            wait_until(lambda: service.state(generation_id) == state, state)
    wait_until(lambda: service.state(generation_id) == state, state)
