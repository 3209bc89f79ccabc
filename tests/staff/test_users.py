"""The admin's lists of users and API tokens."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import ApiToken, User
from tests.support import roles


def test_tokens_are_listed_without_their_secret_and_revoked(staff: Client, alice: User) -> None:
    token, raw = ApiToken.objects.issue(alice, "my laptop")
    lost, _ = ApiToken.objects.issue(alice, "lost")
    lost.revoke()
    old, _ = ApiToken.objects.issue(alice, "old", timezone.now() - timedelta(days=1))
    address = "/admin/accounts/apitoken/"
    page = staff.get(address).content.decode()
    assert token.prefix in page
    assert "my laptop" in page
    one = staff.get(f"{address}{token.pk}/change/").content.decode()
    for text in (page, one):
        assert token.digest not in text
        assert raw not in text
    for state, match in (("yes", token), ("revoked", lost), ("expired", old)):
        filtered = staff.get(address, {"usable": state}).content.decode()
        assert re.findall(r"/apitoken/(\d+)/change/", filtered) == [str(match.pk)]
    form = {"action": "revoke", "_selected_action": [token.pk, lost.pk]}
    assert "1 token revoked." in staff.post(address, form, follow=True).content.decode()
    assert ApiToken.objects.authenticate(raw) is None


def test_tokens_are_neither_created_nor_changed_in_the_admin(staff: Client, alice: User) -> None:
    token, _ = ApiToken.objects.issue(alice, "laptop")
    assert staff.get("/admin/accounts/apitoken/add/").status_code == 403
    assert staff.post(f"/admin/accounts/apitoken/{token.pk}/change/", {"name": "x"}).status_code == 403
    assert staff.post(f"/admin/accounts/apitoken/{token.pk}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("address", ["/admin/accounts/apitoken/", "/admin/accounts/user/"])
def test_the_lists_of_users_and_tokens_take_a_constant_number_of_queries(staff: Client, address: str) -> None:
    counted = []
    for count in (1, 12):
        for number in range(count):
            user = User.objects.create_user(f"user-{count}-{number}")
            ApiToken.objects.issue(user, "laptop")
        with CaptureQueriesContext(connection) as queries:
            staff.get(address)
        counted.append(len(queries))
    assert counted[0] == counted[1]


def test_users_are_created_and_suspended(staff: Client, alice: User) -> None:
    form = {
        "username": "dora",
        "usable_password": "true",
        "password1": "long-and-unusual-1",
        "password2": "long-and-unusual-1",
    }
    assert staff.post("/admin/accounts/user/add/", form).status_code == 302
    assert User.objects.get(username="dora").check_password("long-and-unusual-1")
    assert staff.get(f"/admin/accounts/user/{alice.pk}/change/").status_code == 200


def test_who_may_change_users_gets_no_further_rights_by_it(client: Client, alice: User, charlie: User) -> None:
    dora, olga = roles.staff("dora"), roles.staff("olga")
    dora.user_permissions.set(Permission.objects.filter(codename__in=("view_user", "change_user", "delete_user")))
    client.force_login(dora)
    own = client.post(f"/admin/accounts/user/{dora.pk}/change/", {"username": "dora", "is_superuser": "on"})
    assert own.status_code == 403
    for other in (olga, charlie):
        address, before = f"/admin/accounts/user/{other.pk}", other.password
        new = {"usable_password": "true", "password1": "long-and-unusual-1", "password2": "long-and-unusual-1"}
        assert client.post(f"{address}/password/", new).status_code == 403
        assert client.post(f"{address}/change/", {"username": other.username, "is_superuser": "on"}).status_code == 403
        assert client.post(f"{address}/delete/", {"post": "yes"}).status_code == 403
        other.refresh_from_db()
        assert other.password == before
    joined = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00", "theme": "auto"}
    rights = {"is_staff": "on", "is_superuser": "on", "user_permissions": str(Permission.objects.all()[0].pk)}
    form = {"username": "alice", "max_running": "3", **joined, **rights}
    assert client.post(f"/admin/accounts/user/{alice.pk}/change/", form).status_code == 302
    alice.refresh_from_db()
    assert alice.max_running == 3
    assert [alice.is_staff, alice.is_superuser, alice.user_permissions.exists()] == [False] * 3


def test_who_sets_their_own_password_is_asked_for_the_old_one(client: Client, charlie: User) -> None:
    client.force_login(charlie)
    new = {"usable_password": "true", "password1": "long-and-unusual-1", "password2": "long-and-unusual-1"}
    answer = client.post(f"/admin/accounts/user/{charlie.pk}/password/", new)
    assert answer.headers["Location"] == "/accounts/password"
    charlie.refresh_from_db()
    assert charlie.check_password("charlie-password")
