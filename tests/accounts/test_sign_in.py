"""Sign-ins are slowed down: for an account, for an address, never for ever, and not for a browser that is known."""

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
    """Few enough to be tried."""
    settings.AXES_FAILURE_LIMIT = 3


def attempt(client: Client, name: str = "alice", typed: str = "wrong", path: str = SIGN_IN, **meta: Any) -> Any:
    return client.post(path, {"username": name, "password": typed}, **meta)


def pass_minutes(minutes: float) -> None:
    AccessAttempt.objects.update(attempt_time=F("attempt_time") - timedelta(minutes=minutes))


def test_it_works(client: Client, alice: User) -> None:
    assert [attempt(client).status_code for _ in range(2)] == [200, 200]
    assert attempt(client, typed="alice-password").status_code == 302
    assert get_user(client) == alice


def test_too_many_wrong_passwords_are_answered_with_when_to_come_back(client: Client, alice: User) -> None:
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


def test_it_passes_by_itself_even_while_somebody_goes_on_guessing(client: Client, alice: User) -> None:
    for _ in range(3):
        attempt(client)
    for _ in range(4):
        pass_minutes(4)
        attempt(client)
    assert attempt(client, typed="alice-password").status_code == 302


def test_an_account_is_guarded_from_all_addresses_together(client: Client, alice: User, bob: User) -> None:
    for number in range(3):
        attempt(client, REMOTE_ADDR=f"198.51.100.{number}")
    assert attempt(client, typed="alice-password", REMOTE_ADDR="203.0.113.9").status_code == 429
    assert attempt(client, "bob", "bob-password", REMOTE_ADDR="203.0.113.9").status_code == 302


def test_an_address_is_held_back_for_all_accounts_together(client: Client, alice: User, bob: User) -> None:
    for name in ("alice", "carol", "dave"):
        attempt(client, name, REMOTE_ADDR="2001:db8:1:2::1")
    assert attempt(client, "bob", "bob-password", REMOTE_ADDR="2001:db8:1:2:ffff::9").status_code == 429
    assert attempt(client, "bob", "bob-password", REMOTE_ADDR="2001:db8:1:3::1").status_code == 302


def test_nobody_can_keep_a_person_out_of_a_browser_that_they_have_used(client: Client, alice: User) -> None:
    assert attempt(client, typed="alice-password").status_code == 302
    client.post(reverse("sign-out"))
    stranger = Client(REMOTE_ADDR="198.51.100.1")
    assert [attempt(stranger).status_code for _ in range(4)][-1] == 429
    assert attempt(client).status_code == 200
    assert attempt(client, typed="alice-password").status_code == 302
    client.post(reverse("sign-out"))
    assert [attempt(client).status_code for _ in range(2)] == [200, 429]


def test_a_forged_or_foreign_mark_of_a_known_browser_means_nothing(client: Client, alice: User, bob: User) -> None:
    assert attempt(client, "bob", "bob-password").status_code == 302
    mark = client.cookies["known"].value
    assert client.cookies["known"]["httponly"]
    stranger = Client(REMOTE_ADDR="198.51.100.1")
    for forged in (mark, f"{alice.pk}:x:y", "x"):
        stranger.cookies["known"] = forged
        attempt(stranger)
    assert attempt(stranger, typed="alice-password", REMOTE_ADDR="198.51.100.2").status_code == 429


def test_nothing_tells_whether_there_is_such_an_account(client: Client, alice: User) -> None:
    answers = []
    for number, name in enumerate(("alice", "nobody")):
        tries = [attempt(client, name, REMOTE_ADDR=f"198.51.100.{number}") for _ in range(4)]
        answers.append([(one.status_code, re.sub(r'value="[^"]*"', "", one.content.decode())) for one in tries])
    assert answers[0] == answers[1]


def test_the_admins_sign_in_is_guarded_too(client: Client, charlie: User) -> None:
    assert [attempt(client, "charlie", path=ADMIN).status_code for _ in range(3)] == [200, 200, 429]
    assert attempt(client, "charlie", "charlie-password", ADMIN).status_code == 429
    assert attempt(client, "charlie", "charlie-password").status_code == 429


def test_it_can_be_turned_off(client: Client, alice: User, settings: Any) -> None:
    settings.AXES_ENABLED = False
    assert {attempt(client).status_code for _ in range(5)} == {200}


def test_what_no_longer_counts_is_forgotten(client: Client, alice: User) -> None:
    attempt(client)
    account_jobs.run_all(lambda: False)
    assert AccessAttempt.objects.exists()
    pass_minutes(16)
    account_jobs.run_all(lambda: False)
    assert not AccessAttempt.objects.exists()


def test_passwords_are_kept_nowhere(client: Client, alice: User) -> None:
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
def test_what_an_address_is(remote: str, told_apart_by: str | None) -> None:
    request = RequestFactory().get("/", REMOTE_ADDR=remote, headers={"X-Forwarded-For": "203.0.113.1"})
    assert lockout.address(request) == told_apart_by
