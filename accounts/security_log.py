"""The security log: who signed in, what was refused, what was given out, as JSON lines of the logger `dreamsite.security`.

It has names, addresses and ids, but no passwords, no tokens and no texts of users.
"""

import json
import logging
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse

from accounts import request_ids

if TYPE_CHECKING:
    # Logging is configured before models can be imported.
    from django.contrib.auth.models import AbstractBaseUser

_logger = logging.getLogger("dreamsite.security")
_request: ContextVar[HttpRequest | None] = ContextVar("request", default=None)


def log(event: str, **details: Any) -> None:
    """Write one line. `event` is a noun and a verb, such as `token.issue`; `details` have values of JSON.

    While a request is served, the line has its address, its route and its user, unless `details` have a `user`.
    """
    if request := _request.get():
        details["address"] = request.META.get("REMOTE_ADDR", "")
        # The path may have the code of a share link.
        details["route"] = request.resolver_match.route if request.resolver_match else ""
        if "user" not in details:
            details["user"] = request.user.get_username()
    _logger.info(event, extra={"details": details})


class JsonLines(logging.Formatter):
    """Formats each record of `log` as one line of JSON in ASCII, so that nothing in it can pose as another line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "event": record.getMessage(),
            "request_id": request_ids.current(),
            "client_request_id": request_ids.of_client(),
            **getattr(record, "details", {}),
        }
        return json.dumps({name: value for name, value in line.items() if value not in ("", None)})


def security_log_middleware(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Tell `log` which request is served, and log what was forbidden."""

    def middleware(request: HttpRequest) -> HttpResponse:
        token = _request.set(request)
        try:
            response = get_response(request)
            if response.status_code == 403:
                log("request.forbid", method=request.method)
        finally:
            _request.reset(token)
        return response

    return middleware


def log_sign_in(user: "AbstractBaseUser", **_: Any) -> None:
    """The receiver of Django's signal `user_logged_in`."""
    log("session.start", user=user.get_username())


def log_sign_out(user: "AbstractBaseUser | None", **_: Any) -> None:
    """The receiver of Django's signal `user_logged_out`."""
    log("session.end", user=user.get_username() if user else None)


def log_wrong_password(credentials: dict[str, Any], **_: Any) -> None:
    """The receiver of Django's signal `user_login_failed`."""
    name = str(credentials.get("username", ""))
    # A name that nobody has may be a password in the wrong field. PostgreSQL refuses to look for a NUL.
    is_known = "\0" not in name and get_user_model().objects.filter(username=name).exists()
    log("password.refuse", user=name if is_known else None)


def log_lockout(**_: Any) -> None:
    """The receiver of django-axes' signal `user_locked_out`."""
    log("password.lock_out")
