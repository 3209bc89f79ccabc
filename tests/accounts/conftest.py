"""Mail for the tests of accounts."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.mail import Mailbox, smtp_server


@pytest.fixture
def mailbox(settings: Any) -> Iterator[Mailbox]:
    """A mail server that the service uses, at whose address `https://dream.example.org/dream` people find it."""
    with smtp_server() as (mailbox, port):
        settings.EMAIL_URL = f"smtp://127.0.0.1:{port}"
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
        settings.EMAIL_FROM = "Dreamsite <dream@example.org>"
        settings.SITE_URL = "https://dream.example.org/dream"
        yield mailbox
