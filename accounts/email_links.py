"""The link that makes an address the user's e-mail address: it was mailed there, so whoever has it reads that mailbox."""

from datetime import timedelta

from django.core import signing

from accounts.models import User

MAX_AGE = timedelta(days=1)


def code(user: User, address: str) -> str:
    """Return the signed part of the link for this address."""
    return signing.dumps([user.pk, user.email, address], salt=_salt(user), compress=True)


def address(user: User, code: str) -> str | None:
    """Return the address that the user's link confirms. None if it is too old, another user's, or was used.

    A change of the password or of the address ends the links from before.
    """
    try:
        pk, email, new = signing.loads(code, salt=_salt(user), max_age=MAX_AGE)
    except signing.BadSignature:
        return None
    return str(new) if (pk, email) == (user.pk, user.email) else None


def _salt(user: User) -> str:
    return f"accounts.email_links.{user.get_session_auth_hash()}"
