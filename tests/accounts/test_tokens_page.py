"""The page of a user's tokens: create, show once, list, revoke."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiToken, User

PAGE = "/tokens/"


def test_it_works(client: Client, alice: User) -> None:
    client.force_login(alice)
    answer = client.post(PAGE, {"name": "laptop", "days": "30"})
    assert answer.status_code == 200
    raw = re.search(r'<code id="raw">(dream_[\w-]+)</code>', answer.content.decode())
    assert raw is not None
    token = ApiToken.objects.authenticate(raw[1])
    assert token is not None
    assert (token.user, token.name) == (alice, "laptop")
    assert token.expires is not None
    assert timedelta(days=29) < token.expires - timezone.now() <= timedelta(days=30)


def test_the_page_requires_sign_in(client: Client, alice: User) -> None:
    token, _ = ApiToken.objects.issue(alice, "laptop")
    assert client.get(PAGE)["Location"] == f"{reverse('sign-in')}?next={PAGE}"
    assert client.post(PAGE, {"name": "laptop"}).status_code == 302
    assert client.post(reverse("revoke-token", args=[token.pk])).status_code == 302
    assert ApiToken.objects.filter(revoked=None).count() == 1


def test_a_new_token_is_shown_with_a_command_that_works(client: Client, alice: User) -> None:
    client.force_login(alice)
    page = client.post(PAGE, {"name": "laptop"}).content.decode()
    assert "curl -O http://testserver/static/sample.jpg" in page
    assert "curl http://testserver/image-to-image" in page
    assert re.search(r"-H 'Authorization: Bearer dream_[\w-]{43}'", page)
    sample = client.get("/static/sample.jpg")
    assert sample.status_code == 200
    sample.close()


def test_a_token_is_shown_once_and_not_stored(client: Client, alice: User) -> None:
    client.force_login(alice)
    answer = client.post(PAGE, {"name": "laptop"})
    assert "no-store" in answer["Cache-Control"]
    raw = re.search(r"dream_[\w-]{43}", answer.content.decode())
    assert raw is not None
    assert raw[0] not in client.get(PAGE).content.decode()
    assert all(raw[0] not in str(session.get_decoded()) for session in Session.objects.all())


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "This field is required"),
        ({"name": "  "}, "This field is required"),
        ({"name": "x" * 101}, "at most 100 characters"),
        ({"name": "x", "days": "12"}, "Select a valid choice"),
        ({"name": "x", "days": "a"}, "Select a valid choice"),
    ],
)
def test_an_invalid_form_shows_errors_and_creates_nothing(
    client: Client, alice: User, fields: dict[str, str], says: str
) -> None:
    client.force_login(alice)
    assert says in client.post(PAGE, fields).content.decode()
    assert not ApiToken.objects.exists()


def test_the_list_shows_the_state_of_each_token(client: Client, alice: User) -> None:
    used, _ = ApiToken.objects.issue(alice, "<b>laptop</b>")
    ApiToken.objects.filter(pk=used.pk).update(last_used=timezone.now())
    ApiToken.objects.issue(alice, "expired one", timezone.now() - timedelta(days=1))
    revoked, _ = ApiToken.objects.issue(alice, "revoked one")
    revoked.revoke()
    client.force_login(alice)
    page = client.get(PAGE).content.decode()
    assert "&lt;b&gt;laptop&lt;/b&gt;" in page
    assert used.prefix in page
    assert used.digest not in page
    for word in ("active", "expired</span>", "revoked</span>", f"{timezone.localtime():%-d %b %Y, %H}"):
        assert word in page
    assert reverse("revoke-token", args=[used.pk]) in page
    assert reverse("revoke-token", args=[revoked.pk]) not in page


def test_the_number_of_queries_does_not_grow_with_the_list(
    client: Client, alice: User, django_assert_num_queries: Any
) -> None:
    client.force_login(alice)
    for count in (1, 30):
        for number in range(count):
            ApiToken.objects.issue(alice, f"program {number}")
        with django_assert_num_queries(3):
            assert client.get(PAGE).status_code == 200


def test_a_token_is_revoked_only_by_post(client: Client, alice: User) -> None:
    token, raw = ApiToken.objects.issue(alice, "laptop")
    client.force_login(alice)
    assert client.get(reverse("revoke-token", args=[token.pk])).status_code == 405
    answer = client.post(reverse("revoke-token", args=[token.pk]), follow=True)
    assert "The token “laptop” was revoked." in answer.content.decode()
    assert ApiToken.objects.authenticate(raw) is None


def test_nobody_sees_or_revokes_the_tokens_of_others(client: Client, alice: User, bob: User, charlie: User) -> None:
    token, raw = ApiToken.objects.issue(alice, "alices-own-laptop")
    for other in (bob, charlie):
        client.force_login(other)
        assert "alices-own-laptop" not in client.get(PAGE).content.decode()
        assert client.post(reverse("revoke-token", args=[token.pk])).status_code == 404
    assert ApiToken.objects.authenticate(raw) == token


def test_an_unknown_token_is_not_found(client: Client, alice: User) -> None:
    client.force_login(alice)
    for number in ("0", "99999", "9" * 30):
        assert client.post(f"/tokens/{number}/revoke").status_code == 404
