"""The reviewers of the tests here."""

import pytest
from django.test import Client

from accounts.models import User
from tests.support.roles import REVIEWERS, staff


@pytest.fixture
def dora(db: None) -> User:
    """A reviewer."""
    return staff("dora", REVIEWERS)


@pytest.fixture
def erin(db: None) -> User:
    """Another one."""
    return staff("erin", REVIEWERS)


@pytest.fixture
def desk(client: Client, dora: User) -> Client:
    client.force_login(dora)
    return client
