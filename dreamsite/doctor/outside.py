"""What is outside of the service: the proxy before it, the mail server, the hub of models."""

import ssl
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from smtplib import SMTPException, SMTPNotSupportedError
from urllib.parse import urlsplit

import httpx2
from django.conf import settings
from django.core.mail import get_connection
from huggingface_hub import HfApi, constants, get_session, get_token

from dreamsite.doctor.findings import Finding, clock
from dreamsite.doctor.parts import HTTP_CLOCK_SECONDS
from dreamsite.health import SEEN_SIGNER
from generation.repositories.hub import TIMEOUT_SECONDS
from generation.repositories.hub_errors import HubFailed, explained

_HTTP_SECONDS = 15.0
_ENCRYPTION_ADVICE = (
    "In EMAIL_URL smtp+tls is for STARTTLS, usually port 587; smtp+ssl for TLS from the start, usually port 465; smtp for "
    "neither."
)


def proxy(url: str) -> Iterator[Finding]:
    """How a request to the public address of the site arrives in the web process."""
    if not url:
        yield Finding(
            "proxy", "SITE_URL is not set, so no request was sent through one; --url names an address to try."
        )
        return
    try:
        response = httpx2.get(f"{url}/ready/request", params={"sign": SEEN_SIGNER.sign("")}, timeout=_HTTP_SECONDS)
    except httpx2.HTTPError as error:
        advice = "Look whether name, certificate, proxy and web process are right."
        yield Finding("proxy", f"{url} cannot be reached: {str(error) or type(error).__name__}.", advice)
        return
    if response.is_redirect:
        yield _redirected(url, response.headers["location"])
    elif response.status_code != 200:
        yield _refused(url, response)
    else:
        yield from _seen(url, response.json())


def _redirected(url: str, location: str) -> Finding:
    if location.startswith(f"{url}/ready/request"):
        advice = "Let it set X-Forwarded-Proto to the scheme of the request, as deploy/nginx.conf does."
        return Finding("proxy", "HTTPS is on, and the proxy does not say that a request came by HTTPS.", advice)
    advice = "Set SITE_URL to the address at which browsers end, beginning with https://."
    return Finding("proxy", f"{url} redirects to {location.partition('?')[0]}.", advice)


def _refused(url: str, response: httpx2.Response) -> Finding:
    host = urlsplit(url).hostname
    if response.status_code == 400:
        return Finding("proxy", f"The service does not answer to {host}.", f"Add {host} to ALLOWED_HOSTS.")
    if response.status_code == 404:
        return Finding(
            "proxy",
            f"{url} leads to another service, or to one with another SECRET_KEY or below another path.",
            "Look at the address, at SECRET_KEY, and at URL_PREFIX and the path that the proxy passes on.",
        )
    text = f"{url} answers with the status {response.status_code}."
    return Finding("proxy", text, "Look into the logs of the proxy and of the web process.")


def _seen(url: str, seen: dict[str, str]) -> Iterator[Finding]:
    expected = urlsplit(url)
    host = expected.netloc.rpartition("@")[2]
    if seen["scheme"] != expected.scheme:
        advice = "Set HTTPS=on, and let the proxy set X-Forwarded-Proto."
        yield Finding("proxy", f"A request by {expected.scheme} arrives as {seen['scheme']}.", advice)
    if seen["host"] != host:
        text = f"A request for {host} arrives as one for {seen['host']}."
        yield Finding("proxy", text, "Let the proxy pass on Host as the browser sent it, with the port.")
    if seen["path"] != f"{expected.path}/ready/request":
        below = seen["path"].removesuffix("/ready/request") or "/"
        text = f"The site is at {expected.path or '/'}, but its own addresses begin with {below}."
        yield Finding("proxy", text, "Set URL_PREFIX to the path, or let a trusted proxy send X-Forwarded-Prefix.")
    # The doctor sends none, so a proxy did; and if that were trusted, its own address would not be that of the client.
    if seen["forwarded_for"] and seen["address"] not in seen["forwarded_for"]:
        text = f"The proxy at {seen['address']} is not trusted, so all clients count as one."
        yield Finding("proxy", text, f"Add {seen['address']} to TRUSTED_PROXIES if it is yours.")
    elif settings.TRUSTED_PROXIES and not seen["forwarded_for"]:
        text = "A request through the proxy arrives without the address of its client, so all clients count as one."
        yield Finding("proxy", text, "Let the proxy set X-Forwarded-For, as deploy/nginx.conf does.")
    else:
        yield Finding("proxy", f"A request to {url} arrives from {seen['address']}, by {seen['scheme']}.")


def mail() -> Iterator[Finding]:
    """Whether the mail server can be reached and takes the password. No mail is sent."""
    if not settings.EMAIL_URL:
        yield Finding("mail", "EMAIL_URL is not set, so no mail is sent.")
        return
    where = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    connection = get_connection("django.core.mail.backends.smtp.EmailBackend")
    try:
        with closing(connection):
            connection.open()
    except ssl.SSLError as error:
        text = f"{where} and this machine agree on no encryption: {error.reason or error}."
        yield Finding("mail", text, _ENCRYPTION_ADVICE)
    except SMTPNotSupportedError as error:
        # STARTTLS, or passwords, which many servers take on an encrypted connection alone.
        yield Finding("mail", f"{where} refuses: {str(error).rstrip('.')}.", _ENCRYPTION_ADVICE)
    except SMTPException as error:
        yield Finding("mail", f"{where} refuses: {str(error).rstrip('.')}.", "Correct user and password in EMAIL_URL.")
    except OSError as error:
        yield Finding("mail", f"{where} cannot be reached: {error.strerror or error}.", "Correct EMAIL_URL.")
    else:
        yield Finding("mail", f"{where} answers{' and takes the password' if settings.EMAIL_HOST_USER else ''}.")


def hub() -> Iterator[Finding]:
    """Whether the hub of models can be reached, and takes the token."""
    if settings.MODELS_OFFLINE:
        yield Finding("hub", "MODELS_OFFLINE is on, so it is not asked.")
        return
    try:
        with explained("", "", settings.MODELS_DIR):
            response = get_session().head(constants.ENDPOINT, timeout=TIMEOUT_SECONDS)
            name = HfApi().whoami()["name"] if get_token() else ""
    except HubFailed as error:
        yield Finding(
            "hub",
            error.message,
            "Until then only models on the disk can be used; MODELS_OFFLINE=on says that this is meant.",
        )
        return
    token = f" and takes the token of {name}" if name else "; HF_TOKEN is not set, so gated models are out of reach"
    yield Finding("hub", f"{constants.ENDPOINT} answers{token}.")
    if date := response.headers.get("date"):
        yield clock("the hub", parsedate_to_datetime(date), datetime.now(UTC), HTTP_CLOCK_SECONDS)
