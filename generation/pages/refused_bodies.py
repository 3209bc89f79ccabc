"""The Django middleware for requests of pages whose body has not been read, or was refused."""

import re
from collections.abc import Callable

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import add_never_cache_headers

from generation.asgi.paths import API_PATHS
from generation.asgi.types import ADMISSION, BODY_REFUSAL, Admission
from generation.parameters import ErrorCode, Refusal
from generation.responses import error_body

_TITLES = {
    ErrorCode.UPLOAD_TOO_LARGE: "This form is too large",
    ErrorCode.REQUEST_TIMEOUT: "This took too long to arrive",
    ErrorCode.TOO_MANY_UPLOADS: "This is too much at once",
    ErrorCode.UPLOADS_FULL: "The service is busy",
}


def refused_body_middleware(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Answer such requests. Those of the API are left to its views, which say first whether the token is usable."""

    def middleware(request: HttpRequest) -> HttpResponse:
        scope = getattr(request, "scope", {})
        if not re.match(API_PATHS, request.path_info):
            if admission := scope.get(ADMISSION):
                return _admit(request, admission)
            if refusal := scope.get(BODY_REFUSAL):
                return _answer(request, refusal)
        return get_response(request)

    return middleware


def _admit(request: HttpRequest, admission: Admission) -> HttpResponse:
    if not request.user.is_authenticated:
        return redirect_to_login(request.path)
    admission.user_id = request.user.pk
    return HttpResponse(status=204)


def _answer(request: HttpRequest, refusal: Refusal) -> HttpResponse:
    is_script = "X-Requested-With" in request.headers
    if refusal.code is ErrorCode.UPLOAD_TOO_LARGE and request.path_info == "/" and not is_script:
        # The studio's form, sent by a browser without scripts: it says what to do beside the picture.
        return HttpResponseRedirect(f"{reverse('home')}?refused=size", status=303)
    response: HttpResponse
    if not is_script and request.get_preferred_type(["application/json", "text/html"]) == "text/html":
        context = {"title": _TITLES.get(refusal.code, "This cannot be read"), "refusal": refusal}
        response = render(request, "refused_body.html", context, status=refusal.code.status)
    else:
        content = {**error_body(refusal.code, refusal.message), "errors": {"": [refusal.message]}}
        response = JsonResponse(content, status=refusal.code.status)
    for name, value in refusal.headers.items():
        response[name] = value
    add_never_cache_headers(response)
    return response
