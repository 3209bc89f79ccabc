"""Mail to operators about what needs attention."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import OutgoingMail, User
from generation.images import certificates
from generation.jobs import control
from generation.models import State
from generation.staff.operations import alerts, attention, dashboard
from tests.support.generations import make_generation
from tests.support.roles import OPERATORS, REVIEWERS, staff
from tests.support.workers import register_worker

pytestmark = pytest.mark.usefixtures("redis", "tiny_edit")


@pytest.fixture(autouse=True)
def _mail(settings: Any) -> None:
    settings.EMAIL_URL = "smtp://127.0.0.1"


def mails() -> list[OutgoingMail]:
    attention.mail_alerts()
    found = list(OutgoingMail.objects.select_related("user"))
    OutgoingMail.objects.all().delete()
    return found


def test_operators_are_told_at_most_once_a_day_or_an_hour_if_it_is_critical(charlie: User) -> None:
    people = [charlie, staff("olga", OPERATORS), staff("rita", REVIEWERS), staff("otto", OPERATORS)]
    User.objects.exclude(username="otto").update(email="staff@example.org")
    assert {mail.user.username for mail in mails() if mail.user} == {"charlie", "olga"}
    assert len(people) == 4
    assert mails() == []
    User.objects.update(alerts_mailed=timezone.now() - timedelta(hours=1))
    assert mails() == [], "no worker is no harm while nothing waits"
    make_generation(charlie, State.QUEUED)
    (first, _) = mails()
    assert any("has no active worker; 1 request waits" in text for text in first.details["alerts"])
    assert mails() == []
    User.objects.update(alerts_mailed=timezone.now() - timedelta(hours=1), notify_of_alerts=False)
    assert mails() == []


def test_mail_that_waits_is_an_alert(charlie: User) -> None:
    register_worker("w")
    OutgoingMail.objects.create(kind=OutgoingMail.Kind.EXPORT, user=charlie)
    assert dashboard.current_alerts() == []
    OutgoingMail.objects.update(created=timezone.now() - alerts.RECENT)
    (alert,) = dashboard.current_alerts()
    assert alert.text.startswith("1 mail waits for more than 15 minutes.")


def test_hosts_with_different_watermark_keys_are_named(charlie: User, settings: Settings) -> None:
    own = certificates.key_name(settings.WATERMARK_KEY.encode())
    register_worker("w", host="one", watermark_key=own)
    register_worker("of-an-earlier-release", host="two")
    assert dashboard.current_alerts() == []
    register_worker("x", host="three", watermark_key="0badc0de")
    (alert,) = dashboard.current_alerts()
    assert f"different watermark keys: {own} on " in alert.text
    assert "0badc0de on three" in alert.text
    assert "Set WATERMARK_KEY on all hosts" in alert.text
    assert settings.WATERMARK_KEY not in alert.text


def test_without_alerts_there_is_no_mail(charlie: User) -> None:
    User.objects.update(email="staff@example.org")
    register_worker("w")
    assert mails() == []
    control.pause("default", "olga")
    (mail,) = mails()
    assert "was paused by olga" in mail.details["alerts"][0]
