"""System checks of settings that can be wrong in ways Django does not know."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

SETTINGS = "settings"
"""The tag of these checks. Commands that start often run them alone: all checks together import every page."""

_S3_MOST_SECONDS = 7 * 24 * 3600


@register(SETTINGS)
def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Settings that take one of a few words, and those that do not go together."""
    allowed = {
        "IMAGE_URLS": {"signed", "data"},
        "SAFETY_CHECKER": {"opennsfw", "stable-diffusion"},
        "DTYPE": {"auto", "float32", "bfloat16", "float16"},
    }
    errors: list[CheckMessage] = []
    if settings.S3_BUCKET and settings.URL_EXPIRY_SECONDS > _S3_MOST_SECONDS:
        errors.append(
            Error(
                f"URL_EXPIRY_SECONDS is {settings.URL_EXPIRY_SECONDS}; S3 signs URLs for at most {_S3_MOST_SECONDS}.",
                id="dreamsite.URL_EXPIRY_SECONDS",
            )
        )
    return errors + [
        Error(f"{name} is {getattr(settings, name)!r}; use one of {', '.join(sorted(words))}.", id=f"dreamsite.{name}")
        for name, words in allowed.items()
        if getattr(settings, name) not in words
    ]
