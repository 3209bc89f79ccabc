"""What the API answers to the request that made a generation, or would."""

from rest_framework import status
from rest_framework.response import Response

from generation.api.errors import problem
from generation.jobs import forecast, idempotency
from generation.models import Generation, State
from generation.parameters import MESSAGES, ErrorCode
from generation.responses import (
    DryRun,
    ImageResponse,
    Media,
)
from generation.serializers import (
    Absolute,
    carries,
    record,
    url_of,
)


def answer(generation: Generation, absolute: Absolute) -> Response:
    """The answer to the `POST` that made this generation: pictures, an error, or 202 and where to look."""
    if generation.is_removed:
        response = problem(ErrorCode.DELETED, MESSAGES[ErrorCode.DELETED])
    elif generation.state == State.SUCCEEDED:
        images = [
            Media(url=url_of(generation, image, absolute), seed=image.seed, nsfw=image.nsfw)
            for image in generation.images.all()
        ]
        content = ImageResponse(
            images=images, id=generation.pk, model_id=generation.model_id, warnings=generation.warnings
        )
        body = content.model_dump(mode="json")
        # Pictures in the answer are too much to be kept, and the same again without.
        response = Response(body if carries(generation) else idempotency.settled(generation, body))
    elif generation.state in (State.FAILED, State.CANCELED):
        response = problem(ErrorCode(generation.error_code), generation.error_message)
    else:
        response = Response(record(generation, absolute), status.HTTP_202_ACCEPTED)
        response["Location"] = absolute(f"/generations/{generation.pk}")
    response["X-Generation-Id"] = str(generation.pk)
    return response


def rehearsal(generation: Generation, expected: forecast.Forecast) -> Response:
    """The answer to a dry run."""
    content = DryRun(
        model_id=generation.model_id,
        effective=generation.effective_values,
        cost=generation.cost,
        warnings=generation.warnings,
        waiting=expected.told,
    )
    return Response(content.model_dump(mode="json"))
