"""`/.well-known/security.txt` says whom to tell."""

from datetime import UTC, datetime, timedelta

from django.test import Client
from pytest_django import Settings

from dreamsite.checks import check_settings

ADDRESS = "/.well-known/security.txt"


def test_it_has_the_contacts_and_a_date_within_a_year(client: Client, settings: Settings) -> None:
    settings.SECURITY_CONTACT = ["mailto:security@example.org", "https://example.org/security"]
    response = client.get(ADDRESS)
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    fields = [line.split(": ", 1) for line in response.content.decode().splitlines()]
    assert [value for name, value in fields if name == "Contact"] == settings.SECURITY_CONTACT
    (expires,) = [datetime.fromisoformat(value) for name, value in fields if name == "Expires"]
    assert timedelta(days=30) < expires - datetime.now(UTC) < timedelta(days=365)


def test_without_a_contact_there_is_none(client: Client) -> None:
    assert client.get(ADDRESS).status_code == 404


def test_contacts_are_addresses(settings: Settings) -> None:
    settings.SECURITY_CONTACT = ["security@example.org"]
    (error,) = check_settings(None)
    assert "SECURITY_CONTACT" in error.msg
    assert "mailto:" in error.msg
