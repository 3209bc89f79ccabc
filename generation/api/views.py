"""The endpoints. A view reads its input, calls one verb of the queue or one query, and answers."""

from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest
from django.utils.decorators import method_decorator
from django.views.decorators.gzip import gzip_page
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import request_ids
from accounts.models import ApiToken, User
from generation.api import openapi_operations
from generation.api.errors import UploadTooLarge
from generation.api.forms import Form, read_form
from generation.api.responses import answer, rehearsal
from generation.asgi.preferences import cancel_after
from generation.jobs import (
    idempotency,
    limits,
    queue,
    submission,
)
from generation.models import Generation


@method_decorator(gzip_page, name="dispatch")
class JsonView(APIView):
    """Answers in JSON, which belong to one owner and one moment. Anybody may ask for the OPTIONS."""

    asker: User | None = None
    """Whose limit of requests the headers of the answer tell of."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.method != "OPTIONS":
            super().initial(request, *args, **kwargs)
            self.asker = cast(User | None, request.user)

    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        return Response(status=status.HTTP_204_NO_CONTENT)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[JSONRenderer, str]:
        """JSON, whatever the client says it accepts: that is how the API of the contract answers."""
        return JSONRenderer(), JSONRenderer.media_type

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Cache-Control"] = "no-store"
        is_about_methods = response.status_code == status.HTTP_204_NO_CONTENT and request.method == "OPTIONS"
        if response.status_code != status.HTTP_405_METHOD_NOT_ALLOWED and not is_about_methods:
            # The view that answers a held client is not the one that was asked, and allows other methods.
            del response["Allow"]
        self._tell_rate(response)
        return response

    def _tell_rate(self, response: Response) -> None:
        """Add what is left of the minute, where the answer does not speak of another limit that is reached."""
        try:
            left = limits.rate(self.asker) if self.asker else None
        except (OperationalError, InterfaceError):
            # The answer is not made worse by what it cannot tell.
            return
        if left is not None and "RateLimit-Limit" not in response:
            response["RateLimit-Limit"] = str(left.limit)
            response["RateLimit-Remaining"] = str(left.remaining)
            response["RateLimit-Reset"] = str(left.reset)


class Submission(JsonView):
    """Accepts requests for pictures, in whatever form they come."""

    def accept(self, request: Request, read: Callable[[Request], Form]) -> Response:
        scope = getattr(request, "scope", {})
        if scope.get("dreamsite.body_too_large"):
            raise UploadTooLarge(settings.MAX_UPLOAD_BYTES)
        token = cast(ApiToken, request.auth)
        key = idempotency.read(request.headers.get("Idempotency-Key", ""))
        if not (key and idempotency.is_known(token, key)):
            # Who may not ask for more costs no decoding of a picture.
            limits.check(token.user, 0.0)
        form = read(request)
        attempt = None
        if key and not form.parameters.dry_run:
            digest = f"{form.picture.sha256} {form.picture.size}" if form.picture else ""
            attempt = idempotency.IdempotentRequest(
                token.user, token, key, idempotency.fingerprint(request.path, form.parameters, digest)
            )
        generation = attempt.earlier() if attempt else None
        if generation is None:
            generation = submission.build(
                token.user,
                token,
                form.parameters,
                form.picture,
                generation_id=scope.get("dreamsite.generation_id"),
                cancel_after=cancel_after(request.headers.get("Cancel-After", "")),
                request_id=request_ids.current(),
                warnings=form.warnings,
            )
            if form.parameters.dry_run:
                return rehearsal(generation, submission.estimate(generation))
            generation = submission.submit(generation, form.picture, attempt)
        if "dreamsite.generation_id" in scope:
            # The waiting layer asks again when it lets its client go: a record, with its forecast, would be for nobody.
            return Response(status=status.HTTP_202_ACCEPTED, headers={"X-Generation-Id": str(generation.pk)})
        return answer(generation, request.build_absolute_uri)


class ImageToImage(Submission):
    @extend_schema(**openapi_operations.IMAGE_TO_IMAGE)
    def post(self, request: Request) -> Response:
        """Make pictures from a picture and a prompt, and wait for them."""
        return self.accept(request, read_form)


class HeldAnswer(JsonView):
    """What a client that was held is told, or wants no more: asked by the waiting layer alone, which knew the client."""

    authentication_classes = []
    permission_classes = []
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not getattr(request, "scope", {}).get("dreamsite.answer"):
            raise Http404

    def get(self, request: Request, generation_id: UUID) -> Response:
        generation = self._held(generation_id)
        self.asker = generation.user
        return answer(generation, request.build_absolute_uri)

    def delete(self, request: Request, generation_id: UUID) -> Response:
        queue.cancel(self._held(generation_id))
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _held(self, generation_id: UUID) -> Generation:
        rows = Generation.objects.select_related("user").prefetch_related("images")
        generation: Generation | None = rows.filter(pk=generation_id).first()
        if generation is None:
            raise Http404
        return generation
