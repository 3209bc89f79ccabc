"""Responses to a request for pictures: pictures, an error, the record so far, or an estimate."""

from typing import Any

from django.urls import reverse
from rest_framework import status
from rest_framework.response import Response

from generation.api.errors import ErrorResponse
from generation.jobs import forecast, idempotency
from generation.models import Generation, State
from generation.parameters import MESSAGES, ErrorCode
from generation.responses import DryRun, ImageResponse, Media
from generation.serializers import Absolute, embeds_images, image_url, record


class ImagesResponse(Response):
    """The pictures of a generation: `body` is an `ImageResponse` as JSON types."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(body)
        self.body = body


class PendingResponse(Response):
    """Status 202: the record of a generation that is not finished, and its address."""

    def __init__(self, generation: Generation, absolute: Absolute) -> None:
        super().__init__(record(generation, absolute, generation.token_id), status.HTTP_202_ACCEPTED)
        self.generation_id = generation.pk
        self["Location"] = absolute(reverse("generation-record", args=[generation.pk]))


def generation_response(generation: Generation, absolute: Absolute) -> Response:
    """Answer the `POST` that created this generation: with pictures, an error, or 202 and its record."""
    response: Response
    if generation.is_removed:
        response = ErrorResponse(ErrorCode.DELETED, MESSAGES[ErrorCode.DELETED])
    elif generation.state == State.SUCCEEDED:
        response = ImagesResponse(_images_body(generation, absolute))
    elif generation.state in (State.FAILED, State.CANCELED):
        response = ErrorResponse(ErrorCode(generation.error_code), generation.error_message)
    else:
        response = PendingResponse(generation, absolute)
    response["X-Generation-Id"] = str(generation.pk)
    return response


def _images_body(generation: Generation, absolute: Absolute) -> dict[str, Any]:
    images = [
        Media(url=image_url(generation, image, absolute), seed=image.seed, nsfw=image.nsfw)
        for image in generation.images.all()
    ]
    content = ImageResponse(
        images=images,
        id=generation.pk,
        model_id=generation.model_id,
        warnings=generation.warnings,
        reused_from=generation.reused_from_id,
    )
    body = content.model_dump(mode="json", exclude_none=True)
    # Data URLs are too large to store, and are the same each time.
    return body if embeds_images(generation) else idempotency.first_answer(generation, body)


def dry_run_response(generation: Generation, expected: forecast.Forecast) -> Response:
    """Answer a request with `dry_run`."""
    content = DryRun(
        model_id=generation.model_id,
        effective=generation.effective_values,
        cost=generation.cost,
        warnings=generation.warnings,
        waiting=expected.waiting,
        reused_from=generation.reused_from_id,
    )
    is_new = generation.reused_from_id is None
    return Response(content.model_dump(mode="json", exclude={"reused_from"} if is_new else None))
