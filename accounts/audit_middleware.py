"""The middleware that leaves no POST of staff without an entry in the audit log."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts import audit
from accounts.models import AuditEntry, User

_MARK = "changes_nothing"


def changes_nothing(request: HttpRequest) -> None:
    """Mark a POST that only reads, renews, or asks for a confirmation: it needs no entry."""
    setattr(request, _MARK, True)


def audit_middleware(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Record requests of staff to the admin that may change something and wrote no entry, by path and status."""

    def middleware(request: HttpRequest) -> HttpResponse:
        is_reading = request.method in ("GET", "HEAD", "OPTIONS", "TRACE")
        if is_reading or not request.path.startswith(reverse("admin:index")):
            # Without a look at the user, since the API does not ask the session who it is.
            return get_response(request)
        user = request.user
        if not (isinstance(user, User) and user.is_staff):
            return get_response(request)
        entries: list[AuditEntry] = []
        token = audit.recorded.set(entries)
        try:
            response = get_response(request)
        finally:
            audit.recorded.reset(token)
        # What a request that failed has recorded may have been rolled back.
        if (response.status_code >= 500 or not entries) and not hasattr(request, _MARK):
            # PostgreSQL stores no NUL.
            path = request.path.replace("\0", "")
            audit.record(user, "admin.post", path, None, {"status": response.status_code})
        return response

    return middleware
