"""`/generations`: list, get, delete and cancel one's own generations, and get their pictures."""

from hashlib import sha256
from typing import Any
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

from accounts.requests import current_token, current_user
from generation.api import openapi_operations
from generation.api.errors import ErrorResponse
from generation.api.views import JsonView
from generation.filters import GenerationFilters
from generation.jobs import queue
from generation.library import deletion
from generation.models import Generation
from generation.parameters import MESSAGES, ErrorCode, InvalidField, InvalidForm, RequestRefused, error_items
from generation.serializers import record, records

ON_HOLD_MESSAGE = "Staff must keep this generation for now, so it cannot be deleted. Try again later, or ask them."


class GenerationList(JsonView):
    @extend_schema(**openapi_operations.GENERATIONS)
    def get(self, request: Request) -> Response:
        """List your generations that match the filters, newest first."""
        filters = _filters(request)
        rows = Generation.objects.owned_by(request.user).filtered_by(filters)
        if filters.prompt is not None:
            rows = rows.filter(prompt__icontains=filters.prompt)
        pages = _Pages(filters.limit)
        rows = rows.select_related("user").prefetch_related("images", "references", "environment")
        page = pages.paginate_queryset(rows, request)
        links = {"next": pages.get_next_link(), "previous": pages.get_previous_link()}
        response = _conditional_response(
            request, {**links, "results": records(page or [], request.build_absolute_uri, current_token(request).pk)}
        )
        relations = {"next": links["next"], "prev": links["previous"]}
        if link := ", ".join(f'<{url}>; rel="{name}"' for name, url in relations.items() if url):
            response["Link"] = link
        return response


class GenerationDetail(JsonView):
    @extend_schema(**openapi_operations.GENERATION)
    def get(self, request: Request, generation_id: UUID) -> Response:
        """Get the record of one of your generations."""
        return _conditional_response(
            request,
            record(get_generation(request, generation_id), request.build_absolute_uri, current_token(request).pk),
        )

    @extend_schema(**openapi_operations.DELETION)
    def delete(self, request: Request, generation_id: UUID) -> Response:
        """Delete one of your generations that has ended, with its texts and pictures. This cannot be undone."""
        if not deletion.delete(get_generation(request, generation_id)):
            if get_generation(request, generation_id).legal_hold:
                return ErrorResponse(ErrorCode.ON_HOLD, ON_HOLD_MESSAGE)
            return ErrorResponse(ErrorCode.NOT_FINISHED, "It has not ended yet; cancel it first, or wait for its end.")
        return Response(status=status.HTTP_204_NO_CONTENT)


class GenerationImage(JsonView):
    @extend_schema(**openapi_operations.IMAGE)
    def get(self, request: Request, generation_id: UUID, number: int) -> Response:
        """Get a picture of one of your generations, by a fresh URL that needs no token; `number` counts from 0."""
        for image in get_generation(request, generation_id).images.all():
            if image.index == number:
                location = request.build_absolute_uri(image.file.url)
                return Response(status=status.HTTP_302_FOUND, headers={"Location": location})
        raise Http404


class Cancellation(JsonView):
    @extend_schema(**openapi_operations.CANCELLATION)
    def post(self, request: Request, generation_id: UUID) -> Response:
        """Cancel one of your generations: at once if it is queued, within a step if it is running."""
        generation = get_generation(request, generation_id)
        if not queue.cancel(generation):
            generation.refresh_from_db()
            return ErrorResponse(
                ErrorCode.ALREADY_FINISHED, f"It has {generation.state} already, so nothing was canceled."
            )
        generation = get_generation(request, generation_id)
        code = status.HTTP_200_OK if generation.is_final else status.HTTP_202_ACCEPTED
        return Response(record(generation, request.build_absolute_uri, current_token(request).pk), code)


class _Pages(CursorPagination):
    """Pages by id, which is in order of creation: one index serves any depth."""

    ordering = "-id"

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Raises `InvalidField` for an invalid cursor; DRF would show the first page, or fail."""
        try:
            cursor = super().decode_cursor(request)
            if cursor is not None:
                UUID(str(cursor.position))
        except (NotFound, ValueError):
            raise InvalidField(
                "cursor",
                "There is no such page; follow next and previous of a response, or leave cursor out",
                place="query",
            ) from None
        return cursor


def get_generation(request: Request, generation_id: UUID) -> Generation:
    """Return a generation of the token's user. Raises `Http404`, or `RequestRefused` if it is deleted or in the trash."""
    rows = (
        Generation.objects.filter(user=current_user(request))
        .select_related("user", "environment")
        .prefetch_related("images", "references")
    )
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


def _conditional_response(request: Request, data: Any) -> Response:
    """Return the data with a strong ETag of its bytes, or 304 if `If-None-Match` names that ETag."""
    etag = f'"{sha256(JSONRenderer().render(data)).hexdigest()[:32]}"'
    etags = [tag.removeprefix("W/") for tag in parse_etags(request.headers.get("If-None-Match", ""))]
    if etags == ["*"] or etag in etags:
        return Response(status=status.HTTP_304_NOT_MODIFIED, headers={"ETag": etag})
    return Response(data, headers={"ETag": etag})
