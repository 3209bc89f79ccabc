"""The records of one's own: listed, shown, deleted, canceled, and their pictures."""

from hashlib import sha256
from typing import Any, cast
from uuid import UUID

from django.http import Http404
from django.utils.http import parse_etags
from drf_spectacular.utils import extend_schema
from pydantic import ValidationError
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from generation.api import openapi_operations
from generation.api.errors import ErrorResponse
from generation.api.views import JsonView
from generation.filters import GenerationFilters
from generation.jobs import queue
from generation.library import deletion
from generation.models import Generation
from generation.parameters import MESSAGES, ErrorCode, InvalidField, InvalidForm, RequestRefused, error_items
from generation.serializers import record, records

HELD = "Staff must keep this generation for now, so it cannot be deleted. Try again later, or ask them."


class GenerationList(JsonView):
    @extend_schema(**openapi_operations.GENERATIONS)
    def get(self, request: Request) -> Response:
        """Your generations, the newest first: a page of those that the filters leave."""
        filters = _filters(request)
        rows = Generation.objects.owned_by(request.user).filtered_by(filters)
        if filters.prompt is not None:
            rows = rows.filter(prompt__icontains=filters.prompt)
        pages = _Pages(filters.limit)
        found = pages.paginate_queryset(rows.select_related("user").prefetch_related("images"), request)
        links = {"next": pages.get_next_link(), "previous": pages.get_previous_link()}
        response = _unless_known(request, {**links, "results": records(found or [], request.build_absolute_uri)})
        relations = {"next": links["next"], "prev": links["previous"]}
        if link := ", ".join(f'<{url}>; rel="{name}"' for name, url in relations.items() if url):
            response["Link"] = link
        return response


class GenerationDetail(JsonView):
    @extend_schema(**openapi_operations.GENERATION)
    def get(self, request: Request, generation_id: UUID) -> Response:
        """The durable record of a generation of yours."""
        return _unless_known(request, record(own(request, generation_id), request.build_absolute_uri))

    @extend_schema(**openapi_operations.DELETION)
    def delete(self, request: Request, generation_id: UUID) -> Response:
        """Remove a generation of yours that has ended: its words and all its pictures, for good."""
        if not deletion.delete(own(request, generation_id)):
            if own(request, generation_id).legal_hold:
                return ErrorResponse(ErrorCode.ON_HOLD, HELD)
            return ErrorResponse(ErrorCode.NOT_FINISHED, "It has not ended yet; cancel it first, or wait for its end.")
        return Response(status=status.HTTP_204_NO_CONTENT)


class GenerationImage(JsonView):
    @extend_schema(**openapi_operations.IMAGE)
    def get(self, request: Request, generation_id: UUID, number: int) -> Response:
        """A picture of a generation of yours, by a fresh URL that needs no token; `number` counts from 0."""
        for image in own(request, generation_id).images.all():
            if image.index == number:
                location = request.build_absolute_uri(image.file.url)
                return Response(status=status.HTTP_302_FOUND, headers={"Location": location})
        raise Http404


class Cancellation(JsonView):
    @extend_schema(**openapi_operations.CANCELLATION)
    def post(self, request: Request, generation_id: UUID) -> Response:
        """Cancel a generation of yours: at once while it is queued, within a step while it runs."""
        generation = own(request, generation_id)
        if not queue.cancel(generation):
            generation.refresh_from_db()
            return ErrorResponse(
                ErrorCode.ALREADY_FINISHED, f"It has {generation.state} already, so nothing was canceled."
            )
        generation = own(request, generation_id)
        code = status.HTTP_200_OK if generation.is_final else status.HTTP_202_ACCEPTED
        return Response(record(generation, request.build_absolute_uri), code)


class _Pages(CursorPagination):
    """Pages of rows by their ids, whose order is that of their making: one index serves any depth."""

    ordering = "-id"

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Raises `InvalidField` for one that no answer held; the original would show the first page, or break."""
        try:
            cursor = super().decode_cursor(request)
            if cursor is not None:
                UUID(str(cursor.position))
        except (NotFound, ValueError):
            raise InvalidField(
                "cursor",
                "There is no such page; follow next and previous as they were answered, or leave cursor out",
                place="query",
            ) from None
        return cursor


def own(request: Request, generation_id: UUID) -> Generation:
    """A generation of the token's user. Raises `Http404`, or `RequestRefused` for one that was deleted or is in the trash."""
    rows = Generation.objects.filter(user=cast(User, request.user)).select_related("user").prefetch_related("images")
    generation: Generation | None = rows.filter(pk=generation_id).first()
    if generation is None:
        raise Http404
    if generation.is_removed:
        raise RequestRefused(ErrorCode.DELETED, MESSAGES[ErrorCode.DELETED])
    return generation


def _filters(request: Request) -> GenerationFilters:
    try:
        return GenerationFilters.from_query(request.query_params.lists())
    except ValidationError as error:
        raise InvalidForm(error_items(error, GenerationFilters, "query")) from error


def _unless_known(request: Request, data: Any) -> Response:
    """The data, with the strong ETag of its bytes; 304 without them where the client named it in `If-None-Match`."""
    etag = f'"{sha256(JSONRenderer().render(data)).hexdigest()[:32]}"'
    known = [tag.removeprefix("W/") for tag in parse_etags(request.headers.get("If-None-Match", ""))]
    if known == ["*"] or etag in known:
        return Response(status=status.HTTP_304_NOT_MODIFIED, headers={"ETag": etag})
    return Response(data, headers={"ETag": etag})
