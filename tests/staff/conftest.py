"""The client of the tests here."""

import pytest
from django.test import Client

from accounts.models import User


@pytest.fixture
def staff(client: Client, charlie: User) -> Client:
    """A client of a superuser."""
    client.force_login(charlie)
    return client
