"""The password is asked for again before what would outlive an open session; guesses are bounded as at sign-in."""

import re
import time
from typing import Any

import pytest
from django.contrib.auth import get_user
from django.test import Client
from django.utils import timezone

from accounts import confirmation
from accounts.models import ApiToken, DataExport, User

TOKENS, EXPORT, DELETE, PASSWORD = "/tokens/", "/settings/export", "/settings/delete", "/accounts/password"
NEW = {"password": "alice-password", "new_password1": "quite-another-1", "new_password2": "quite-another-1"}
ASKS = '<input type="password" name="password"'


@pytest.fixture
def stale(client: Client, alice: User) -> Client:
    """A browser that alice signed in with, a while ago."""
    client.post("/accounts/sign-in", {"username": "alice", "password": "alice-password"})
    leave(client)
    return client


def leave(client: Client) -> None:
    """Let pass so much time that the browser's last confirmation does not count any more."""
    session = client.session
    session["password_confirmed"] = time.time() - confirmation.CONFIRMED_FOR.total_seconds()
    session.save()


def page(client: Client, address: str) -> str:
    return client.get(address).content.decode()


def test_a_short_time_after_sign_in_nothing_is_asked_that_can_be_undone(client: Client, alice: User) -> None:
    client.post("/accounts/sign-in", {"username": "alice", "password": "alice-password"})
    assert [ASKS in page(client, address) for address in (TOKENS, EXPORT, DELETE, PASSWORD)] == [
        False,
        False,
        True,
        True,
    ]
    client.post(TOKENS, {"name": "laptop"})
    assert ApiToken.objects.get().name == "laptop"


def test_later_a_new_token_needs_the_password(stale: Client) -> None:
    assert ASKS in page(stale, TOKENS)
    assert "This field is required" in stale.post(TOKENS, {"name": "laptop"}).content.decode()
    refused = stale.post(TOKENS, {"name": "laptop", "password": "wrong"}).content.decode()
    assert "That is not your password." in refused
    assert not ApiToken.objects.exists()
    stale.post(TOKENS, {"name": "laptop", "password": "alice-password"})
    stale.post(TOKENS, {"name": "phone"})
    assert ApiToken.objects.count() == 2


def test_the_right_password_is_not_asked_again_because_of_another_field(stale: Client) -> None:
    answer = stale.post(TOKENS, {"name": "", "password": "alice-password"}).content.decode()
    assert "This field is required" in answer
    assert ASKS not in answer


def test_later_a_new_export_needs_the_password(stale: Client) -> None:
    stale.post(EXPORT)
    assert not DataExport.objects.exists()
    assert stale.post(EXPORT, {"password": "alice-password"})["Location"] == EXPORT
    assert DataExport.objects.count() == 1


def test_later_a_download_of_the_export_needs_the_password(stale: Client, alice: User) -> None:
    state, now = DataExport.State.SUCCEEDED, timezone.now()
    # A file that is gone: who may download it gets 404.
    export = DataExport.objects.create(user=alice, state=state, finished=now, file="exports/gone.zip")
    address = f"{EXPORT}/{export.pk}.zip"
    assert stale.get(address)["Location"] == EXPORT
    assert address not in page(stale, EXPORT)
    assert f'name="download" value="{export.pk}"' in page(stale, EXPORT)
    assert "That is not" in stale.post(EXPORT, {"download": export.pk, "password": "wrong"}).content.decode()
    assert stale.post(EXPORT, {"download": export.pk, "password": "alice-password"})["Location"] == address
    assert stale.get(address).status_code == 404
    assert address in page(stale, EXPORT)
    assert DataExport.objects.count() == 1


@pytest.mark.parametrize(
    ("address", "form"), [(TOKENS, {"name": "laptop"}), (EXPORT, {}), (DELETE, {}), (PASSWORD, NEW)]
)
def test_guesses_of_the_password_are_bounded(stale: Client, settings: Any, address: str, form: dict[str, str]) -> None:
    settings.AXES_FAILURE_LIMIT = 3
    answers = [stale.post(address, {**form, "password": f"guess-{number}"}).status_code for number in range(4)]
    assert answers == [200, 200, 429, 429]
    assert stale.post(address, {**form, "password": "alice-password"}).status_code == 429


def test_the_admin_has_no_page_of_its_own_for_the_password(client: Client, charlie: User) -> None:
    client.force_login(charlie)
    answers = [client.post("/admin/password_change/", {"old_password": "wrong"}), client.get("/admin/password_change/")]
    assert [answer["Location"] for answer in answers] == [PASSWORD, PASSWORD]


def test_a_new_password_ends_tokens_other_sessions_and_known_browsers(client: Client, alice: User) -> None:
    _, raw = ApiToken.objects.issue(alice, "laptop")
    elsewhere = Client(REMOTE_ADDR="198.51.100.1")
    for browser in (client, elsewhere):
        browser.post("/accounts/sign-in", {"username": "alice", "password": "alice-password"})
    known = client.cookies["known"].value
    assert re.search(r'name="revoke_tokens"[^>]* checked', page(client, PASSWORD))
    answer = client.post(PASSWORD, {**NEW, "revoke_tokens": "on"}, follow=True).content.decode()
    assert "signed out everywhere else. 1 token revoked." in answer
    assert ApiToken.objects.authenticate(raw) is None
    assert get_user(client) == alice
    assert not get_user(elsewhere).is_authenticated
    assert client.cookies["known"].value != known


def test_whether_a_browser_is_known_ends_with_the_password(client: Client, alice: User, settings: Any) -> None:
    settings.AXES_FAILURE_LIMIT = 3
    elsewhere, stranger = Client(REMOTE_ADDR="198.51.100.1"), Client(REMOTE_ADDR="198.51.100.2")
    for browser in (client, elsewhere):
        browser.post("/accounts/sign-in", {"username": "alice", "password": "alice-password"})
    client.post(PASSWORD, NEW)
    for _ in range(3):
        stranger.post("/accounts/sign-in", {"username": "alice", "password": "wrong"})
    right = {"username": "alice", "password": "quite-another-1"}
    assert elsewhere.post("/accounts/sign-in", right).status_code == 429
    client.post("/accounts/sign-out")
    assert client.post("/accounts/sign-in", right).status_code == 302


def test_tokens_stay_if_the_box_is_not_ticked(client: Client, alice: User) -> None:
    _, raw = ApiToken.objects.issue(alice, "laptop")
    client.force_login(alice)
    client.post(PASSWORD, NEW)
    assert ApiToken.objects.authenticate(raw)
