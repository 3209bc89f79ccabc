"""System checks of settings that can be wrong in ways Django does not know."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def check_choices(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Settings that take one of a few words."""
    allowed = {
        "IMAGE_URLS": {"signed", "data"},
        "SAFETY_CHECKER": {"opennsfw", "stable-diffusion"},
        "DTYPE": {"auto", "float32", "bfloat16", "float16"},
    }
    return [
        Error(f"{name} is {getattr(settings, name)!r}; use one of {', '.join(sorted(words))}.", id=f"dreamsite.{name}")
        for name, words in allowed.items()
        if getattr(settings, name) not in words
    ]
