"""`GET /generations/{id}/events`: the current record, from which `generation.asgi.sse` makes the event stream."""

from typing import Any, Literal
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from pydantic import BaseModel, Field
from rest_framework.request import Request
from rest_framework.response import Response

from generation.api import openapi_operations
from generation.api.generations import get_generation
from generation.api.views import JsonView
from generation.serializers import record


class ServerSentEvent(BaseModel):
    """One event of the stream, as https://html.spec.whatwg.org/multipage/server-sent-events.html reads it."""

    event: Literal["queued", "started", "progress", "preview", "image", "succeeded", "failed", "canceled"]
    data: str = Field(description="JSON. The last event has the record.")
    id: str | None = Field(None, description="For `Last-Event-ID`, to continue after this event. `queued` has none.")


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

id: 1790000004100-0
event: succeeded
data: {"id": "01980000-0000-7000-8000-000000000000", "state": "succeeded"}

"""

EVENTS: dict[str, Any] = {
    "operation_id": "followGeneration",
    "tags": ["generations"],
    "summary": "Events",
    "parameters": [
        *openapi_operations.CANCELLATION["parameters"],
        OpenApiParameter(
            "Last-Event-ID",
            str,
            OpenApiParameter.HEADER,
            description="Continue after the event with this id. Browsers send it when they reconnect.",
        ),
        OpenApiParameter("previews", str, description="0: no `preview` events."),
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
    },
}


class GenerationEvents(JsonView):
    @extend_schema(**EVENTS)
    def get(self, request: Request, generation_id: UUID) -> Response:
        """Follow one of your generations until it ends, as Server-Sent Events."""
        current = record(get_generation(request, generation_id), request.build_absolute_uri)
        return Response({"origin": request.build_absolute_uri("/"), "record": current})
