"""Whether a client that stays connected would still be let in."""

from collections.abc import Callable

import pytest
from django.test import Client

from accounts.access import Access, still_valid
from accounts.models import ApiToken, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def token(alices: ApiToken) -> Access:
    return Access(alices.user_id, token_id=alices.pk)


@pytest.fixture
def session(alice: User, client: Client) -> Access:
    client.force_login(alice)
    return Access(alice.pk, session_key=client.session.session_key)


def suspend(alice: User, client: Client) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)


def sign_out(alice: User, client: Client) -> None:
    client.logout()


def change_password(alice: User, client: Client) -> None:
    alice.set_password("another password")
    alice.save()


def revoke_token(alice: User, client: Client) -> None:
    alice.tokens.get().revoke()


@pytest.mark.parametrize(
    ("end", "remaining"),
    [(suspend, ""), (sign_out, "token"), (change_password, "token"), (revoke_token, "session")],
)
def test_what_ends_the_access(
    end: Callable[[User, Client], None], remaining: str, token: Access, session: Access, alice: User, client: Client
) -> None:
    assert still_valid({token, session}) == {token, session}
    end(alice, client)
    valid = still_valid({token, session})
    assert valid == {access for access, name in ((token, "token"), (session, "session")) if name == remaining}


def test_a_session_of_another_user_is_not_theirs(session: Access, bob: User) -> None:
    assert still_valid({Access(bob.pk, session_key=session.session_key), Access(bob.pk)}) == set()
