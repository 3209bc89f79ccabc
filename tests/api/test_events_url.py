"""The signed address of an event stream, which browsers' `EventSource` opens without a token."""

from urllib.parse import urlencode, urlsplit
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import ApiToken, User
from generation import signatures
from generation.models import Generation, State
from tests.support.generations import make_generation

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis")]


@pytest.fixture
def queued(alice: User) -> Generation:
    return make_generation(alice, State.QUEUED)


@pytest.fixture
def events_url(queued: Generation, alices_token: str, client: Client) -> str:
    """The path and the query of the address in the record of `queued`, which a token of alice got."""
    record = client.get(f"/generations/{queued.pk}", headers={"Authorization": f"Bearer {alices_token}"}).json()
    url: str = record["events_url"]
    assert url.startswith(f"http://testserver/generations/{queued.pk}/events?")
    return url.removeprefix("http://testserver")


def test_it_needs_no_token_and_says_what_the_record_says(client: Client, queued: Generation, events_url: str) -> None:
    answer = client.get(f"{events_url}&previews=0")
    assert (answer.status_code, answer.json()["record"]["id"]) == (200, str(queued.pk))


def test_a_token_counts_more_than_the_signature(client: Client, events_url: str, bobs_token: str) -> None:
    assert client.get(events_url, headers={"Authorization": f"Bearer {bobs_token}"}).status_code == 404
    assert client.get(events_url, headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_it_is_for_the_events_of_one_generation_alone(
    client: Client, alice: User, queued: Generation, events_url: str
) -> None:
    other = make_generation(alice, State.QUEUED)
    query = urlsplit(events_url).query
    for path in (f"/generations/{other.pk}/events", f"/generations/{uuid4()}/events", f"/generations/{queued.pk}"):
        assert client.get(f"{path}?{query}").status_code == 401, path
    assert client.post(f"/generations/{queued.pk}/cancel?{query}").status_code == 401


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("expires=", "expires=9"),
        ("expires=", "then="),
        ("signature=", "signature=0"),
        ("token_id=", "token_id=1"),
        ("token_id=", "token_id=x"),
    ],
)
def test_no_part_of_it_can_be_changed(client: Client, events_url: str, old: str, new: str) -> None:
    answer = client.get(events_url.replace(old, new))
    assert (answer.status_code, answer.json()["detail"]["code"]) == (401, "invalid_token")
    assert "get the record" in answer.json()["detail"]["msg"]


def test_it_expires(client: Client, queued: Generation, alices: ApiToken) -> None:
    def address(seconds: int) -> str:
        query = signatures.signed_query("events", f"{queued.pk} {alices.pk}", seconds)
        return f"/generations/{queued.pk}/events?{urlencode({'token_id': alices.pk})}&{query}"

    assert client.get(address(60)).status_code == 200
    assert client.get(address(-60)).status_code == 401


def test_it_ends_with_its_token(client: Client, events_url: str) -> None:
    ApiToken.objects.update(expires=timezone.now())
    assert client.get(events_url).status_code == 401
    ApiToken.objects.update(expires=None)
    assert client.get(events_url).status_code == 200
    ApiToken.objects.update(revoked=timezone.now())
    assert client.get(events_url).status_code == 401


def test_it_ends_with_the_suspension_of_its_user(client: Client, events_url: str) -> None:
    User.objects.update(is_active=False)
    assert client.get(events_url).status_code == 401


def test_records_of_what_has_ended_have_none(client: Client, alice: User, alices_token: str) -> None:
    make_generation(alice, State.SUCCEEDED)
    make_generation(alice, State.RUNNING)
    (running, succeeded) = client.get("/generations", headers={"Authorization": f"Bearer {alices_token}"}).json()[
        "results"
    ]
    assert client.get(running["events_url"]).status_code == 200
    assert succeeded["events_url"] is None
