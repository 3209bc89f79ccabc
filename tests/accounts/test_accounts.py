"""Accounts: tokens and their use, sign-in and sign-out, passwords, sign-up, `createtoken`."""

import json
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiToken, User

INVALID = {"detail": {"msg": "Invalid bearer token.", "code": "invalid_token"}}


def ask(client: Client, header: str | None) -> Any:
    """Return a request to the API that is 404 for an authenticated user."""
    headers = {} if header is None else {"Authorization": header}
    return client.get(f"/generations/{uuid4()}", headers=headers)


def age(token: ApiToken, **fields: Any) -> None:
    ApiToken.objects.filter(pk=token.pk).update(**fields)


def test_it_works(client: Client, alice: User) -> None:
    token, raw = ApiToken.objects.issue(alice, "laptop")
    assert raw.startswith("dream_")
    assert raw.startswith(token.prefix)
    assert token.prefix != raw
    assert ask(client, f"Bearer {raw}").status_code == 404
    assert ApiToken.objects.authenticate(raw) == token


def test_only_a_digest_is_stored(alice: User) -> None:
    token, raw = ApiToken.objects.issue(alice, "laptop")
    token.refresh_from_db()
    stored = json.dumps({field.name: str(getattr(token, field.name)) for field in ApiToken._meta.fields})
    assert raw not in stored
    assert len(token.digest) == 64


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_authentication_scheme_is_case_insensitive(client: Client, alices_token: str, scheme: str) -> None:
    assert ask(client, f"{scheme} {alices_token}").status_code == 404


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer dream_",
        "Bearer nonsense",
        "Basic YWxpY2U6cGFzcw==",
        "Bearer dream_\xe9\xff",
        "dream_x",
    ],
)
def test_anything_but_a_token_is_refused(client: Client, alice: User, header: str | None) -> None:
    response = ask(client, header)
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert response.json() == INVALID


def test_a_token_must_match_to_the_last_character(client: Client, alices_token: str) -> None:
    assert ask(client, f"Bearer {alices_token[:-1]}").status_code == 401
    assert ask(client, f"Bearer {alices_token}x").status_code == 401
    assert ask(client, f"Bearer {alices_token[:20]}{alices_token[20:].swapcase()}").status_code == 401


def test_expired_revoked_and_orphaned_tokens_are_refused(client: Client, alice: User) -> None:
    expired, expired_raw = ApiToken.objects.issue(alice, "old", timezone.now() - timedelta(seconds=1))
    revoked, revoked_raw = ApiToken.objects.issue(alice, "lost")
    revoked.revoke()
    revoked.refresh_from_db()
    assert not expired.is_usable
    assert not revoked.is_usable
    assert ask(client, f"Bearer {expired_raw}").status_code == 401
    assert ask(client, f"Bearer {revoked_raw}").status_code == 401
    token, raw = ApiToken.objects.issue(alice, "new", timezone.now() + timedelta(days=1))
    assert token.is_usable
    assert ask(client, f"Bearer {raw}").status_code == 404
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert ask(client, f"Bearer {raw}").status_code == 401


def test_revoking_again_keeps_the_first_time(alice: User) -> None:
    token, _ = ApiToken.objects.issue(alice, "lost")
    token.revoke()
    token.refresh_from_db()
    first = token.revoked
    token.revoke()
    token.refresh_from_db()
    assert token.revoked == first


def test_authentication_is_one_query_and_updates_last_used_once_a_minute(
    alice: User, django_assert_num_queries: Any
) -> None:
    token, raw = ApiToken.objects.issue(alice, "laptop")
    with django_assert_num_queries(2):
        ApiToken.objects.authenticate(raw)
    token.refresh_from_db()
    first = token.last_used
    assert first is not None
    with django_assert_num_queries(1):
        authenticated = ApiToken.objects.authenticate(raw)
        assert authenticated is not None
        assert authenticated.user == alice
    token.refresh_from_db()
    assert token.last_used == first
    age(token, last_used=first - timedelta(minutes=2))
    ApiToken.objects.authenticate(raw)
    token.refresh_from_db()
    assert token.last_used is not None
    assert token.last_used >= first


def test_users_sign_in_and_out(client: Client, alice: User) -> None:
    assert "Forgot your password?" in client.get(reverse("sign-in")).content.decode()
    answer = client.get(reverse("history"))
    assert answer.status_code == 302
    assert answer["Location"] == f"{reverse('sign-in')}?next={reverse('history')}"
    answer = client.post(answer["Location"], {"username": "alice", "password": "alice-password", "next": "/tokens/"})
    assert answer["Location"] == "/tokens/"
    assert get_user(client).is_authenticated
    assert client.get(reverse("sign-in"))["Location"] == reverse("home")
    assert client.get(reverse("sign-out")).status_code == 405
    assert client.post(reverse("sign-out"))["Location"] == reverse("sign-in")
    assert not get_user(client).is_authenticated


def test_a_wrong_password_is_refused_without_naming_the_cause(client: Client, alice: User) -> None:
    wrong = client.post(reverse("sign-in"), {"username": "alice", "password": "x"})
    unknown = client.post(reverse("sign-in"), {"username": "mallory", "password": "x"})
    assert wrong.status_code == unknown.status_code == 200
    assert b"correct username and password" in wrong.content
    assert b"correct username and password" in unknown.content


def test_sign_in_redirects_only_within_the_site(client: Client, alice: User) -> None:
    answer = client.post(
        reverse("sign-in"), {"username": "alice", "password": "alice-password", "next": "https://evil.example/"}
    )
    assert answer["Location"] == reverse("home")


def test_forms_need_their_csrf_token(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    answer = client.post(reverse("sign-in"), {"username": "alice", "password": "alice-password"})
    assert answer.status_code == 403
    assert b"out of date" in answer.content


def test_a_password_is_changed_with_the_old_one(client: Client, alice: User) -> None:
    assert client.get(reverse("password_change")).status_code == 302
    client.force_login(alice)
    fields = {"password": "wrong", "new_password1": "quite-another-1", "new_password2": "quite-another-1"}
    assert client.post(reverse("password_change"), fields).status_code == 200
    fields["password"] = "alice-password"
    answer = client.post(reverse("password_change"), fields)
    assert answer["Location"] == reverse("settings")
    assert "Your password was changed" in client.get(answer["Location"]).content.decode()
    alice.refresh_from_db()
    assert alice.check_password("quite-another-1")


def test_sign_up_is_404_unless_it_is_allowed(client: Client, db: None) -> None:
    assert client.get(reverse("sign-up")).status_code == 404
    assert client.post(reverse("sign-up"), {"username": "dora"}).status_code == 404
    assert reverse("sign-up") not in client.get(reverse("sign-in")).content.decode()


def test_sign_up_creates_an_ordinary_user_and_signs_in(client: Client, db: None, settings: Any) -> None:
    settings.SIGN_UP = True
    assert reverse("sign-up") in client.get(reverse("sign-in")).content.decode()
    fields = {"username": "dora", "password1": "123", "password2": "123", "is_staff": "on"}
    answer = client.post(reverse("sign-up"), fields)
    assert answer.status_code == 200
    assert b"too short" in answer.content
    fields["password1"] = fields["password2"] = "long-and-unusual-1"
    assert client.post(reverse("sign-up"), fields)["Location"] == reverse("home")
    dora = User.objects.get(username="dora")
    assert get_user(client) == dora
    assert not dora.is_staff
    assert client.get(reverse("sign-up"))["Location"] == reverse("home")


def create_token(*arguments: str) -> str:
    output = StringIO()
    call_command("createtoken", *arguments, stdout=output)
    return output.getvalue()


def test_createtoken_prints_the_token_alone(alice: User) -> None:
    printed = create_token("alice", "--name", "cron")
    assert printed.endswith("\n")
    token = ApiToken.objects.authenticate(printed.strip())
    assert token is not None
    assert (token.user, token.name, token.expires) == (alice, "cron", None)


def test_createtoken_can_create_an_ordinary_user_and_a_token_that_expires(db: None) -> None:
    token = ApiToken.objects.authenticate(create_token("dora", "--name", "cron", "--days", "3", "--create").strip())
    assert token is not None
    assert not token.user.is_staff
    assert not token.user.has_usable_password()
    assert token.expires is not None
    assert timedelta(days=2) < token.expires - timezone.now() <= timedelta(days=3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nobody", "--name", "x"], "--create"),
        (["alice", "--name", "x", "--days", "0"], "--days"),
        (["alice", "--name", "x" * 101], "100 characters"),
        (["not a name!", "--name", "x", "--create"], "valid username"),
    ],
)
def test_createtoken_reports_errors(alice: User, arguments: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        create_token(*arguments)
    assert not ApiToken.objects.exists()
    assert User.objects.count() == 1


def test_createtoken_refuses_users_whose_tokens_would_be_refused(alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)
    with pytest.raises(CommandError, match="not active"):
        create_token("alice", "--name", "x")
