"""The endpoints. A view reads its input, calls one verb of the queue or one query, and answers."""

from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import ApiToken
from generation import allowance, queue
from generation.api import operations
from generation.api.errors import UploadTooLarge, problem
from generation.api.forms import read_form
from generation.api.records import answer, record
from generation.models import Generation
from generation.parameters import ErrorCode
from generation.preferences import cancel_after


class JsonView(APIView):
    """Answers in JSON, which belong to one owner and one moment."""

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[JSONRenderer, str]:
        """JSON, whatever the client says it accepts: that is how the API of the contract answers."""
        return JSONRenderer(), JSONRenderer.media_type

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Cache-Control"] = "no-store"
        if response.status_code != status.HTTP_405_METHOD_NOT_ALLOWED:
            # The view that answers a held client is not the one that was asked, and allows other methods.
            del response["Allow"]
        return response


class ImageToImage(JsonView):
    http_method_names = ["post"]

    @extend_schema(**operations.IMAGE_TO_IMAGE)
    def post(self, request: Request) -> Response:
        """Make pictures from a picture and a prompt, and wait for them."""
        scope = getattr(request, "scope", {})
        if scope.get("dreamsite.body_too_large"):
            raise UploadTooLarge(settings.MAX_UPLOAD_BYTES)
        token = cast(ApiToken, request.auth)
        # Who may not ask for more costs no decoding of a picture.
        allowance.check(token.user, 0.0)
        parameters, picture = read_form(request)
        generation = queue.submit(
            token,
            parameters,
            picture,
            scope.get("dreamsite.generation_id"),
            cancel_after(request.headers.get("Cancel-After", "")),
        )
        if "dreamsite.generation_id" in scope:
            # The waiting layer asks again when it lets its client go: a record, with its forecast, would be for nobody.
            return Response(status=status.HTTP_202_ACCEPTED)
        return answer(generation, request.build_absolute_uri)


class GenerationDetail(JsonView):
    http_method_names = ["get", "head"]

    @extend_schema(**operations.GENERATION)
    def get(self, request: Request, generation_id: UUID) -> Response:
        """The durable record of a generation of yours."""
        return Response(record(_own(request, generation_id), request.build_absolute_uri))


class Cancellation(JsonView):
    http_method_names = ["post"]

    @extend_schema(**operations.CANCELLATION)
    def post(self, request: Request, generation_id: UUID) -> Response:
        """Cancel a generation of yours: at once while it is queued, within a step while it runs."""
        generation = _own(request, generation_id)
        if not queue.cancel(generation):
            generation.refresh_from_db()
            return problem(ErrorCode.ALREADY_FINISHED, f"It has {generation.state} already, so nothing was canceled.")
        generation = _own(request, generation_id)
        code = status.HTTP_200_OK if generation.is_final else status.HTTP_202_ACCEPTED
        return Response(record(generation, request.build_absolute_uri), code)


class HeldAnswer(JsonView):
    """What a client that was held is told, or wants no more: asked by the waiting layer alone, which knew the client."""

    http_method_names = ["get", "delete"]
    authentication_classes = []
    permission_classes = []
    schema = None

    def get(self, request: Request, generation_id: UUID) -> Response:
        return answer(self._held(request, generation_id), request.build_absolute_uri)

    def delete(self, request: Request, generation_id: UUID) -> Response:
        queue.cancel(self._held(request, generation_id))
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _held(self, request: Request, generation_id: UUID) -> Generation:
        generation: Generation | None = Generation.objects.prefetch_related("images").filter(pk=generation_id).first()
        if not getattr(request, "scope", {}).get("dreamsite.answer") or generation is None:
            raise Http404
        return generation


def _own(request: Request, generation_id: UUID) -> Generation:
    """A generation of the token's user. Raises `Http404`."""
    rows = Generation.objects.owned_by(request.user).select_related("user").prefetch_related("images")
    generation: Generation | None = rows.filter(pk=generation_id).first()
    if generation is None:
        raise Http404
    return generation
