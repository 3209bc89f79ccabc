"""One error shape per status: a list for 422, `{"detail": {"msg", "code"}}` for everything else.

That holds too where Django answers before a view of the API is reached: see `bad_request`, `not_found`, `server_error`.
"""

import logging
import math
import re
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import set_rollback

from generation.images.storage import StorageFailed
from generation.jobs.limits import OverLimit, QueueFull
from generation.jobs.submission import Suspended, Unavailable
from generation.parameters import MESSAGES, ErrorCode, InvalidField, RequestRefused

logger = logging.getLogger(__name__)

_MALFORMED = (ErrorCode.MALFORMED_REQUEST, "The request is malformed.")
_NOT_FOUND = (ErrorCode.NOT_FOUND, "There is no such thing here.")
_INTERNAL = (ErrorCode.INTERNAL, MESSAGES[ErrorCode.INTERNAL])


class InvalidForm(Exception):
    """Everything that is wrong with the fields of a form."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        super().__init__("invalid form")
        self.items = items


class UploadTooLarge(exceptions.APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request is over the limit of {limit:,} bytes; send a smaller picture.")


def answer_exception(error: Exception, context: dict[str, Any]) -> Response:
    """DRF's exception handler. What nobody foresaw is logged, and answered without a word about its cause."""
    set_rollback()
    match error:
        case InvalidForm():
            return invalid(error.items)
        case InvalidField():
            return invalid([error.item], error.code)
        case exceptions.AuthenticationFailed() | exceptions.NotAuthenticated() | Suspended():
            response = problem(ErrorCode.INVALID_TOKEN, "Invalid bearer token.")
            response["WWW-Authenticate"] = "Bearer"
            return response
        case RequestRefused():
            return problem(error.code, error.message)
        case OverLimit():
            response = problem(error.code, error.message)
            response["Retry-After"] = response["RateLimit-Reset"] = str(error.reset)
            response["RateLimit-Limit"] = str(math.ceil(error.limit))
            response["RateLimit-Remaining"] = str(math.floor(error.remaining))
            return response
        case QueueFull():
            message = f"Too many requests are waiting; try again in {QueueFull.retry_after} seconds."
            response = problem(ErrorCode.QUEUE_FULL, message)
            response["Retry-After"] = str(QueueFull.retry_after)
            return response
        case exceptions.MethodNotAllowed():
            return problem(ErrorCode.METHOD_NOT_ALLOWED, "Method Not Allowed")
        case UploadTooLarge():
            return problem(ErrorCode.UPLOAD_TOO_LARGE, str(error.detail))
        case Http404() | exceptions.NotFound():
            return problem(*_NOT_FOUND)
        case exceptions.APIException() if error.status_code < 500:
            return problem(*_MALFORMED)
        case SuspiciousOperation() | BadRequest():
            return problem(*_MALFORMED)
        case StorageFailed():
            logger.error("a file cannot be read", exc_info=error)
            return problem(ErrorCode.STORAGE_FAILED, MESSAGES[ErrorCode.STORAGE_FAILED])
        case Unavailable() | OperationalError() | InterfaceError():
            logger.warning("a request was turned away: %r", error.__cause__ or error)
            response = problem(
                ErrorCode.UNAVAILABLE,
                f"The service cannot take requests now; try again in {Unavailable.retry_after} seconds.",
            )
            response["Retry-After"] = str(Unavailable.retry_after)
            return response
    logger.error("unforeseen error", exc_info=error)
    return problem(*_INTERNAL)


def invalid(items: list[dict[str, Any]], code: ErrorCode = ErrorCode.INVALID_FIELDS) -> Response:
    """Status 422, whose `detail` is a list to the published SDKs."""
    return Response({"detail": items, "code": code}, code.status)


def problem(code: ErrorCode, message: str) -> Response:
    response = Response(_body(code, message), code.status)
    # Whoever found out has told the log why; Django would add a line that says less.
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 400 outside of views, such as for an unknown host: JSON to programs, a page to people."""
    return _problem_of_django(request, *_MALFORMED) or defaults.bad_request(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 404: JSON to programs, a page to people."""
    return _problem_of_django(request, *_NOT_FOUND) or defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's 500 outside of views: JSON to programs, a page to people."""
    return _problem_of_django(request, *_INTERNAL) or defaults.server_error(request)


def _problem_of_django(request: HttpRequest, code: ErrorCode, message: str) -> HttpResponse | None:
    if re.match(settings.API_PATHS, request.path_info):
        return JsonResponse(_body(code, message), status=code.status, headers={"Cache-Control": "no-store"})
    return None


def _body(code: ErrorCode, message: str) -> dict[str, Any]:
    return {"detail": {"msg": message, "code": code}}
