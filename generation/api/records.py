"""What the API answers about a generation."""

import base64
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from rest_framework import status
from rest_framework.response import Response

from generation import doorbell, encoding, forecast, idempotency, media
from generation.answers import (
    Failure,
    GeneratedMedia,
    GenerationRecord,
    ImageResponse,
    Media,
    Progress,
    Rehearsal,
    Timings,
    Waiting,
)
from generation.api.errors import problem
from generation.models import GeneratedImage, Generation, State
from generation.parameters import MESSAGES, ErrorCode, ResponseFormat

Absolute = Callable[[str], str]
"""Makes a URL absolute, as `request.build_absolute_uri` does."""

_NOT_EFFECTIVE = {"model", "loras", "prompt", "negative_prompt", "safety_check"}


def record(generation: Generation, absolute: Absolute) -> dict[str, Any]:
    """The `GenerationRecord` of a generation, as JSON types, with fresh URLs."""
    return _record(
        generation, _waiting([generation]), _progress([generation]), lambda image: _url(generation, image, absolute)
    )


def records(generations: Sequence[Generation], absolute: Absolute) -> list[dict[str, Any]]:
    """The records of many, with as many queries as for one where users and images were fetched with them.

    Their URLs always say where the pictures are: a page that carried all of them would be too much.
    """
    waiting, progress = _waiting(generations), _progress(generations)
    return [
        _record(generation, waiting, progress, lambda image: absolute(image.file.url)) for generation in generations
    ]


def _record(
    generation: Generation,
    waiting: dict[UUID, Waiting],
    progress: dict[UUID, Progress],
    url: Callable[[GeneratedImage], str],
) -> dict[str, Any]:
    failure = None
    if generation.error_code:
        failure = Failure(code=ErrorCode(generation.error_code), msg=generation.error_message)
    return GenerationRecord(
        id=generation.pk,
        state=generation.state,
        model_id=generation.model_id,
        parameters=generation.parameters,
        effective=_effective(generation),
        images=[
            GeneratedMedia(
                url=url(image),
                seed=image.seed,
                nsfw=image.nsfw,
                width=image.width,
                height=image.height,
                nsfw_score=image.nsfw_score,
                checked=image.is_checked,
            )
            for image in generation.images.all()
        ],
        warnings=generation.warnings,
        error=failure,
        cost=generation.cost,
        waiting=waiting.get(generation.pk),
        progress=progress.get(generation.pk),
        created=generation.created,
        started=generation.started,
        finished=generation.finished,
        timings=Timings(queued=generation.queued_seconds, running=generation.running_seconds, phases=generation.phases),
    ).model_dump(mode="json")


def answer(generation: Generation, absolute: Absolute) -> Response:
    """The answer to the `POST` that made this generation: pictures, an error, or 202 and where to look."""
    if generation.is_removed:
        response = problem(ErrorCode.DELETED, MESSAGES[ErrorCode.DELETED])
    elif generation.state == State.SUCCEEDED:
        images = [
            Media(url=_url(generation, image, absolute), seed=image.seed, nsfw=image.nsfw)
            for image in generation.images.all()
        ]
        content = ImageResponse(
            images=images, id=generation.pk, model_id=generation.model_id, warnings=generation.warnings
        )
        body = content.model_dump(mode="json")
        # Pictures in the answer are too much to be kept, and the same again without.
        response = Response(body if _carries(generation) else idempotency.settled(generation, body))
    elif generation.state in (State.FAILED, State.CANCELED):
        response = problem(ErrorCode(generation.error_code), generation.error_message)
    else:
        response = Response(record(generation, absolute), status.HTTP_202_ACCEPTED)
        response["Location"] = absolute(f"/generations/{generation.pk}")
    response["X-Generation-Id"] = str(generation.pk)
    return response


def rehearsal(generation: Generation, expected: forecast.Forecast) -> Response:
    """The answer to a dry run."""
    content = Rehearsal(
        model_id=generation.model_id,
        effective=_effective(generation),
        cost=generation.cost,
        warnings=generation.warnings,
        waiting=expected.told,
    )
    return Response(content.model_dump(mode="json"))


def _effective(generation: Generation) -> dict[str, Any]:
    return generation.effective.model_dump(mode="json", exclude=_NOT_EFFECTIVE)


def _waiting(generations: Sequence[Generation]) -> dict[UUID, Waiting]:
    """What those that are queued wait for."""
    queued = [generation for generation in generations if generation.state == State.QUEUED]
    return {generation_id: expected.told for generation_id, expected in forecast.of_queued(queued).items()}


def _progress(generations: Sequence[Generation]) -> dict[UUID, Progress]:
    """Where those are that run and have said something."""
    running = [generation for generation in generations if generation.state == State.RUNNING]
    found = doorbell.progress([generation.pk for generation in running])
    ends = forecast.of_running(running, found)
    return {
        generation_id: Progress(
            phase=at.phase,
            step=at.step,
            of=at.of,
            percent=at.percent,
            estimated_finish=ends.get(generation_id),
        )
        for generation_id, at in found.items()
    }


def _url(generation: Generation, image: GeneratedImage, absolute: Absolute) -> str:
    if not _carries(generation):
        return absolute(image.file.url)
    name = str(image.file.name)
    return f"data:{encoding.media_type(name)};base64," + base64.b64encode(media.read(name)).decode()


def _carries(generation: Generation) -> bool:
    """Whether answers about it carry the pictures: as the request says, else as the server is set."""
    wanted = generation.wanted.response_format
    return settings.IMAGE_URLS == "data" if wanted is None else wanted is ResponseFormat.DATA
