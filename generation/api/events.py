"""`GET /generations/{id}/events`: the current record, from which `generation.asgi.sse` makes the event stream.

Browsers' `EventSource` cannot send a token: it opens the signed address in the record, `events_url`.
"""

from dataclasses import asdict
from typing import Any, Literal
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from pydantic import BaseModel, Field
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.access import Access
from accounts.authentication import BearerAuthentication
from accounts.models import ApiToken, User
from accounts.requests import current_token, whole_number
from generation.api import openapi_operations
from generation.api.generations import get_generation
from generation.api.views import JsonView
from generation.asgi.types import STREAM_IS_OPEN
from generation.parameters import ErrorCode
from generation.serializers import events_url_seconds_left, record

_MAX_TOKEN_ID = 2**63 - 1
_INVALID_ADDRESS = "The address of this stream works no longer; get the record of the generation for a new one."


class ServerSentEvent(BaseModel):
    """One event of the stream, as https://html.spec.whatwg.org/multipage/server-sent-events.html reads it."""

    event: Literal["queued", "started", "progress", "preview", "image", "succeeded", "failed", "canceled"]
    data: str = Field(description="JSON. The last event has the record.")
    id: str | None = Field(
        None, description="For `Last-Event-ID`, to continue after this event. `queued` has none; the last one is `end`."
    )


_EXAMPLE = """\
retry: 2000

event: queued
data: {"position": 1, "reason": "It is next.", "estimated_start": null, "estimated_finish": null}

id: 1790000000000-0
event: started
data: {"attempt": 1}

id: 1790000000250-0
event: progress
data: {"step": 1, "of": 20, "phase": "denoising", "percent": 5}

id: 1790000001250-0
event: preview
data: {"index": 0, "step": 4, "of": 20, "image": "data:image/webp;base64,UklGRh4AAABXRUJQ"}

id: 1790000004000-0
event: image
data: {"index": 0, "seed": 42, "nsfw": false, "width": 512, "height": 512, "url": "https://dreamsite.example/media/..."}

id: end
event: succeeded
data: {"id": "01980000-0000-7000-8000-000000000000", "state": "succeeded"}

"""

EVENTS: dict[str, Any] = {
    "operation_id": "followGeneration",
    "tags": ["generations"],
    "summary": "Events",
    # A token, or the signed address.
    "auth": [{"HTTPBearer": []}, {}],
    "parameters": [
        *openapi_operations.CANCELLATION["parameters"],
        OpenApiParameter(
            "Last-Event-ID",
            str,
            OpenApiParameter.HEADER,
            description="Continue after the event with this id. Browsers send it when they reconnect.",
        ),
        OpenApiParameter("previews", str, description="0: no `preview` events."),
        *(
            OpenApiParameter(name, str, description="Of the `events_url` in a record, for requests without a token.")
            for name in ("token_id", "expires", "signature")
        ),
    ],
    "responses": {
        **{
            status: response
            for status, response in openapi_operations.GENERATION["responses"].items()
            if status not in (200, 304)
        },
        (200, "text/event-stream"): OpenApiResponse(
            ServerSentEvent,
            "`queued` (queue position and estimates, again when they change), `started`, `progress`, `preview` (a small "
            "WebP of an image so far), `image` (each picture once it is stored), and last `succeeded`, `failed` or "
            "`canceled` with the record. If the generation has ended, only the last event is sent.\n\n"
            f"```text\n{_EXAMPLE}```",
        ),
        429: openapi_operations.problem_response(
            "You have reached a limit.",
            "You have 200 event streams open, or 10 of this generation, the maximum; close some.",
            ErrorCode.TOO_MANY_CONNECTIONS,
            ErrorCode.TOO_MANY_REQUESTS,
        ),
        204: OpenApiResponse(None, "It has ended, and `Last-Event-ID` is that of the last event."),
    },
}


class SignedAddressAuthentication(BaseAuthentication):
    """The signed address of a stream, if the request has no token. `request.auth` is the token that got the address."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """Return user and token; None without a signature. Raises `AuthenticationFailed` if the address works no longer."""
        query = request.query_params
        if get_authorization_header(request) or "signature" not in query:
            return None
        token_id = whole_number(query.get("token_id", ""), _MAX_TOKEN_ID)
        if token_id is None:
            raise AuthenticationFailed(_INVALID_ADDRESS)
        generation_id = request.parser_context["kwargs"]["generation_id"]
        seconds_left = events_url_seconds_left(generation_id, token_id, query)
        # A stream that is open may outlive its address.
        is_open = getattr(request, "scope", {}).get(STREAM_IS_OPEN, False)
        if seconds_left is None or (seconds_left < 0 and not is_open):
            raise AuthenticationFailed(_INVALID_ADDRESS)
        token = ApiToken.objects.usable().filter(pk=token_id).first()
        if token is None:
            raise AuthenticationFailed(_INVALID_ADDRESS)
        return token.user, token


class GenerationEvents(JsonView):
    authentication_classes = [SignedAddressAuthentication, BearerAuthentication]

    @extend_schema(**EVENTS)
    def get(self, request: Request, generation_id: UUID) -> Response:
        """Follow one of your generations until it ends, as Server-Sent Events."""
        token = current_token(request)
        current = record(get_generation(request, generation_id), request.build_absolute_uri, token.pk)
        access = asdict(Access(token.user_id, token_id=token.pk))
        return Response({"origin": request.build_absolute_uri("/"), "record": current, "access": access})
