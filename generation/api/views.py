"""`POST /image-to-image`: read the form, submit it once, answer. Also the base of all views of the API."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, cast
from uuid import UUID

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

from accounts.access import Access
from accounts.authentication import BearerAuthentication
from accounts.models import User
from accounts.requests import current_token
from generation.api import openapi_operations
from generation.api.forms import Form, read_form
from generation.api.responses import dry_run_response, generation_response
from generation.asgi.preferences import asks_anew, parse_cancel_after
from generation.asgi.types import ADMISSION, BODY_REFUSAL, CALLER, GENERATION_ID, IS_ANSWER
from generation.jobs import idempotency, limits, queue, submission
from generation.models import Generation


@method_decorator(gzip_page, name="dispatch")
class JsonView(APIView):
    """A view that answers in JSON, never cached, and refuses bodies that could not be read. OPTIONS needs no token."""

    rate_limited_user: User | None = None
    """The user whose rate limit the headers of the response report."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.method != "OPTIONS":
            super().initial(request, *args, **kwargs)
            self.rate_limited_user = user = cast(User | None, request.user)
            if user and (caller := getattr(request, "scope", {}).get(CALLER)):
                caller.identify(user)
            if refusal := getattr(request, "scope", {}).get(BODY_REFUSAL):
                raise refusal

    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        return Response(status=status.HTTP_204_NO_CONTENT)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[JSONRenderer, str]:
        """Choose JSON regardless of the `Accept` header, like Livepeer's API."""
        return JSONRenderer(), JSONRenderer.media_type

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Cache-Control"] = "no-store"
        is_options = response.status_code == status.HTTP_204_NO_CONTENT and request.method == "OPTIONS"
        if response.status_code != status.HTTP_405_METHOD_NOT_ALLOWED and not is_options:
            # `HeldAnswer` allows other methods than the view that its client called.
            del response["Allow"]
        self._add_rate_limit(response)
        return response

    def _add_rate_limit(self, response: Response) -> None:
        """Add the user's rate limit, unless the response reports another limit that is reached."""
        try:
            rate = limits.rate(self.rate_limited_user) if self.rate_limited_user else None
        except (OperationalError, InterfaceError):
            # Better a response without these headers than an error.
            return
        if rate is not None and "RateLimit-Limit" not in response:
            response["RateLimit-Limit"] = str(rate.limit)
            response["RateLimit-Remaining"] = str(rate.remaining)
            response["RateLimit-Reset"] = str(rate.reset)


class Submission(JsonView):
    """A view that accepts requests for pictures; its subclasses read their form."""

    def accept(self, request: Request, read: Callable[[Request], Form]) -> Response:
        scope = getattr(request, "scope", {})
        key = self._idempotency_key(request)
        if admission := scope.get(ADMISSION):
            admission.user_id = current_token(request).user.pk
            self.rate_limited_user = None
            return Response(status=status.HTTP_204_NO_CONTENT)
        form = read(request)

        def build() -> Generation:
            return self._build(request, form, scope.get(GENERATION_ID))

        if form.parameters.dry_run:
            draft = build()
            return dry_run_response(draft, submission.estimate(draft))
        generation = submission.submit_once(lambda: [build()], form.inputs, self._idempotent(request, key, form))
        if GENERATION_ID in scope:
            # The ASGI layer requests the answer later: a record with its forecast would be wasted.
            token = current_token(request)
            access = asdict(Access(token.user_id, token_id=token.pk))
            return Response(access, status.HTTP_202_ACCEPTED, headers={"X-Generation-Id": str(generation.pk)})
        return generation_response(generation, request.build_absolute_uri)

    def _idempotency_key(self, request: Request) -> str:
        """Return the key, empty without one. Raises `OverLimit` before the upload is read, unless the key is known."""
        token = current_token(request)
        key = idempotency.read(request.headers.get("Idempotency-Key", ""))
        if not (key and idempotency.is_known(token, key)):
            limits.check(token.user, 0.0)
        return key

    def _idempotent(self, request: Request, key: str, form: Form) -> idempotency.IdempotentRequest | None:
        if not key:
            return None
        token = current_token(request)
        fingerprint = idempotency.fingerprint(request.path_info, form.parameters, form.inputs.digest)
        return idempotency.IdempotentRequest(token.user, token, key, fingerprint)

    def _build(self, request: Request, form: Form, generation_id: UUID | None) -> Generation:
        token = current_token(request)
        return submission.build(
            submission.Request(
                token.user,
                token,
                form.parameters,
                form.inputs,
                generation_id=generation_id,
                cancel_after=parse_cancel_after(request.headers.get("Cancel-After", "")),
                warnings=form.warnings,
                is_anew=asks_anew(request.headers.get("Cache-Control", "")),
            )
        )


class ImageToImage(Submission):
    @extend_schema(**openapi_operations.IMAGE_TO_IMAGE)
    def post(self, request: Request) -> Response:
        """Generate pictures from a picture and a prompt, and wait for them."""
        return self.accept(request, read_form)


class HeldAnswer(JsonView):
    """The answer to a client that the ASGI layer holds, and its cancellation. Only that layer can call it.

    The answer needs the token again, which may have been revoked in the meantime.
    """

    authentication_classes = []
    permission_classes = []
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not getattr(request, "scope", {}).get(IS_ANSWER):
            raise Http404

    def get(self, request: Request, generation_id: UUID) -> Response:
        BearerAuthentication().authenticate(request)
        generation = self._generation(generation_id)
        self.rate_limited_user = generation.user
        return generation_response(generation, request.build_absolute_uri)

    def delete(self, request: Request, generation_id: UUID) -> Response:
        queue.cancel(self._generation(generation_id))
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _generation(self, generation_id: UUID) -> Generation:
        rows = Generation.objects.select_related("user").prefetch_related("images", "references")
        generation: Generation | None = rows.filter(pk=generation_id).first()
        if generation is None:
            raise Http404
        return generation
