"""The photo and the mask that ship with the service: for a first request, for canaries, and to try models with."""

from django.conf import settings

_STATIC = settings.BASE_DIR / "dreamsite" / "static"

PHOTO = _STATIC / "sample.jpg"
MASK = _STATIC / "sample-mask.png"
"""Of the same size. White may change."""
