"""Serialization of generations to JSON records, with freshly signed URLs."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import QueryDict
from django.urls import reverse

from generation import signatures
from generation.broker import progress
from generation.images import encoding, storage
from generation.jobs import forecast
from generation.models import GeneratedImage, Generation, State
from generation.parameters import ErrorCode, ResponseFormat
from generation.responses import (
    Failure,
    GeneratedMedia,
    GenerationRecord,
    InputMedia,
    MaskMedia,
    Progress,
    Proof,
    Receipt,
    Timings,
    Waiting,
)

Absolute = Callable[[str], str]
"""Makes a URL absolute, like `request.build_absolute_uri`."""

_SIGNED_KIND = "events"
_EVENTS_URL_SECONDS = 600


def record(generation: Generation, absolute: Absolute, token_id: int | None) -> dict[str, Any]:
    """Return the `GenerationRecord` of a generation as JSON types. Its `events_url` needs a token that works."""
    return _record(
        generation,
        _waiting([generation]),
        _progress([generation]),
        lambda image: image_url(generation, image, absolute),
        absolute,
        _events_url(generation, absolute, token_id),
    )


def records(generations: Sequence[Generation], absolute: Absolute, token_id: int | None) -> list[dict[str, Any]]:
    """Return the records of several generations, with a constant number of queries if all that they name is prefetched: users,
    images, references and environments.

    The URLs are never data URLs: with all pictures the response would be too large.
    """
    waiting, progress = _waiting(generations), _progress(generations)
    return [
        _record(
            generation,
            waiting,
            progress,
            lambda image: absolute(image.file.url),
            absolute,
            _events_url(generation, absolute, token_id),
        )
        for generation in generations
    ]


def _record(
    generation: Generation,
    waiting: dict[UUID, Waiting],
    progress: dict[UUID, Progress],
    url: Callable[[GeneratedImage], str],
    absolute: Absolute,
    events_url: str | None,
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
        inputs=_inputs(generation, absolute),
        mask=_mask(generation, absolute),
        outside_mask=generation.outside_mask,
        images=[
            GeneratedMedia(
                url=url(image),
                seed=image.seed,
                nsfw=image.nsfw,
                width=image.width,
                height=image.height,
                nsfw_score=image.nsfw_score,
                checked=image.is_checked,
                watermark=image.has_watermark,
            )
            for image in generation.images.all()
        ],
        warnings=generation.warnings,
        error=failure,
        cost=generation.cost,
        waiting=waiting.get(generation.pk),
        progress=progress.get(generation.pk),
        events_url=events_url,
        created=generation.created,
        started=generation.started,
        finished=generation.finished,
        timings=Timings(queued=generation.queued_seconds, running=generation.running_seconds, phases=generation.phases),
        receipt=Receipt(**generation.receipt) if generation.receipt else None,
        reused_from=generation.reused_from_id,
        proof=Proof(**generation.proof) if generation.proof else None,
    ).model_dump(mode="json")


def _inputs(generation: Generation, absolute: Absolute) -> list[InputMedia]:
    inputs = []
    if generation.input_sha256:
        width, height = generation.input_width, generation.input_height
        url, claims = _file_url(generation.input, absolute), generation.input_credentials
        inputs.append(InputMedia(url=url, width=width, height=height, content_credentials=claims))
    for reference in generation.references.all():
        url = _file_url(reference.file, absolute)
        inputs.append(
            InputMedia(
                url=url, width=reference.width, height=reference.height, content_credentials=reference.credentials
            )
        )
    return inputs


def _mask(generation: Generation, absolute: Absolute) -> MaskMedia | None:
    if generation.open_share is None:
        return None
    return MaskMedia(url=_file_url(generation.mask, absolute), open_share=generation.open_share)


def _file_url(file: Any, absolute: Absolute) -> str | None:
    return absolute(file.url) if file else None


def _waiting(generations: Sequence[Generation]) -> dict[UUID, Waiting]:
    """Return the forecasts of the queued generations."""
    queued = [generation for generation in generations if generation.state == State.QUEUED]
    return {generation_id: expected.waiting for generation_id, expected in forecast.of_queued(queued).items()}


def _progress(generations: Sequence[Generation]) -> dict[UUID, Progress]:
    """Return the progress of the running generations that have reported any."""
    running = [generation for generation in generations if generation.state == State.RUNNING]
    latest = progress.latest([generation.pk for generation in running])
    ends = forecast.of_running(running, latest)
    return {
        generation_id: Progress(
            phase=at.phase,
            step=at.step,
            of=at.of,
            percent=at.percent,
            estimated_finish=ends.get(generation_id),
        )
        for generation_id, at in latest.items()
    }


def _events_url(generation: Generation, absolute: Absolute, token_id: int | None) -> str | None:
    """Return the signed address of an event stream, which browsers can open; None if it has ended, or without a token."""
    if token_id is None or generation.is_final:
        return None
    query = signatures.signed_query(_SIGNED_KIND, f"{generation.pk} {token_id}", _EVENTS_URL_SECONDS)
    return absolute(f"{reverse('generation-events', args=[generation.pk])}?token_id={token_id}&{query}")


def events_url_seconds_left(generation_id: UUID, token_id: int, query: QueryDict) -> int | None:
    """Return for how long this query of an `events_url` works, as `signatures.seconds_left` does."""
    return signatures.seconds_left(_SIGNED_KIND, f"{generation_id} {token_id}", query)


def image_url(generation: Generation, image: GeneratedImage, absolute: Absolute) -> str:
    """Return the URL of a picture: a data URL if the request or the server settings say so."""
    if not embeds_images(generation):
        return absolute(image.file.url)
    name = str(image.file.name)
    return encoding.data_url(storage.read(name), name)


def embeds_images(generation: Generation) -> bool:
    """Return whether responses contain the pictures as data URLs: as the request says, else the server settings."""
    response_format = generation.get_parameters().response_format
    return settings.IMAGE_URLS == "data" if response_format is None else response_format is ResponseFormat.DATA
