"""A user's e-mail address, and the password that is set with it, over a real SMTP server."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import email_links, mail
from accounts.email_address import MAX_WAITING
from accounts.models import ApiToken, OutgoingMail, User
from generation.models import DiffusionModel
from tests.support.mail import Mailbox

ADDRESS = "alice@example.org"
FORGOTTEN = "/accounts/password/forgotten"
PASSWORD = {"new_password1": "long-and-unusual-1", "new_password2": "long-and-unusual-1"}


def send() -> int:
    return mail.send_due(lambda: False)


def link(mailbox: Mailbox) -> str:
    """Return the path of the link in the only mail that was sent."""
    ((_, _, text),) = mailbox.take()
    (path,) = re.findall(r"^https://dream\.example\.org/dream(/accounts/\S+)$", text, re.M)
    return str(path)


@pytest.fixture
def with_address(alice: User) -> User:
    User.objects.filter(pk=alice.pk).update(email=ADDRESS)
    alice.refresh_from_db()
    return alice


# The address


def test_an_address_is_the_users_once_it_is_confirmed(
    mailbox: Mailbox, client: Client, alice: User, bob: User, tiny_edit: DiffusionModel
) -> None:
    client.force_login(alice)
    assert "None. With one, you can set a new password" in client.get("/settings/").content.decode()
    answer = client.post("/accounts/email", {"email": ADDRESS, "password": "wrong"})
    assert "That is not your password." in answer.content.decode()
    assert not OutgoingMail.objects.exists()
    answer = client.post("/accounts/email", {"email": ADDRESS, "password": "alice-password"}, follow=True)
    assert f"A mail with a link is on its way to {ADDRESS}." in answer.content.decode()
    assert send() == 1
    path = link(mailbox)
    for other in (Client(), Client()):
        assert other.get(path)["Location"].startswith("/accounts/sign-in?next=")
    others = Client()
    others.force_login(bob)
    assert others.post(path).status_code == 404
    assert ADDRESS in client.get(path).content.decode()
    alice.refresh_from_db()
    assert alice.email == "", "mail programs open links to look at them"
    assert f"{ADDRESS} is your e-mail address now." in client.post(path, follow=True).content.decode()
    alice.refresh_from_db()
    assert alice.email == ADDRESS
    assert client.post(path).status_code == 404, "it works once"


def test_the_former_address_is_told(
    mailbox: Mailbox, client: Client, with_address: User, tiny_edit: DiffusionModel
) -> None:
    client.force_login(with_address)
    client.post("/accounts/email", {"email": "new@example.org", "password": "alice-password"})
    assert send() == 1
    client.post(link(mailbox))
    assert send() == 1
    ((address, subject, text),) = mailbox.take()
    assert (address, subject) == (ADDRESS, "Your address for Dreamsite was changed")
    assert "new@example.org" not in text
    client.post("/accounts/email", {"email": "", "password": "alice-password"})
    with_address.refresh_from_db()
    assert with_address.email == ""
    assert send() == 1
    assert mailbox.take()[0][0] == "new@example.org"


def test_links_end_with_time_and_with_the_password(with_address: User, monkeypatch: pytest.MonkeyPatch) -> None:
    code = email_links.code(with_address, "new@example.org")
    assert email_links.address(with_address, code) == "new@example.org"
    assert email_links.address(with_address, f"{code}x") is None
    with monkeypatch.context() as patch:
        patch.setattr(email_links, "MAX_AGE", timedelta(seconds=-1))
        assert email_links.address(with_address, code) is None
    with_address.set_password("another-password")
    assert email_links.address(with_address, code) is None


def test_a_user_cannot_send_many_of_these_mails(mailbox: Mailbox, client: Client, alice: User) -> None:
    client.force_login(alice)
    for number in range(MAX_WAITING):
        fields = {"email": f"victim{number}@example.org", "password": "alice-password"}
        assert client.post("/accounts/email", fields).status_code == 302
    answer = client.post("/accounts/email", {"email": "one@example.org", "password": "alice-password"})
    assert answer.status_code == 429
    assert "You have asked for many of these mails" in answer.content.decode()
    assert OutgoingMail.objects.count() == MAX_WAITING


def test_sign_up_takes_an_address(mailbox: Mailbox, client: Client, db: None, settings: Any, redis: None) -> None:
    settings.SIGN_UP = True
    fields = {"username": "dora", "address": "dora@example.org", "password1": "long-and-unusual-1"}
    answer = client.post("/accounts/sign-up", {**fields, "password2": "long-and-unusual-1"}, follow=True)
    assert "Open the link to confirm the address." in answer.content.decode()
    assert User.objects.get().email == ""
    assert send() == 1
    client.post(link(mailbox))
    assert User.objects.get().email == "dora@example.org"


def test_without_mail_there_are_no_such_pages(client: Client, alice: User, settings: Any) -> None:
    settings.SIGN_UP = True
    assert "E-mail" not in client.get("/accounts/sign-up").content.decode()
    assert "An administrator can set a new one." in client.get("/accounts/sign-in").content.decode()
    assert client.get(FORGOTTEN).status_code == 404
    client.force_login(alice)
    assert client.get("/accounts/email").status_code == 404


# A lost password


def test_a_lost_password_is_replaced_by_a_link(mailbox: Mailbox, client: Client, with_address: User) -> None:
    _, raw = ApiToken.objects.issue(with_address, "laptop")
    elsewhere = Client()
    elsewhere.force_login(with_address)
    assert FORGOTTEN in client.get("/accounts/sign-in").content.decode()
    answer = client.post(FORGOTTEN, {"email": "Alice@Example.org"}, follow=True)
    assert "If an account has the address Alice@Example.org, a mail" in answer.content.decode()
    assert send() == 1
    path = link(mailbox)
    form = client.get(path, follow=True)
    assert form.redirect_chain[0][0].endswith("/set-password"), "no page is loaded with the link in its address"
    assert "For the account <strong>alice</strong>" in form.content.decode()
    address = form.redirect_chain[0][0]
    answer = client.post(address, {**PASSWORD, "revoke_tokens": "on"}, follow=True)
    assert "Sign in with the new one. 1 token revoked." in answer.content.decode()
    with_address.refresh_from_db()
    assert with_address.check_password(PASSWORD["new_password1"])
    assert ApiToken.objects.authenticate(raw) is None
    assert elsewhere.get("/history/").status_code == 302
    assert "This link no longer works" in Client().get(path).content.decode()


def test_nobody_learns_who_has_an_account(mailbox: Mailbox, client: Client, with_address: User) -> None:
    answers = []
    for email in (ADDRESS, "nobody@example.org"):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            answer = client.post(FORGOTTEN, {"email": email})
        rows = [query["sql"].split()[0] for query in queries.captured_queries]
        answers.append((answer.status_code, answer["Location"], rows))
        client.get("/accounts/sign-in")
    assert answers[0] == answers[1]
    assert send() == 1
    assert [address for address, _, _ in mailbox.take()] == [ADDRESS]
    assert not OutgoingMail.objects.filter(address__contains="nobody").exists()


def test_mailboxes_are_not_filled(mailbox: Mailbox, client: Client, with_address: User, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(email=ADDRESS)
    for _ in range(3):
        client.post(FORGOTTEN, {"email": ADDRESS})
    assert send() == 2, "one for each account"
    assert {re.findall(r"account “(\w+)”", text)[0] for _, _, text in mailbox.take()} == {"alice", "bob"}
    client.post(FORGOTTEN, {"email": ADDRESS})
    assert send() == 0
    OutgoingMail.objects.update(finished=timezone.now() - mail.RESET_PAUSE)
    mail.prune()
    client.post(FORGOTTEN, {"email": ADDRESS})
    assert send() == 2


def test_an_address_may_ask_so_often(mailbox: Mailbox, client: Client, db: None, settings: Any) -> None:
    settings.PASSWORD_RESET_ATTEMPTS = 2
    statuses = [client.post(FORGOTTEN, {"email": f"{number}@example.org"}).status_code for number in range(3)]
    assert statuses == [302, 302, 429]
    assert OutgoingMail.objects.count() == 2
    assert client.get(FORGOTTEN).status_code == 200


@pytest.mark.parametrize("state", ["suspended", "without password", "changed address"])
def test_some_accounts_get_no_link(mailbox: Mailbox, client: Client, with_address: User, state: str) -> None:
    client.post(FORGOTTEN, {"email": ADDRESS})
    if state == "suspended":
        User.objects.update(is_active=False)
    elif state == "without password":
        with_address.set_unusable_password()
        with_address.save()
    else:
        User.objects.update(email="other@example.org")
    assert send() == 0
    assert not OutgoingMail.objects.exists()


def test_a_link_works_for_an_hour_and_until_the_address_changes(
    mailbox: Mailbox, client: Client, with_address: User
) -> None:
    assert django_settings.PASSWORD_RESET_TIMEOUT == 3600
    client.post(FORGOTTEN, {"email": ADDRESS})
    assert send() == 1
    path = link(mailbox)
    User.objects.update(email="other@example.org")
    assert "This link no longer works" in client.get(path).content.decode()


def test_the_address_of_the_site_is_not_that_of_the_request(
    mailbox: Mailbox, with_address: User, settings: Any
) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    cache.clear()
    Client(headers={"host": "evil.example"}).post(FORGOTTEN, {"email": ADDRESS})
    assert send() == 1
    assert "evil.example" not in mailbox.take()[0][2]
