"""The record of a generation: what programs and pages are told about it, with fresh URLs."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from django.conf import settings

from generation.broker import progress
from generation.images import encoding, storage
from generation.jobs import forecast
from generation.models import GeneratedImage, Generation, State
from generation.parameters import ErrorCode, ResponseFormat
from generation.responses import (
    Failure,
    GeneratedMedia,
    GenerationRecord,
    Progress,
    Timings,
    Waiting,
)

Absolute = Callable[[str], str]
"""Makes a URL absolute, as `request.build_absolute_uri` does."""


def record(generation: Generation, absolute: Absolute) -> dict[str, Any]:
    """The `GenerationRecord` of a generation, as JSON types, with fresh URLs."""
    return _record(
        generation, _waiting([generation]), _progress([generation]), lambda image: url_of(generation, image, absolute)
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
        effective=generation.effective_values,
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


def _waiting(generations: Sequence[Generation]) -> dict[UUID, Waiting]:
    """What those that are queued wait for."""
    queued = [generation for generation in generations if generation.state == State.QUEUED]
    return {generation_id: expected.waiting for generation_id, expected in forecast.of_queued(queued).items()}


def _progress(generations: Sequence[Generation]) -> dict[UUID, Progress]:
    """Where those are that run and have said something."""
    running = [generation for generation in generations if generation.state == State.RUNNING]
    found = progress.latest([generation.pk for generation in running])
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


def url_of(generation: Generation, image: GeneratedImage, absolute: Absolute) -> str:
    """Where this picture is, or itself, as its request or the server wants it."""
    if not carries(generation):
        return absolute(image.file.url)
    name = str(image.file.name)
    return encoding.data_url(storage.read(name), name)


def carries(generation: Generation) -> bool:
    """Whether answers about it carry the pictures: as the request says, else as the server is set."""
    wanted = generation.get_parameters().response_format
    return settings.IMAGE_URLS == "data" if wanted is None else wanted is ResponseFormat.DATA
