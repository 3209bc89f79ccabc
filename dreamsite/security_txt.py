"""`/.well-known/security.txt` (RFC 9116): whom to tell about a vulnerability of this installation."""

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

_EXPIRY = timedelta(days=90)
"""The RFC asks for less than a year. What the settings say is true whenever it is asked for."""


@require_safe
def security_txt(request: HttpRequest) -> HttpResponse:
    """Answer with `SECURITY_CONTACT`. Raises Http404 if there is none."""
    if not settings.SECURITY_CONTACT:
        raise Http404
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    lines = [
        *(f"Contact: {contact}" for contact in settings.SECURITY_CONTACT),
        f"Expires: {(midnight + _EXPIRY).isoformat()}",
        "Preferred-Languages: en",
    ]
    return HttpResponse("\n".join(lines) + "\n", content_type="text/plain; charset=utf-8")
