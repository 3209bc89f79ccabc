"""Sign-up: what names are refused, and how often an address and a network may try."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.test import Client
from django.utils import timezone

from accounts import attempts, usernames
from accounts.models import Attempt, User
from generation.maintenance import account_jobs

PAGE = "/accounts/sign-up"
PASSWORD = {"password1": "long-and-unusual-1", "password2": "long-and-unusual-1"}


@pytest.fixture(autouse=True)
def _open(settings: Any) -> None:
    settings.SIGN_UP = True


def sign_up(name: str, address: str = "192.0.2.1") -> Any:
    return Client(REMOTE_ADDR=address).post(PAGE, {"username": name, **PASSWORD})


@pytest.mark.parametrize(
    "name", ["dora", "élodie", "дора", "山田たろう", "김山", "李ㄅ", "αβγ", "كريم", "dora-1_2@example.org", "123"]
)
def test_names_of_one_script_may_be_chosen(name: str) -> None:
    usernames.check_choice(name)


@pytest.mark.parametrize("name", ["dоra", "αlpha", "あ한", "admin", "Admins", "a.d.m.i.n", "Support_", "ROOT", "___"])
def test_names_of_several_scripts_and_reserved_ones_may_not(db: None, name: str) -> None:
    with pytest.raises(ValidationError):
        usernames.check_choice(name)
    assert sign_up(name).status_code == 200
    assert not User.objects.exists()


def test_the_page_says_what_is_wrong_with_a_name(db: None) -> None:
    assert "several scripts. Use those of one" in sign_up("dоra").content.decode()
    assert "reserved for the staff" in sign_up("admin").content.decode()


@pytest.mark.parametrize("taken", ["Élodie", "STRASSE", "ｄｏｒａ"])
def test_no_two_names_differ_in_case_and_width_alone(db: None, taken: str) -> None:
    User.objects.create(username=taken)
    other = {"Élodie": "éLODIE", "STRASSE": "straße", "ｄｏｒａ": "dora"}[taken]
    assert "Another user has this name" in sign_up(other).content.decode()
    with pytest.raises(IntegrityError):
        User.objects.create(username=other)


def test_staff_cannot_create_such_a_name_or_rename_to_it(client: Client, alice: User, charlie: User) -> None:
    charlie.is_superuser = True
    charlie.save()
    client.force_login(charlie)
    answer = client.post("/admin/accounts/user/add/", {"username": "ALICE", "usable_password": "true", **PASSWORD})
    assert answer.status_code == 200
    assert User.objects.count() == 2
    with pytest.raises(ValidationError, match="Another user has this name"):
        User(username="Alice", password="x").full_clean()
    alice.full_clean()


def test_an_address_is_refused_after_its_attempts_and_others_are_not(db: None, settings: Any) -> None:
    settings.SIGN_UP_ATTEMPTS = 2
    assert sign_up("admin").status_code == 200
    assert sign_up("dora").status_code == 302
    for _ in range(3):
        answer = sign_up("emil")
        assert answer.status_code == 429
    assert 86_000 < int(answer["Retry-After"]) <= 86_400
    assert "Too many new accounts" in answer.content.decode()
    assert Attempt.objects.count() == 2
    assert not User.objects.filter(username="emil").exists()
    assert sign_up("emil", "192.0.2.2").status_code == 302
    assert Client(REMOTE_ADDR="192.0.2.1").get(PAGE).status_code == 200


@pytest.mark.parametrize(
    ("same", "other"),
    [
        ([f"192.0.2.{number}" for number in range(10)], "192.0.3.1"),
        ([f"2001:db8:0:{number}::1" for number in range(10)], "2001:db8:1::1"),
    ],
)
def test_a_network_is_refused_after_five_times_as_many(db: None, same: list[str], other: str) -> None:
    for address in same[: attempts.NETWORK_FACTOR]:
        attempts.count("sign-up", address, 1)
    with pytest.raises(attempts.TooManyAttempts):
        attempts.count("sign-up", same[-1], 1)
    attempts.count("sign-up", other, 1)


def test_addresses_of_a_64_network_are_one(db: None) -> None:
    attempts.count("sign-up", "2001:db8::1", 1)
    with pytest.raises(attempts.TooManyAttempts):
        attempts.count("sign-up", "2001:db8::ffff:2", 1)
    attempts.count("sign-up", "2001:db8:0:1::1", 1)
    attempts.count("another page", "2001:db8::1", 1)


def test_attempts_end_after_a_day_and_are_removed(db: None) -> None:
    attempts.count("sign-up", "192.0.2.1", 1)
    Attempt.objects.update(when=timezone.now() - timedelta(days=1))
    attempts.count("sign-up", "192.0.2.1", 1)
    assert Attempt.objects.count() == 2
    account_jobs.run_all(lambda: False)
    assert Attempt.objects.count() == 1


def test_without_a_limit_nothing_is_counted(db: None) -> None:
    attempts.count("sign-up", "192.0.2.1", 0)
    assert not Attempt.objects.exists()
