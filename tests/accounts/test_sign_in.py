"""Lockout after failed sign-ins: by account and by address, for a limited time, and not for known browsers."""

import re
from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth import get_user
from django.db.models import F
from django.test import Client, RequestFactory
from django.urls import reverse

from accounts import lockout
from accounts.models import User
from generation.maintenance import account_jobs
from tests.support.html import squeeze

SIGN_IN = "/accounts/sign-in"
ADMIN = "/admin/login/"


@pytest.fixture(autouse=True)
def three(settings: Any) -> None:
    """Limits that tests can reach."""
    settings.AXES_FAILURE_LIMIT = 3


def attempt(client: Client, name: str = "alice", typed: str = "wrong", path: str = SIGN_IN, **meta: Any) -> Any:
    return client.post(path, {"username": name, "password": typed}, **meta)


def pass_minutes(minutes: float) -> None:
    AccessAttempt.objects.update(attempt_time=F("attempt_time") - timedelta(minutes=minutes))


def test_it_works(client: Client, alice: User) -> None:
    assert [attempt(client).status_code for _ in range(2)] == [200, 200]
    assert attempt(client, typed="alice-password").status_code == 302
    assert get_user(client) == alice


def test_after_a_wrong_password_the_focus_is_on_the_password(client: Client, alice: User) -> None:
    def focus(page: Any) -> list[str]:
        return re.findall(r'<input type="\w+" name="(\w+)"[^>]* autofocus', page.content.decode())

    assert focus(client.get(SIGN_IN)) == ["username"]
    assert focus(attempt(client)) == ["password"]
    assert focus(attempt(client, name="")) == ["username"]


def test_the_lockout_page_says_when_to_try_again(client: Client, alice: User) -> None:
    assert [attempt(client).status_code for _ in range(3)] == [200, 200, 429]
    pass_minutes(5.5)
    refused = attempt(client, typed="alice-password")
    assert refused.status_code == 429
    assert 560 < int(refused["Retry-After"]) <= 570
    page = squeeze(refused.content.decode())
    assert "Try again in 10 minutes, at " in page
    assert re.search(r"at \d\d:\d\d UTC\.", page)
    assert "no-store" in refused["Cache-Control"]
    assert not get_user(client).is_authenticated


def test_the_lockout_ends_even_while_guessing_continues(client: Client, alice: User) -> None:
    for _ in range(3):
        attempt(client)
    for _ in range(4):
        pass_minutes(4)
        attempt(client)
    assert attempt(client, typed="alice-password").status_code == 302


def test_failures_of_an_account_count_from_all_addresses(client: Client, alice: User, bob: User) -> None:
    for number in range(3):
        attempt(client, REMOTE_ADDR=f"198.51.100.{number}")
    assert attempt(client, typed="alice-password", REMOTE_ADDR="203.0.113.9").status_code == 429
    assert attempt(client, "bob", "bob-password", REMOTE_ADDR="203.0.113.9").status_code == 302


def test_failures_of_an_address_count_for_all_accounts(client: Client, alice: User, bob: User) -> None:
    for name in ("alice", "carol", "dave"):
        attempt(client, name, REMOTE_ADDR="2001:db8:1:2::1")
    assert attempt(client, "bob", "bob-password", REMOTE_ADDR="2001:db8:1:2:ffff::9").status_code == 429
    assert attempt(client, "bob", "bob-password", REMOTE_ADDR="2001:db8:1:3::1").status_code == 302


def test_a_known_browser_is_not_locked_out_by_others(client: Client, alice: User) -> None:
    assert attempt(client, typed="alice-password").status_code == 302
    client.post(reverse("sign-out"))
    stranger = Client(REMOTE_ADDR="198.51.100.1")
    assert [attempt(stranger).status_code for _ in range(4)][-1] == 429
    assert attempt(client).status_code == 200
    assert attempt(client, typed="alice-password").status_code == 302
    client.post(reverse("sign-out"))
    assert [attempt(client).status_code for _ in range(2)] == [200, 429]


def test_a_forged_cookie_or_that_of_another_user_has_no_effect(client: Client, alice: User, bob: User) -> None:
    assert attempt(client, "bob", "bob-password").status_code == 302
    mark = client.cookies["known"].value
    assert client.cookies["known"]["httponly"]
    stranger = Client(REMOTE_ADDR="198.51.100.1")
    for forged in (mark, f"{alice.pk}:x:y", "x"):
        stranger.cookies["known"] = forged
        attempt(stranger)
    assert attempt(stranger, typed="alice-password", REMOTE_ADDR="198.51.100.2").status_code == 429


def test_responses_do_not_reveal_whether_an_account_exists(client: Client, alice: User) -> None:
    answers = []
    for number, name in enumerate(("alice", "nobody")):
        tries = [attempt(client, name, REMOTE_ADDR=f"198.51.100.{number}") for _ in range(4)]
        answers.append([(one.status_code, re.sub(r'value="[^"]*"', "", one.content.decode())) for one in tries])
    assert answers[0] == answers[1]


def test_the_lockout_applies_to_the_admins_sign_in(client: Client, charlie: User) -> None:
    assert [attempt(client, "charlie", path=ADMIN).status_code for _ in range(3)] == [200, 200, 429]
    assert attempt(client, "charlie", "charlie-password", ADMIN).status_code == 429
    assert attempt(client, "charlie", "charlie-password").status_code == 429


def test_the_lockout_can_be_turned_off(client: Client, alice: User, settings: Any) -> None:
    settings.AXES_ENABLED = False
    assert {attempt(client).status_code for _ in range(5)} == {200}


def test_expired_attempts_are_deleted(client: Client, alice: User) -> None:
    attempt(client)
    account_jobs.run_all(lambda: False)
    assert AccessAttempt.objects.exists()
    pass_minutes(16)
    account_jobs.run_all(lambda: False)
    assert not AccessAttempt.objects.exists()


def test_passwords_are_not_stored(client: Client, alice: User) -> None:
    attempt(client, typed="my-secret-guess")
    row = AccessAttempt.objects.get()
    assert "my-secret-guess" not in str(vars(row))


@pytest.mark.parametrize(
    ("remote", "told_apart_by"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("", None),
    ],
)
def test_ipv6_addresses_count_by_network(remote: str, told_apart_by: str | None) -> None:
    request = RequestFactory().get("/", REMOTE_ADDR=remote, headers={"X-Forwarded-For": "203.0.113.1"})
    assert lockout.address(request) == told_apart_by
