"""One error shape per status: a list for 422, `{"detail": {"msg", "code"}}` for everything else."""

import logging
from typing import Any

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.http import Http404
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import set_rollback

from generation.parameters import ErrorCode, InvalidField, RequestRefused
from generation.queue import Unavailable

logger = logging.getLogger(__name__)


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
            return Response({"detail": error.items}, status.HTTP_422_UNPROCESSABLE_ENTITY)
        case InvalidField():
            return Response({"detail": [error.item]}, status.HTTP_422_UNPROCESSABLE_ENTITY)
        case RequestRefused():
            return problem(status.HTTP_400_BAD_REQUEST, error.code, error.message)
        case exceptions.AuthenticationFailed() | exceptions.NotAuthenticated():
            response = problem(status.HTTP_401_UNAUTHORIZED, ErrorCode.INVALID_TOKEN, "Invalid bearer token.")
            response["WWW-Authenticate"] = "Bearer"
            return response
        case exceptions.MethodNotAllowed():
            return problem(status.HTTP_405_METHOD_NOT_ALLOWED, ErrorCode.METHOD_NOT_ALLOWED, "Method Not Allowed")
        case UploadTooLarge():
            return problem(error.status_code, ErrorCode.UPLOAD_TOO_LARGE, str(error.detail))
        case Http404() | exceptions.NotFound():
            return problem(status.HTTP_404_NOT_FOUND, ErrorCode.NOT_FOUND, "There is no such thing here.")
        case exceptions.APIException() if error.status_code < 500:
            return problem(error.status_code, ErrorCode.MALFORMED_REQUEST, "The request is malformed.")
        case SuspiciousOperation() | BadRequest():
            return problem(status.HTTP_400_BAD_REQUEST, ErrorCode.MALFORMED_REQUEST, "The request is malformed.")
        case Unavailable():
            logger.warning("a submission was turned away: %r", error.__cause__)
            response = problem(
                status.HTTP_503_SERVICE_UNAVAILABLE,
                ErrorCode.UNAVAILABLE,
                f"The service cannot take requests now; try again in {error.retry_after} seconds.",
            )
            response["Retry-After"] = str(error.retry_after)
            return response
    logger.error("unforeseen error", exc_info=error)
    return problem(status.HTTP_500_INTERNAL_SERVER_ERROR, ErrorCode.INTERNAL, "Image-to-image pipeline error.")


def problem(status_code: int, code: ErrorCode, message: str) -> Response:
    return Response({"detail": {"msg": message, "code": code}}, status_code)
