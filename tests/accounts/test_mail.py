"""Mail: what is sent over a real SMTP server, to whom, and what happens while that does not answer."""

import json
import logging
import re
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from accounts import mail
from accounts.models import AuditEntry, OutgoingMail, User
from dreamsite.checks import check_mail, check_settings
from dreamsite.mail_server import mail_settings
from generation.maintenance import account_deletion, account_jobs, data_export
from generation.models import DiffusionModel
from tests.support.mail import Mailbox
from tests.support.servers import free_port

ADDRESS = "alice@example.org"


@pytest.fixture
def alice(alice: User) -> User:
    User.objects.filter(pk=alice.pk).update(email=ADDRESS)
    alice.refresh_from_db()
    return alice


def send() -> int:
    return mail.send_due(lambda: False)


def make_token(user: User) -> str:
    call_command("createtoken", user.username, "--name=laptop", stdout=(out := StringIO()))
    return out.getvalue().strip()


def test_a_new_token_is_told_without_its_secret(mailbox: Mailbox, client: Client, alice: User) -> None:
    client.force_login(alice)
    client.post("/tokens/", {"name": 'my "laptop" & more', "days": "", "password": "alice-password"})
    assert not mailbox.received
    assert send() == 1
    (message,) = [message for _, message in mailbox.received]
    assert (message["From"], message["Auto-Submitted"]) == ("Dreamsite <dream@example.org>", "auto-generated")
    ((address, subject, text),) = mailbox.take()
    assert (address, subject) == (ADDRESS, "A new API token for Dreamsite")
    token = alice.tokens.get()
    assert text.startswith('Hello alice,\n\nYour account has a new API token: “my "laptop" & more”, which begins with ')
    assert f"{token.prefix}." in text
    assert "https://dream.example.org/dream/tokens/\n" in text
    assert "https://dream.example.org/dream/settings/" in text
    secret = make_token(alice)
    stored = json.dumps([str(vars(row)) for row in OutgoingMail.objects.all()])
    assert secret not in stored
    assert send() == 1
    assert secret not in mailbox.take()[0][2]


def test_a_finished_export_is_told(mailbox: Mailbox, alice: User, redis: None) -> None:
    data_export.request(alice)
    account_jobs.run_all(lambda: False)
    assert send() == 1
    ((address, subject, text),) = mailbox.take()
    assert (address, subject) == (ADDRESS, "Your data of Dreamsite are ready")
    assert "https://dream.example.org/dream/settings/export\n" in text


def test_notices_can_be_switched_off(
    mailbox: Mailbox, client: Client, alice: User, bob: User, settings: Any, tiny_edit: DiffusionModel
) -> None:
    client.force_login(alice)
    page = client.get("/settings/").content.decode()
    assert 'name="notify_of_tokens"' in page
    assert 'name="notify_of_alerts"' not in page, "for operators alone"
    client.post("/settings/", {"theme": "auto", "default_model": "", "notify_of_exports": "on"})
    alice.refresh_from_db()
    assert (alice.notify_of_tokens, alice.notify_of_exports, alice.notify_of_alerts) == (False, True, True)
    make_token(alice)
    make_token(bob)  # who has no address
    User.objects.update(notify_of_tokens=True)
    settings.EMAIL_NOTICES = ["exports"]
    assert 'name="notify_of_tokens"' not in client.get("/settings/").content.decode()
    make_token(alice)
    settings.EMAIL_URL = ""
    settings.EMAIL_NOTICES = ["tokens"]
    make_token(alice)
    assert "E-mail" not in client.get("/settings/").content.decode()
    assert not OutgoingMail.objects.exists()


def test_nothing_is_lost_while_the_server_is_away(
    mailbox: Mailbox, alice: User, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.EMAIL_PORT, port = free_port(), settings.EMAIL_PORT
    make_token(alice)
    make_token(alice)
    assert send() == 0
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1, "one try is enough"
    settings.EMAIL_PORT = port
    assert send() == 1
    assert send() == 0, "the first one waits"
    OutgoingMail.objects.filter(finished=None).update(lease_expires=timezone.now() - timedelta(seconds=1))
    assert send() == 1
    ids = {message["Message-ID"] for _, message in mailbox.received}
    assert len(ids) == 2
    assert all(text.endswith("@dream.example.org>") for text in ids)
    OutgoingMail.objects.update(finished=timezone.now() - mail.RESET_PAUSE)
    account_jobs.run_all(lambda: False)
    assert not OutgoingMail.objects.exists()


@pytest.mark.parametrize(("refusal", "is_kept"), [("451 try later", True), ("550 no such user", False)])
def test_a_refusal_is_final_if_the_server_says_so(
    mailbox: Mailbox, alice: User, caplog: pytest.LogCaptureFixture, refusal: str, is_kept: bool
) -> None:
    mailbox.refusal = refusal
    make_token(alice)
    assert send() == 0
    assert OutgoingMail.objects.exists() == is_kept
    assert "SMTPRecipientsRefused" in caplog.text
    assert "alice" not in caplog.text


@pytest.mark.parametrize("address", [f"bob@{60 * 'ü'}.example", "bob@\N{LEFT-TO-RIGHT MARK}.example"])
def test_an_address_that_cannot_be_written_stops_no_other_mail(
    mailbox: Mailbox, client: Client, alice: User, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    client.force_login(alice)
    assert client.post("/accounts/email", {"email": address, "password": "alice-password"}).status_code == 302
    make_token(alice)
    assert send() == 1
    assert OutgoingMail.objects.get().kind == OutgoingMail.Kind.TOKEN
    assert "cannot be written and is dropped: UnicodeError" in caplog.text
    assert "bob" not in caplog.text


def test_what_cannot_be_sent_in_a_day_is_dropped(
    mailbox: Mailbox, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    make_token(alice)
    OutgoingMail.objects.update(created=timezone.now() - mail.MAX_AGE)
    account_jobs.run_all(lambda: False)
    assert not OutgoingMail.objects.exists()
    assert "was not sent within a day" in caplog.text


def test_the_suspended_get_no_mail(mailbox: Mailbox, alice: User) -> None:
    make_token(alice)
    User.objects.update(is_active=False)
    assert send() == 0
    assert not OutgoingMail.objects.exists()


def test_a_deleted_account_leaves_no_address(
    mailbox: Mailbox, client: Client, alice: User, charlie: User, redis: None
) -> None:
    client.force_login(charlie)
    page = client.get(f"/admin/accounts/user/{alice.pk}/change/").content.decode()
    assert ADDRESS in page
    fields = dict(re.findall(r'<input type="text" name="(\w+)" value="([^"]*)"', page))
    answer = client.post(
        f"/admin/accounts/user/{alice.pk}/change/",
        {**fields, "username": "alice", "email": "other@example.org", "theme": "auto", "blur_flagged": "on"},
    )
    assert answer.status_code == 302
    entry = AuditEntry.objects.get(action="user.change")
    assert entry.after is not None
    assert entry.after["email"] == "(not shown)"
    make_token(alice)
    mail.ask_to_confirm(alice, "third@example.org")
    account_deletion.request(User.objects.get(pk=alice.pk))
    account_jobs.run_all(lambda: False)
    assert not User.objects.filter(username="alice").exists()
    rows = [str(vars(row)) for model in (AuditEntry, OutgoingMail, User) for row in model.objects.all()]
    assert [row for row in rows if re.search("alice@|other@|third@", row)] == []


# Settings


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example.org", ("mail.example.org", 25, False, False)),
        ("smtp+tls://u:p%40ss@mail.example.org", ("mail.example.org", 587, True, False)),
        ("smtp+ssl://u:p%40ss@mail.example.org:4650", ("mail.example.org", 4650, False, True)),
    ],
)
def test_a_mail_server_is_named_by_an_address(url: str, expected: tuple[Any, ...]) -> None:
    found = mail_settings(url)
    tls, ssl = found.get("EMAIL_USE_TLS", False), found.get("EMAIL_USE_SSL", False)
    assert (found["EMAIL_HOST"], found["EMAIL_PORT"], tls, ssl) == expected
    assert found["EMAIL_HOST_PASSWORD"] == ("p@ss" if "u:" in url else None)


@pytest.mark.parametrize(
    "url", ["mail.example.org", "smtps://a:secret@b", "smtp://", "smtp://a:secret@b:port", "filemail://x"]
)
def test_other_addresses_are_refused_without_their_password(url: str) -> None:
    with pytest.raises(SystemExit, match="EMAIL_URL is not an address such as") as refusal:
        mail_settings(url)
    assert "secret" not in str(refusal.value)


def test_a_password_that_cannot_be_sent_is_refused_and_not_shown() -> None:
    with pytest.raises(SystemExit, match="must have ASCII characters alone") as refusal:
        mail_settings("smtp+tls://user:secret-%C3%BC@mail.example.org")
    assert "secret" not in str(refusal.value)


def test_the_checks_want_what_a_mail_needs(settings: Any) -> None:
    settings.EMAIL_URL = "smtp://user:secret@mail.example.org"
    settings.EMAIL_NOTICES = ["everything"]
    errors = [error.msg for error in check_settings(None)]
    assert len(errors) == 3
    assert not [error for error in errors if "secret" in error]
    assert [error.split("=")[0] for error in errors] == ["SITE_URL", "EMAIL_FROM", "EMAIL_NOTICES"]
    settings.SITE_URL, settings.EMAIL_FROM, settings.EMAIL_NOTICES = "https://a.example", "A <a@b.example>", []
    assert check_settings(None) == []
    settings.EMAIL_HOST = "mail.example.org"
    assert [warning.id for warning in check_mail(None)] == ["dreamsite.EMAIL_URL"]
    settings.EMAIL_HOST = "127.0.0.1"
    assert check_mail(None) == []
