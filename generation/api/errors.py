"""Error responses: a list for 422, `{"detail": {"msg", "code"}}` for every other status, OpenAI's shape under `/v1`.

All have the headers that say whether to repeat the request. The bodies of `/v1`'s views are converted in
`generation.api.openai`. `bad_request`, `not_found` and `server_error` are for errors outside of the API's views.
"""

import logging
import re
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import BadRequest, DisallowedHost, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.views import defaults
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from accounts import unknown_hosts
from generation.asgi.paths import API_PATHS
from generation.asgi.refusals import error_content
from generation.images.storage import StorageFailed
from generation.jobs.submission import Unavailable
from generation.parameters import MESSAGES, ErrorCode, Refusal
from generation.responses import error_body

logger = logging.getLogger(__name__)

_MALFORMED = (ErrorCode.MALFORMED_REQUEST, "The request is malformed.")
_NOT_FOUND = (ErrorCode.NOT_FOUND, "Not found: it does not exist or is not yours.")
_NO_ADDRESS = "There is no such address; what there is stands at"
_INTERNAL = (ErrorCode.INTERNAL, MESSAGES[ErrorCode.INTERNAL])


class ErrorResponse(Response):
    """An error response. `items` are the list of a 422 body: the published SDKs expect a list there."""

    def __init__(self, code: ErrorCode, message: str, items: Sequence[dict[str, Any]] = ()) -> None:
        body = {"detail": items, "code": code} if items else error_body(code, message)
        super().__init__(body, code.status, headers=code.retry_headers())
        self.error_code = code
        self.message = message
        self.invalid_fields = items
        if not items:
            # The cause is logged where the error occurs; Django would log a second line without it.
            self._has_been_logged = True


def answer_exception(error: Exception, context: dict[str, Any]) -> Response:
    """Answer an exception; DRF's exception handler. Unexpected errors are logged and answered without their cause."""
    set_rollback()
    match error:
        case Refusal():
            return _answer_refusal(error)
        case OperationalError() | InterfaceError():
            unavailable = Unavailable()
            unavailable.__cause__ = error
            return _answer_refusal(unavailable)
        case exceptions.AuthenticationFailed() | exceptions.NotAuthenticated():
            return _invalid_token(str(error.detail))
        case exceptions.MethodNotAllowed():
            return ErrorResponse(
                ErrorCode.METHOD_NOT_ALLOWED, "Method not allowed; the Allow header lists the allowed methods."
            )
        case Http404() | exceptions.NotFound():
            return ErrorResponse(*_NOT_FOUND)
        case exceptions.APIException() if error.status_code < 500:
            return ErrorResponse(*_MALFORMED)
        case SuspiciousOperation() | BadRequest():
            return ErrorResponse(*_MALFORMED)
    logger.error("unexpected error", exc_info=error)
    return ErrorResponse(*_INTERNAL)


def _answer_refusal(refusal: Refusal) -> ErrorResponse:
    if refusal.code is ErrorCode.INVALID_TOKEN:
        return _invalid_token()
    if isinstance(refusal, StorageFailed):
        logger.error("a file cannot be read", exc_info=refusal)
    elif isinstance(refusal, Unavailable):
        logger.warning("request refused, service unavailable: %r", refusal.__cause__ or refusal)
    response = ErrorResponse(refusal.code, refusal.message, refusal.items)
    for name, value in refusal.headers.items():
        response[name] = value
    return response


def _invalid_token(message: str = "Invalid bearer token.") -> ErrorResponse:
    response = ErrorResponse(ErrorCode.INVALID_TOKEN, message)
    response["WWW-Authenticate"] = "Bearer"
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer Django's 400 outside of views, such as for an unknown host: JSON for clients of the API, else a page."""
    if isinstance(exception, DisallowedHost):
        message = unknown_hosts.message(request)
        # Without the request, since it has not been through the middleware that the pages need.
        return _json_error(request, ErrorCode.MALFORMED_REQUEST, message) or HttpResponseBadRequest(
            render_to_string("unknown_host.html", {"message": message})
        )
    return _json_error(request, *_MALFORMED) or defaults.bad_request(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer Django's 404: JSON for clients of the API, else a page.

    At an address that there is not, a page is only for who asks for HTML, as browsers do: it may be meant as the API's.
    """
    if request.resolver_match:
        return _json_error(request, *_NOT_FOUND) or defaults.page_not_found(request, exception)
    if not _is_for_api(request) and request.get_preferred_type(["application/json", "text/html"]) == "text/html":
        return defaults.page_not_found(request, exception)
    return _json(request, ErrorCode.NOT_FOUND, f"{_NO_ADDRESS} {reverse('docs')}.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer Django's 500 outside of views: JSON for clients of the API, else a page."""
    return _json_error(request, *_INTERNAL) or defaults.server_error(request)


def _json_error(request: HttpRequest, code: ErrorCode, message: str) -> HttpResponse | None:
    """Return a JSON response for clients of the API, None for others."""
    return _json(request, code, message) if _is_for_api(request) else None


def _json(request: HttpRequest, code: ErrorCode, message: str) -> JsonResponse:
    body = error_content(request.path_info, code, message)
    headers = {"Cache-Control": "no-store", **code.retry_headers()}
    response = JsonResponse(body, status=code.status, headers=headers)
    response.error_code = code  # type: ignore[attr-defined]
    return response


def _is_for_api(request: HttpRequest) -> bool:
    """Return whether the path is the API's, or an unknown one of a client with a token or one that prefers JSON."""
    has_token = request.headers.get("Authorization", "").lower().startswith("bearer ")
    prefers_json = request.get_preferred_type(["text/html", "application/json"]) == "application/json"
    return has_token or prefers_json or re.match(API_PATHS, request.path_info) is not None
