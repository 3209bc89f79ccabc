"""`/verify`: where a picture of anybody comes from, as a page and as JSON. No account is needed, and nothing is kept."""

from typing import IO, Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.cache import add_never_cache_headers
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from generation import display
from generation.api import openapi_operations
from generation.api.form_parts import form_parts
from generation.api.views import JsonView
from generation.asgi.types import BODY_REFUSAL
from generation.images import kinds
from generation.library import verification
from generation.library.verification import Finding
from generation.parameters import InvalidField, Refusal

_MISSING = "Send a picture as the file image of multipart/form-data"
_NOT_CHOSEN = "Choose a picture first."


class Verify(JsonView):
    """Answers browsers, which prefer HTML, with a page, and others with JSON."""

    authentication_classes = []
    permission_classes = []

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        prefers_html = request.get_preferred_type(["application/json", "text/html"]) == "text/html"
        if prefers_html and request.method in ("GET", "HEAD", "POST"):
            # Before REST framework, which would forget whose session it is.
            return _page(request)
        return super().dispatch(request, *args, **kwargs)

    @extend_schema(**openapi_operations.VERIFICATION)
    def post(self, request: Request) -> Response:
        """Tell whether a picture was made here, when and by which model, and whether it was changed since."""
        file = form_parts(request).files.get("image")
        if file is None:
            raise InvalidField("image", _MISSING, "missing")
        return Response(_find(file).verification.model_dump(mode="json"))


def _page(request: HttpRequest) -> HttpResponseBase:
    context: dict[str, Any] = {"kinds": kinds.ALLOWED}
    refusal = None
    if request.method == "POST":
        try:
            finding = _find(_posted(request))
        except Refusal as error:
            refusal = error
            context["error"] = error.message
        else:
            context |= _told(finding)
            # Others learn no ids; what staff open in the admin is in the audit log.
            if request.user.is_staff and request.user.has_perm("generation.view_generation"):
                context["found"] = list(dict.fromkeys(image.generation_id for image in finding.images))
    response = render(request, "generation/verify.html", context, status=refusal.code.status if refusal else 200)
    if refusal:
        response.error_code = refusal.code  # type: ignore[attr-defined]
        for name, value in refusal.headers.items():
            response[name] = value
    add_never_cache_headers(response)
    return response


def _posted(request: HttpRequest) -> IO[bytes]:
    """Return the chosen file. Raises `Refusal` if there is none, or if the body was refused."""
    if refusal := getattr(request, "scope", {}).get(BODY_REFUSAL):
        raise refusal
    file = request.FILES.get("image")
    if file is None:
        raise InvalidField("image", _NOT_CHOSEN, "missing")
    content: IO[bytes] = file
    return content


def _find(file: IO[bytes]) -> Finding:
    return verification.verify(file.read())


def _told(finding: Finding) -> dict[str, Any]:
    told = finding.verification
    claims = told.content_credentials
    parameters = (told.recipe or {}).get("parameters", {})
    return {
        "told": told,
        "title": display.verified(told),
        "claims": [
            (heading, found, display.digital_source_type(found.digital_source_type))
            for heading, found in (
                ("What its content credentials claim", claims if claims and claims.state != "own" else None),
                ("What the upload claimed that it was made of", told.source),
            )
            if found
        ],
        "recipe": [
            (label, parameters[name])
            for name, label in {"prompt": "Prompt", **display.PARAMETERS}.items()
            if parameters.get(name) not in (None, "")
        ],
    }
