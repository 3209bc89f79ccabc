"""`Idempotency-Key`, over real HTTP against a real service, and the rules of its keys."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.models import ApiToken
from generation.images.inputs import Inputs
from generation.images.uploads import Upload
from generation.jobs import idempotency, submission
from generation.models import (
    Generation,
    IdempotencyKey,
    State,
)
from generation.parameters import ErrorCode, ImageToImageParameters, InvalidField
from tests.support.generations import unnamed_files
from tests.support.pictures import photo, scene
from tests.support.service import Service

PICTURE = photo(64, 64)


@pytest.fixture
def api(service: Service, alices_key: str) -> Iterator[httpx.Client]:
    with service.client(alices_key) as client:
        yield client


def post(api: httpx.Client, key: str, prefer: str = "wait=40", **fields: str) -> httpx.Response:
    data = {"prompt": "make it night", "num_inference_steps": "2", **fields}
    return api.post(
        "/image-to-image", data=data, files={"image": PICTURE}, headers={"Idempotency-Key": key, "Prefer": prefer}
    )


def test_twenty_posts_at_once_are_one_generation_and_one_answer(api: httpx.Client) -> None:
    key = str(uuid4())
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: post(api, key), range(20)))
    assert {one.status_code for one in answers} == {200}
    assert len({one.content for one in answers}) == 1
    assert post(api, f'"{key}"').content == answers[0].content, "the draft has quotes around it"
    newest = api.get("/generations", params={"limit": 2}).json()["results"]
    assert [one["id"] for one in newest].count(answers[0].json()["id"]) == 1
    assert newest[1]["id"] != answers[0].json()["id"] if len(newest) > 1 else True


def test_a_repeated_request_waits_for_the_running_generation(api: httpx.Client) -> None:
    key = str(uuid4())
    first = post(api, key, "respond-async", num_inference_steps="15", seed="5")
    again = post(api, key, num_inference_steps="15", seed="5")
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"] == again.headers["X-Generation-Id"]


def test_another_request_with_the_same_key_is_refused(api: httpx.Client) -> None:
    key = str(uuid4())
    post(api, key, "respond-async")
    other = post(api, key, prompt="make it day")
    assert other.status_code == 422
    assert other.json()["code"] == "key_reused"
    assert other.json()["detail"][0]["loc"] == ["header", "Idempotency-Key"]


def test_a_key_belongs_to_one_token(api: httpx.Client, service: Service, bobs_key: str) -> None:
    key = str(uuid4())
    mine = post(api, key)
    with service.client(bobs_key) as bobs:
        assert post(bobs, key).json()["id"] != mine.json()["id"]


def test_a_repeated_request_of_a_deleted_generation_is_410(api: httpx.Client) -> None:
    key = str(uuid4())
    response = post(api, key)
    assert api.delete(f"/generations/{response.json()['id']}").status_code == 204
    assert post(api, key).status_code == 410


@pytest.mark.parametrize("header", ["", "  ", "abc", '"abc"', "x" * 255])
def test_keys_are_read_with_and_without_quotes(header: str) -> None:
    assert idempotency.read(header) == header.strip().strip('"')


@pytest.mark.parametrize("header", ['"', '""', "x" * 256, "k\u00e9y", "a\tb"])
def test_other_keys_are_refused(header: str) -> None:
    with pytest.raises(InvalidField, match="1 to 255"):
        idempotency.read(header)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("redis", "tiny_edit")
class TestRows:
    def submit(self, token: ApiToken, key: str = "key", prompt: str = "make it night") -> Generation:
        picture = Upload(scene(64, 64), (64, 64), "0" * 64, "PNG", 10_000)
        parameters = ImageToImageParameters(prompt=prompt)
        digest = idempotency.fingerprint("/image-to-image", parameters, picture.sha256)
        idempotent = idempotency.IdempotentRequest(token.user, token, key, digest)
        request = submission.Request(token.user, token, parameters, Inputs(picture))
        return submission.submit_once(lambda: [submission.build(request)], Inputs(picture), idempotent)

    def test_the_loser_of_a_race_stores_nothing(self, alices: ApiToken) -> None:
        first = self.submit(alices)
        assert self.submit(alices).pk == first.pk
        assert Generation.objects.count() == 1
        assert unnamed_files() == []

    def test_a_key_expires_after_a_day(self, alices: ApiToken) -> None:
        first, other = self.submit(alices), self.submit(alices, "other")
        IdempotencyKey.objects.update(created=timezone.now() - timedelta(hours=24, seconds=1))
        assert not idempotency.is_known(alices, "key")
        assert self.submit(alices).pk not in (first.pk, other.pk)
        assert IdempotencyKey.objects.count() == 2
        idempotency.purge()
        assert list(IdempotencyKey.objects.values_list("key", flat=True)) == ["key"]

    def test_a_request_that_a_worker_refused_may_be_sent_again(self, alices: ApiToken) -> None:
        """Its answer, 503, says when."""
        refused = self.submit(alices)
        Generation.objects.update(state=State.FAILED, error_code=ErrorCode.MODEL_NOT_DOWNLOADED)
        again = self.submit(alices)
        assert again.pk != refused.pk
        assert self.submit(alices).pk == again.pk

    def test_an_answer_is_repeated_while_its_urls_are_valid(self, alices: ApiToken) -> None:
        generation = self.submit(alices)
        assert idempotency.first_answer(generation, {"url": "first"}) == {"url": "first"}
        assert idempotency.first_answer(generation, {"url": "second"}) == {"url": "first"}
        generation.finished = timezone.now() - timedelta(days=8)
        assert idempotency.first_answer(generation, {"url": "third"}) == {"url": "third"}

    def test_an_answer_without_a_key_writes_nothing(
        self, alices: ApiToken, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        generation = self.submit(alices)
        IdempotencyKey.objects.all().delete()
        with django_assert_num_queries(1) as queries:
            assert idempotency.first_answer(generation, {"url": "first"}) == {"url": "first"}
        assert queries.captured_queries[0]["sql"].startswith("SELECT")
