"""System checks of the settings. `dreamsite.settings` itself refuses only values that it cannot parse or continue with."""

import ipaddress
import os
import re
from collections.abc import Iterator
from email.utils import parseaddr
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from redis.connection import SSLConnection, UnixDomainSocketConnection, parse_url

from dreamsite import accent, brand, url_prefix

SETTINGS = "settings"
"""The tag of these checks. Commands that start often run only these, since all checks together import every page."""

_CHOICES = {
    "LOG_FORMAT": ("line", "json"),
    "IMAGE_URLS": ("signed", "data"),
    "SAFETY_CHECK": ("optional", "required"),
    "SAFETY_CHECKER": ("opennsfw", "stable-diffusion"),
    "DTYPE": ("auto", "float32", "bfloat16", "float16"),
    "CONFIRMED_PICTURES": ("owner", "blur", "block"),
}
_POSITIVE = ("MAX_UPLOAD_BYTES", "MAX_UPLOAD_PIXELS", "LEASE_SECONDS", "MAX_BATCH")
_NOT_NEGATIVE = ("WORKERS", "THREADS")
_SHARES = ("REVIEW_SAMPLE", "REVIEW_UNCHECKED_SAMPLE", "MIN_FREE_DISK")
_NO_LIMIT = ("CONNECTIONS_PER_ADDRESS", "SIGN_UP_ATTEMPTS", "PASSWORD_RESET_ATTEMPTS")
_NOTICES = ("tokens", "exports", "alerts")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_WEB_ADDRESS = re.compile(r"https?://[^/?#\s]+/?")
_SITE_ADDRESS = re.compile(r"https?://[^/?#\s]+(/[^?#\s]*)?")
_CONTACT = re.compile(r"(mailto:|https://|tel:)\S+")
_MAX_NAME = 40
_MAX_S3_EXPIRY_SECONDS = 7 * 24 * 3600


@register(SETTINGS)
def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Return an error for each setting with a value that is not allowed."""
    return [
        Error(f"{name}={getattr(settings, name)!r} {rule}.", id=f"dreamsite.{name}") for name, rule in _broken_rules()
    ]


@register(Tags.security, deploy=True)
def check_mail(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Return a warning if links that let somebody in would be sent for all on the way to read."""
    is_encrypted = settings.EMAIL_USE_TLS or settings.EMAIL_USE_SSL
    if not settings.EMAIL_URL or is_encrypted or _is_loopback(settings.EMAIL_HOST):
        return []
    message = "EMAIL_URL is not encrypted: begin it with smtp+tls:// (STARTTLS) or smtp+ssl:// (TLS from the start)."
    return [Warning(message, id="dreamsite.EMAIL_URL")]


@register(Tags.security, deploy=True)
def check_redis(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Return a warning for each way in which others could read or write what is in the Redis of `REDIS_URL`."""
    return [Warning(f"REDIS_URL {problem}.", id="dreamsite.REDIS_URL") for problem in _redis_problems()]


def _redis_problems() -> Iterator[str]:
    options: dict[str, Any] = parse_url(settings.REDIS_URL)  # type: ignore[no-untyped-call]
    connection_class = options.get("connection_class")
    if connection_class is UnixDomainSocketConnection:
        # Whoever may open the socket is decided by its permissions.
        return
    if not (options.get("password") or options.get("ssl_certfile")):
        yield "has no password: set one in the server, or better an ACL user, and write it as rediss://user:password@host"
    if connection_class is not SSLConnection:
        if not _is_loopback(options.get("host", "localhost")):
            yield "is not encrypted: enable TLS in the server, and begin the address with rediss://"
    elif options.get("ssl_cert_reqs") == "none":
        yield "accepts any certificate: leave out ssl_cert_reqs=none, and name the authority by ssl_ca_certs=path"


def _can_be_written(file: Path) -> bool:
    """Return whether the file can be written; if there is none, whether it can be created."""
    return os.access(file if file.exists() else file.parent, os.W_OK) and not file.is_dir()


def _is_mail_address(text: str) -> bool:
    try:
        validate_email(parseaddr(text)[1])
    except ValidationError:
        return False
    return text.isprintable()


def _is_logo(path: str) -> bool:
    try:
        return bool(brand.read_logo(path))
    except brand.InvalidLogo:
        return False


def _certificate_problem() -> str:
    # Only who has set them waits for the library.
    from generation.images import certificates

    try:
        certificates.read(Path(settings.C2PA_PRIVATE_KEY), Path(settings.C2PA_CERTIFICATES))
    except certificates.CertificateError as error:
        return str(error)
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _broken_rules() -> Iterator[tuple[str, str]]:
    """Yield the name and the broken rule of each setting with a value that is not allowed."""
    for name, choices in _CHOICES.items():
        if getattr(settings, name) not in choices:
            yield name, f"must be {', '.join(choices[:-1])} or {choices[-1]}"
    for name in _POSITIVE:
        if getattr(settings, name) <= 0:
            yield name, "must be above 0"
    for name in _NOT_NEGATIVE:
        if getattr(settings, name) < 0:
            yield name, "must be 0 or more; with 0, GPUs and cores decide"
    for name in _NO_LIMIT:
        if getattr(settings, name) < 0:
            yield name, "must be 0 or more; 0 is no limit"
    if not _DEVICE.fullmatch(settings.DEVICE):
        yield "DEVICE", "must be auto, cpu, cuda, cuda:<number> or mps"
    if not all(_CONTACT.fullmatch(contact) for contact in settings.SECURITY_CONTACT):
        yield (
            "SECURITY_CONTACT",
            "must be addresses such as mailto:security@example.org or https://example.org/security",
        )
    if settings.SECURITY_LOG and not _can_be_written(Path(settings.SECURITY_LOG)):
        yield "SECURITY_LOG", "must be a file that can be written, in a directory that exists"
    if not (settings.SITE_NAME.isprintable() and 1 <= len(settings.SITE_NAME) <= _MAX_NAME):
        yield "SITE_NAME", f"must be 1 to {_MAX_NAME} characters in one line"
    if settings.SITE_ACCENT and not accent.FORM.fullmatch(settings.SITE_ACCENT):
        yield "SITE_ACCENT", "must be a colour such as #2f55d4"
    if settings.SITE_LOGO and not _is_logo(settings.SITE_LOGO):
        yield "SITE_LOGO", brand.LOGO_RULE
    if not all(_is_network(network) for network in settings.METRICS_NETWORKS):
        yield "METRICS_NETWORKS", "must be addresses or networks such as 127.0.0.1 and 10.0.0.0/8"
    if settings.SITE_URL and not _SITE_ADDRESS.fullmatch(settings.SITE_URL):
        yield "SITE_URL", "must be an address such as https://dream.example.org"
    if settings.EMAIL_URL and not settings.SITE_URL:
        yield "SITE_URL", "must be set if EMAIL_URL is: mails have links to the site"
    if settings.EMAIL_URL and not _is_mail_address(settings.EMAIL_FROM):
        yield "EMAIL_FROM", "must be an address such as dream@example.org or Dreamsite <dream@example.org>"
    if not set(settings.EMAIL_NOTICES) <= set(_NOTICES):
        yield "EMAIL_NOTICES", f"must be none or some of {', '.join(_NOTICES)}"
    if bool(settings.C2PA_CERTIFICATES) != bool(settings.C2PA_PRIVATE_KEY):
        yield "C2PA_PRIVATE_KEY", "must be set if C2PA_CERTIFICATES is, and the other way round"
    elif settings.C2PA_CERTIFICATES and (problem := _certificate_problem()):
        yield "C2PA_CERTIFICATES", f"must be the certificates of C2PA_PRIVATE_KEY, its own first. {problem}"
    if settings.C2PA_TIMESTAMP_URL and not settings.C2PA_TIMESTAMP_URL.startswith(("http://", "https://")):
        yield "C2PA_TIMESTAMP_URL", "must be an address such as http://timestamp.example.org"
    for name in _SHARES:
        if not 0 <= getattr(settings, name) <= 1:
            yield name, "must be from 0 to 1"
    if settings.URL_PREFIX and not url_prefix.is_valid(settings.URL_PREFIX):
        yield "URL_PREFIX", "must be a path such as /dream, and begin with none of the site's own, such as /studio"
    if settings.HSTS_PRELOAD and not settings.HSTS_SUBDOMAINS:
        yield "HSTS_PRELOAD", "needs HSTS_SUBDOMAINS=on: browsers list only whole domains"
    if settings.S3_PUBLIC_ENDPOINT_URL and not _WEB_ADDRESS.fullmatch(settings.S3_PUBLIC_ENDPOINT_URL):
        yield "S3_PUBLIC_ENDPOINT_URL", "must be an address such as https://pictures.example.org"
    if settings.BACKUP_TO and not settings.BACKUP_TO.startswith(("/", "s3://")):
        yield "BACKUP_TO", "must be an absolute path, or an address such as s3://bucket/prefix"
    if settings.BACKUP_HOURS <= 0:
        yield "BACKUP_HOURS", "must be above 0; to make no backups, leave BACKUP_TO empty"
    if settings.BACKUP_KEEP < 0:
        yield "BACKUP_KEEP", "must be 0 or more; 0 keeps all"
    if settings.S3_BUCKET and settings.X_ACCEL_REDIRECT:
        yield "X_ACCEL_REDIRECT", "must be off with S3_BUCKET: browsers get the files from the bucket"
    if settings.S3_BUCKET and settings.URL_EXPIRY_SECONDS > _MAX_S3_EXPIRY_SECONDS:
        yield "URL_EXPIRY_SECONDS", f"must be at most {_MAX_S3_EXPIRY_SECONDS}: S3 signs URLs for no longer"
