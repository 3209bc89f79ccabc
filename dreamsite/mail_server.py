"""The mail server that EMAIL_URL names."""

from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

_PORTS = {"smtp": 25, "smtp+tls": 587, "smtp+ssl": 465}
"""The schemes and their usual ports: without encryption, with STARTTLS, with TLS from the start."""


def mail_settings(url: str) -> dict[str, Any]:
    """Return Django's settings for this address of a mail server, none for an empty one.

    Raises SystemExit, without a part of the address in its message: it has a password.
    """
    if not url:
        return {}
    try:
        found: dict[str, Any] = environ.Env.email_url_config(url)
        found["EMAIL_PORT"] = found["EMAIL_PORT"] or _PORTS[urlsplit(url).scheme]
    except (ImproperlyConfigured, ValueError, KeyError):
        found = {}
    if not found.get("EMAIL_HOST") or urlsplit(url).scheme not in _PORTS:
        raise SystemExit(
            "EMAIL_URL is not an address such as smtp+tls://user:password@mail.example.org:587. It begins with "
            f"{', '.join(_PORTS)}; write special characters of the password as %40 and the like. See docs/settings.md."
        )
    # smtplib sends no others.
    if not f"{found['EMAIL_HOST_USER'] or ''}{found['EMAIL_HOST_PASSWORD'] or ''}".isascii():
        raise SystemExit(
            "User and password in EMAIL_URL must have ASCII characters alone; give this account another password."
        )
    return found
