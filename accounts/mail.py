"""Mail to users: noted in the database with what it is about, and sent by the reaper.

So a page answers alike and as fast whatever the mail server does, and what was accepted is sent although the server is away
for a while. A text is made when it is sent: the links in it, which let somebody in, are stored nowhere.
"""

import logging
import smtplib
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.forms import PasswordResetForm
from django.contrib.auth.tokens import default_token_generator
from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string
from django.urls import get_script_prefix, reverse
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from accounts import email_links
from accounts.models import OutgoingMail, User

logger = logging.getLogger(__name__)

Kind = OutgoingMail.Kind

MAX_AGE = timedelta(days=1)
"""For how long it is tried to send a mail."""
RESET_PAUSE = timedelta(minutes=10)
"""How long after a mail with a new link a user gets no other, so that nobody can fill their mailbox."""
_FIRST_DELAY = timedelta(seconds=30)
_MAX_DELAY = timedelta(hours=1)

SWITCHES = {Kind.TOKEN: "notify_of_tokens", Kind.EXPORT: "notify_of_exports", Kind.ALERTS: "notify_of_alerts"}
"""The notices that the setting EMAIL_NOTICES and the user can switch off."""


class _ServerIsAway(Exception):
    """The server does not take this mail now, and probably no other."""


def is_on() -> bool:
    """Return whether the service sends mail."""
    return bool(settings.EMAIL_URL)


def notify(kind: OutgoingMail.Kind, user: User, **details: Any) -> None:
    """Note a notice to the user, unless it is switched off or the user has no address. `details` are for its template."""
    if is_on() and user.email and kind in settings.EMAIL_NOTICES and getattr(user, SWITCHES[kind]):
        OutgoingMail.objects.create(kind=kind, user=user, details=details)


def request_password_reset(address: str) -> None:
    """Note that somebody has lost the password of an account with this address, whether there is one or not."""
    OutgoingMail.objects.create(kind=Kind.FORGOTTEN_PASSWORD, address=address)


def ask_to_confirm(user: User, address: str) -> None:
    """Note a mail to this address with the link that makes it the user's."""
    OutgoingMail.objects.create(kind=Kind.CONFIRMATION, user=user, address=address)


def tell_of_change(user: User, former: str) -> None:
    """Note a mail to the former address that it is no longer the user's."""
    OutgoingMail.objects.create(kind=Kind.CHANGED_ADDRESS, user=user, address=former)


def send_due(should_stop: Callable[[], bool]) -> int:
    """Send the mails that wait, as long as the server takes them. Returns how many were sent.

    Raises Django's database errors; the next round, of any process, continues.
    """
    count = 0
    while is_on() and not should_stop() and (mail := OutgoingMail.objects.claim()):
        if mail.kind == Kind.FORGOTTEN_PASSWORD:
            _write_to_users(mail)
        elif (message := _message(mail)) is None:
            mail.delete()
        else:
            try:
                count += _send(mail, message)
            except _ServerIsAway:
                break
    return count


def prune() -> None:
    """Delete what was sent, once it no longer bounds the next one, and what could not be sent in time."""
    now = timezone.now()
    sent = OutgoingMail.objects.filter(finished__lte=now - RESET_PAUSE)
    if sent.exists():
        sent.delete()
    late = OutgoingMail.objects.filter(finished=None, created__lte=now - MAX_AGE)
    for mail in late:
        logger.error("mail %s (%s) was not sent within a day and is dropped", mail.pk, mail.kind)
        mail.delete()


def address_of(name: str, *args: str) -> str:
    """Return the absolute address of a page as SITE_URL begins it, for who reads a mail."""
    return str(settings.SITE_URL) + "/" + reverse(name, args=args).removeprefix(get_script_prefix())


def _write_to_users(request: OutgoingMail) -> None:
    """Replace the request by a mail for each active user with its address."""
    recent = OutgoingMail.objects.filter(kind=Kind.PASSWORD_RESET).values("user")
    users = PasswordResetForm().get_users(request.address)
    with transaction.atomic():
        for user in User.objects.filter(pk__in=[user.pk for user in users]).exclude(pk__in=recent):
            OutgoingMail.objects.create(kind=Kind.PASSWORD_RESET, user=user)
        request.delete()


def _message(mail: OutgoingMail) -> EmailMessage | None:
    """Return the message, or None if there is nobody to send it to any more."""
    user = mail.user
    if user is None or not user.is_active or not (address := mail.address or user.email):
        return None
    context = {"user": user, "address": address, "site": settings.SITE_URL, **mail.details, **_links(mail, user)}
    subject, _, text = render_to_string(f"mail/{mail.kind}.txt", context).lstrip().partition("\n")
    return EmailMessage(
        subject.strip(),
        text.strip() + "\n",
        settings.EMAIL_FROM,
        [address],
        headers={
            # The same in each attempt: if an answer is lost, the recipient's server can tell that it has the mail already.
            "Message-ID": f"<{mail.pk}@{urlsplit(settings.SITE_URL).hostname}>",
            # So nobody's program answers (RFC 3834).
            "Auto-Submitted": "auto-generated",
        },
    )


def _links(mail: OutgoingMail, user: User) -> dict[str, str]:
    match mail.kind:
        case Kind.PASSWORD_RESET:
            user_id = urlsafe_base64_encode(force_bytes(user.pk))
            token = default_token_generator.make_token(user)
            return {"link": address_of("password_reset_confirm", user_id, token)}
        case Kind.CONFIRMATION:
            return {"link": address_of("confirm-email", email_links.code(user, mail.address))}
        case Kind.TOKEN:
            return {"link": address_of("tokens"), "switch": address_of("settings")}
        case Kind.EXPORT:
            return {"link": address_of("export"), "switch": address_of("settings")}
        case Kind.ALERTS:
            return {"link": address_of("operations"), "switch": address_of("settings")}
    return {}


def _send(mail: OutgoingMail, message: EmailMessage) -> bool:
    """Send a claimed mail. Returns False if it was dropped, since it cannot be sent or the server will never take it.

    Raises `_ServerIsAway` if it is released for later.
    """
    try:
        message.message()
    except ValueError as error:
        # Some addresses that Django's forms take cannot be written in a header: of a name of letters beyond ASCII that is too
        # long, or that has a character which no name may have.
        logger.warning("mail %s (%s) cannot be written and is dropped: %s", mail.pk, mail.kind, type(error).__name__)
        mail.delete()
        return False
    try:
        message.send()
    except OSError as error:
        # `SMTPException` is one, too. The texts of servers name the recipient, which is none of the log's business.
        reason = f"{type(error).__name__} {getattr(error, 'smtp_code', '')}".strip()
        if _is_final(error):
            logger.warning("mail %s (%s) is refused and dropped: %s", mail.pk, mail.kind, reason)
            mail.delete()
            return False
        delay = min(_FIRST_DELAY * 2 ** min(mail.attempt - 1, 10), _MAX_DELAY)
        logger.warning("mail %s (%s) was not sent and waits %s: %s", mail.pk, mail.kind, delay, reason)
        mail.release(delay)
        raise _ServerIsAway from error
    mail.finish()
    return True


def _is_final(error: OSError) -> bool:
    """Return whether the server will never take this mail: the recipient or the content is wrong (RFC 5321, 4.2.1)."""
    match error:
        case smtplib.SMTPRecipientsRefused():
            return all(code >= 500 for code, _ in error.recipients.values())
        case smtplib.SMTPDataError():
            return error.smtp_code >= 500
    return False
