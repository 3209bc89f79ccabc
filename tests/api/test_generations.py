"""`/generations`: the list with its filters and pages, and a generation's record, pictures and deletion."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from jsonschema import Draft202012Validator
from pytest_django import Settings

from accounts.models import User
from generation.api.openapi import document
from generation.broker import progress
from generation.models import (
    DiffusionModel,
    Generation,
    RunTiming,
    State,
)
from tests.support.generations import (
    ENVIRONMENT,
    existing,
    files_of,
    make_generation,
)
from tests.support.service import Service, generate_two
from tests.support.workers import register_worker

pytestmark = pytest.mark.usefixtures("redis")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def api(alices_token: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {alices_token}"})


def path_of(generation: Generation) -> str:
    return f"/generations/{generation.pk}"


def page(api: Client, path: str = "/generations", **query: Any) -> dict[str, Any]:
    response = api.get(path, query)
    assert response.status_code == 200, response.content
    body: dict[str, Any] = response.json()
    return body


def listed(api: Client, **query: Any) -> list[UUID]:
    return [UUID(record["id"]) for record in page(api, **query)["results"]]


def code_of(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["detail"]["code"]


def wrong(api: Client, query: str) -> dict[str, str]:
    """Return the message of each parameter that is refused."""
    response = api.get(f"/generations?{query}")
    assert response.status_code == 422
    assert response.json()["code"] == "invalid_fields"
    assert all(item["loc"][0] == "query" and len(item["loc"]) == 2 for item in response.json()["detail"])
    return {item["loc"][1]: item["msg"] for item in response.json()["detail"]}


def test_it_works(service: Service, alices_key: str, bobs_key: str) -> None:
    with service.client(alices_key) as alice, service.client(bobs_key) as bob:
        older, newer = generate_two(alice), generate_two(alice)
        first = alice.get("/generations", params={"limit": 1})
        assert [record["id"] for record in first.json()["results"]] == [newer]
        assert first.json()["results"][0] == alice.get(f"/generations/{newer}").json()
        second = alice.get(first.links["next"]["url"])
        assert [record["id"] for record in second.json()["results"]] == [older]
        assert first.headers["cache-control"] == "no-store"

        redirect = alice.get(f"/generations/{older}/images/1")
        assert (redirect.status_code, redirect.headers["cache-control"]) == (302, "no-store")
        assert alice.head(f"/generations/{older}/images/1").headers["location"] == redirect.headers["location"]
        assert httpx.get(redirect.headers["location"]).headers["content-type"] == "image/png"

        assert len(service.files_of(older)) == 6
        assert bob.delete(f"/generations/{older}").status_code == 404
        deleted = alice.delete(f"/generations/{older}")
        assert (deleted.status_code, deleted.content) == (204, b"")
        assert service.files_of(older) == []
        assert httpx.get(redirect.headers["location"]).status_code == 404
        for method, path in (("GET", ""), ("HEAD", ""), ("DELETE", ""), ("GET", "/images/0"), ("POST", "/cancel")):
            response = alice.request(method, f"/generations/{older}{path}")
            assert response.status_code == 410
            assert method == "HEAD" or response.json()["detail"] == {
                "msg": "It was deleted, with its pictures.",
                "code": "deleted",
            }
        assert older not in alice.get("/generations").text
        assert bob.get(f"/generations/{older}").status_code == 404


def test_every_call_needs_a_token_and_a_generation_of_its_user(bobs_token: str, alice: User, client: Client) -> None:
    generation = make_generation(alice)
    bob = Client(headers={"Authorization": f"Bearer {bobs_token}"})
    assert listed(bob) == []
    for method, path in (("get", ""), ("delete", ""), ("get", "/images/0"), ("post", "/cancel")):
        address = path_of(generation) + path
        assert code_of(getattr(client, method)(address)) == (401, "invalid_token")
        assert code_of(getattr(bob, method)(address)) == (404, "not_found")
    assert code_of(client.get("/generations")) == (401, "invalid_token")
    assert Generation.objects.filter(deleted=None).count() == 1


def test_other_methods_are_405(api: Client, alice: User) -> None:
    generation = make_generation(alice)
    for path, allowed in (
        ("/generations", "GET, HEAD"),
        (path_of(generation), "GET, HEAD, DELETE"),
        (f"{path_of(generation)}/images/0", "GET, HEAD"),
    ):
        response = api.put(path)
        assert code_of(response) == (405, "method_not_allowed")
        assert set(response["Allow"].split(", ")) >= set(allowed.split(", "))


def test_all_pages_can_be_followed_in_both_directions(api: Client, alice: User, bob: User) -> None:
    ids: list[UUID] = []
    for _ in range(7):
        ids.insert(0, make_generation(alice).pk)
        make_generation(bob)
    pages, url = [], "/generations?limit=3&prompt=night"
    while url:
        response = api.get(url)
        body = response.json()
        pages.append([UUID(record["id"]) for record in body["results"]])
        links = dict(re.findall(r'<([^>]+)>; rel="(\w+)"', response.get("Link", "")))
        assert {name: link for link, name in links.items()} == {
            name: body[key] for name, key in (("next", "next"), ("prev", "previous")) if body[key]
        }
        last, url = body, body["next"]
    assert pages == [ids[:3], ids[3:6], ids[6:]]
    back = page(api, last["previous"])
    assert [UUID(record["id"]) for record in back["results"]] == ids[3:6]
    assert page(api, back["previous"])["previous"] is None


def test_a_page_whose_rows_were_deleted_has_links(api: Client, alice: User) -> None:
    generations = [make_generation(alice) for _ in range(4)]
    second = page(api, limit=2)["next"]
    for generation in generations[:2]:
        assert api.delete(path_of(generation)).status_code == 204
    empty = page(api, second)
    assert (empty["results"], empty["next"]) == ([], None)
    back = page(api, empty["previous"])
    on = page(api, back["next"])
    assert [record["id"] for record in (*back["results"], *on["results"])] == [
        str(generations[3].pk),
        str(generations[2].pk),
    ]


def test_filters_return_the_matching_generations(api: Client, alice: User, tiny_edit: DiffusionModel) -> None:
    other = DiffusionModel.objects.create(id="someone/else", family="turbo")
    plain = make_generation(alice, prompt="Make it NIGHT")
    flagged = make_generation(alice, prompt="snow 100%", num_images_per_prompt=2, flagged=[1])
    waiting = make_generation(alice, State.QUEUED)
    failed = make_generation(alice, State.FAILED, prompt="snow at night")
    Generation.objects.filter(pk=failed.pk).update(model=other)
    everything = [failed.pk, waiting.pk, flagged.pk, plain.pk]
    assert listed(api) == everything
    assert listed(api, state="queued") == [waiting.pk]
    assert listed(api, state=["queued", "failed"]) == [failed.pk, waiting.pk]
    assert listed(api, model_id="someone/else") == [failed.pk]
    assert listed(api, model_id="someone/unheard-of") == []
    assert listed(api, nsfw="true") == [flagged.pk]
    assert listed(api, nsfw="false") == [failed.pk, waiting.pk, plain.pk]
    assert listed(api, prompt="night") == [failed.pk, waiting.pk, plain.pk]
    assert listed(api, prompt="%") == [flagged.pk]
    assert listed(api, prompt="snow", state="succeeded", nsfw="True") == [flagged.pk]
    assert listed(api, created_after="0001-01-01T00:00:00+14:00", created_before="9999-12-31") == everything


def test_time_filters_use_created(api: Client, alice: User) -> None:
    before, during, after = (make_generation(alice, created=NOON + timedelta(hours=hours)) for hours in (-2, 0, 2))
    # Like a submission whose picture took long to decode: the id is older than the row.
    late = make_generation(alice, created=NOON + timedelta(hours=1) - timedelta(seconds=5))
    Generation.objects.filter(pk=late.pk).update(created=NOON + timedelta(hours=1, seconds=1))
    assert listed(api, created_after="2026-03-01T11:00:00Z") == [after.pk, late.pk, during.pk]
    assert listed(api, created_after="2026-03-01T13:00:00") == [after.pk, late.pk]
    assert listed(api, created_before="2026-03-01T14:00:00+01:00") == [during.pk, before.pk]
    assert listed(api, created_after="2026-03-01", created_before="2026-03-01T12:30") == [during.pk, before.pk]
    # With the `created` of a record as bound, the list continues after that record.
    assert listed(api, created_after=page(api, limit=1)["results"][0]["created"]) == []


@pytest.mark.parametrize(
    ("query", "name", "message"),
    [
        ("state=done", "state", "'queued', 'running', 'succeeded', 'failed' or 'canceled'"),
        ("state=queued,failed", "state", "'queued'"),
        ("state=", "state", "'queued'"),
        ("created_after=yesterday", "created_after", "such as 2026-11-22T12:00:00Z"),
        ("created_after=2026", "created_after", "ISO 8601"),
        ("created_before=1767225600", "created_before", "ISO 8601"),
        ("created_before=2026-01-01T00:00:00+02:00", "created_before", "%2B"),
        ("nsfw=maybe", "nsfw", "true or false"),
        ("prompt=%00", "prompt", "NUL"),
        ("prompt=", "prompt", "at least 1"),
        ("model_id=%00", "model_id", "NUL"),
        ("limit=0", "limit", "from 1 to 100"),
        ("limit=101", "limit", "from 1 to 100"),
        ("limit=many", "limit", "whole number"),
        (f"prompt={'x' * 4001}", "prompt", "at most 4000 characters"),
        ("stat=queued", "stat", "there are state, model_id, created_after"),
        ("cursor=", "cursor", "at least 1"),
        ("cursor=%00", "cursor", "There is no such page"),
        ("cursor=abcd", "cursor", "There is no such page"),
        ("cursor=cD1ub3RoaW5n", "cursor", "There is no such page"),
        ("cursor=%C3%A9", "cursor", "There is no such page"),
    ],
)
def test_errors_name_the_parameter_and_what_is_allowed(api: Client, query: str, name: str, message: str) -> None:
    messages = wrong(api, query)
    assert set(messages) == {name}
    assert message in messages[name]


def test_all_wrong_parameters_are_listed(api: Client) -> None:
    assert set(wrong(api, "state=x&limit=x&nsfw=x&created_after=x&unheard=of")) == {
        "state",
        "limit",
        "nsfw",
        "created_after",
        "unheard",
    }


@pytest.fixture
def pace(tiny_edit: DiffusionModel) -> None:
    """A worker is ready, and its speed has been measured."""
    RunTiming.objects.create(model=tiny_edit, pixels=128 * 128, images=1, step_seconds=0.1, other_seconds=1.0)
    register_worker("here-1", models=[tiny_edit.id])


def test_the_number_of_queries_does_not_grow_with_the_page(api: Client, alice: User, pace: None) -> None:
    page(api)
    counted = []
    for count in (1, 5):
        for _ in range(count):
            make_generation(alice, num_images_per_prompt=2)
            make_generation(alice, State.QUEUED)
            make_generation(alice, State.FAILED)
            running = make_generation(alice, State.RUNNING)
            progress.report([running.pk], progress.Progress(5, 20, "denoising"))
        with CaptureQueriesContext(connection) as queries:
            records = page(api, limit=100)["results"]
        counted.append(len(queries))
        assert all(record["waiting"]["estimated_finish"] for record in records if record["state"] == "queued")
        assert all(record["progress"]["estimated_finish"] for record in records if record["state"] == "running")
    assert len(records) == 24
    # The token and its rate limit; the rows, their images, further inputs and receipts; for queued ones their users, the
    # state of the pool, the queue and the inputs of its simulation, run times and running ones; for running ones run times
    # again. No model has to be loaded.
    assert counted == [13, 13]


def test_a_page_of_finished_generations_needs_no_forecast(
    api: Client, alice: User, django_assert_num_queries: Any
) -> None:
    for _ in range(5):
        make_generation(alice, num_images_per_prompt=2)
    page(api)
    with django_assert_num_queries(6):
        assert len(page(api, limit=100)["results"]) == 5


def test_a_record_in_a_list_equals_the_single_record(api: Client, alice: User, settings: Settings) -> None:
    generation = make_generation(alice, num_images_per_prompt=2)
    assert page(api)["results"] == [api.get(path_of(generation)).json()]
    settings.IMAGE_URLS = "data"
    assert api.get(path_of(generation)).json()["images"][0]["url"].startswith("data:")
    assert page(api)["results"][0]["images"][0]["url"].startswith("http://testserver/media/")


def test_the_record_has_the_receipt_of_what_was_made(api: Client, alice: User) -> None:
    receipt = api.get(path_of(make_generation(alice, num_images_per_prompt=2))).json()["receipt"]
    assert receipt == {**ENVIRONMENT, "batch_sizes": [2, 2]}
    for state in (State.QUEUED, State.FAILED):
        assert api.get(path_of(make_generation(alice, state))).json()["receipt"] is None


def test_an_unchanged_response_is_304(api: Client, alice: User, tiny_edit: DiffusionModel) -> None:
    generation = make_generation(alice)
    for path in (path_of(generation), "/generations"):
        etag = api.get(path)["ETag"]
        assert re.fullmatch(r'"[0-9a-f]{32}"', etag)
        for header in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            response = api.get(path, headers={"If-None-Match": header})
            assert (response.status_code, response.content, response["ETag"]) == (304, b"", etag)
            assert response["Cache-Control"] == "no-store"
        assert api.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    Generation.objects.update(cost=7)
    response = api.get("/generations", headers={"If-None-Match": etag})
    assert response.status_code == 200
    assert response["ETag"] != etag


def test_a_missing_picture_is_404(api: Client, alice: User) -> None:
    done, waiting = make_generation(alice), make_generation(alice, State.QUEUED)
    assert api.get(f"{path_of(done)}/images/0").status_code == 302
    for generation, number in ((done, "1"), (done, "9" * 5000), (done, "x"), (done, "-1"), (waiting, "0")):
        assert code_of(api.get(f"{path_of(generation)}/images/{number}")) == (404, "not_found")
    assert code_of(api.get(f"/generations/{uuid4()}/images/0")) == (404, "not_found")


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_an_unfinished_generation_cannot_be_deleted(api: Client, alice: User, state: State) -> None:
    generation = make_generation(alice, state)
    assert code_of(api.delete(path_of(generation))) == (409, "not_finished")
    assert api.get(path_of(generation)).status_code == 200
    assert existing(files_of(generation)) == files_of(generation)[:2]


def test_the_examples_fit_their_schemas() -> None:
    schema_document = json.loads(document())
    for path, operations in schema_document["paths"].items():
        for method, operation in operations.items():
            if not path.startswith("/generations"):
                continue
            for status, response in operation["responses"].items():
                for content in response.get("content", {}).values():
                    schema = {**content["schema"], "components": schema_document["components"]}
                    examples = content.get("examples", {})
                    assert examples or status in ("200", "202"), (method, path, status)
                    for example in examples.values():
                        Draft202012Validator(schema).validate(example["value"])
