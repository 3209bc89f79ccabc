"""What a share link shows to anybody: the page of a picture or an album, and the pictures on it."""

import logging
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.cache import get_conditional_response
from django.views.decorators.http import require_safe

from accounts.requests import whole_number
from generation import display
from generation.images import encoding, storage
from generation.library import albums, archive, sharing
from generation.models import Album, GeneratedImage, Generation, ShareLink
from generation.pages import compare
from generation.pages.files import file_response

logger = logging.getLogger(__name__)

PAGE_SIZE = 60
_MAX_PAGE = 999

_PUBLIC_HEADERS = {
    # Browsers ask again each time, so that a revoked link stops working at once.
    "Cache-Control": "private, no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, noimageindex",
}


@require_safe
def shared(request: HttpRequest, code: str) -> HttpResponseBase:
    """Show the page of a link to anybody. Every link that does not work gets the same 404."""
    link = sharing.find(code)
    if link is not None and link.album:
        response = _album_page(request, link, link.album)
    elif link is not None and link.generation and (image := sharing.image_of(link)):
        response = _picture_page(request, link, link.generation, image)
    else:
        return not_found(request)
    if request.method == "GET" and request.user.pk != link.user_id:
        sharing.count_view(link)
    return public(response)


@require_safe
def shared_picture(request: HttpRequest, code: str) -> HttpResponseBase:
    """Serve the picture of a link, by its code: a signed URL would outlive the link. With `download`, to be saved."""
    link = sharing.find(code)
    image = link and sharing.image_of(link)
    if not link or not image:
        return _no_picture()
    name = str(image.file)
    if link.with_recipe and link.generation:
        response = _served(request, f"{name}:recipe", partial(_told, link.generation, name))
    else:
        response = _stored(request, name)
    if link.with_download and "download" in request.GET:
        extension = str(image.file).rpartition(".")[2]
        response["Content-Disposition"] = f'attachment; filename="picture.{extension}"'
    return response


@require_safe
def shared_input(request: HttpRequest, code: str) -> HttpResponseBase:
    """Serve the input of a link that compares the picture with it."""
    link = sharing.find(code)
    if not link or not link.generation or not _input_of(link) or not sharing.image_of(link):
        return _no_picture()
    return _stored(request, str(link.generation.input))


@require_safe
def shared_preview(request: HttpRequest, code: str) -> HttpResponseBase:
    """Serve the preview that other sites show beside the link."""
    link = sharing.find(code)
    if link is not None and link.album:
        image = albums.public_images(link.album).first()
    else:
        image = sharing.image_of(link) if link else None
    if image is None:
        return _no_picture()
    return _served(request, f"{image.file}:preview:{image.is_veiled}", lambda: _preview(image))


@require_safe
def shared_album_picture(request: HttpRequest, code: str, entry_id: UUID, index: int, size: str) -> HttpResponseBase:
    """Serve a picture of a shared album, or its thumbnail."""
    link = sharing.find(code)
    shown = link and sharing.image_of_album(link, entry_id, index)
    if not shown:
        return _no_picture()
    return _stored(request, str(shown.thumbnail if size == "thumbnail" else shown.file))


def _picture_page(request: HttpRequest, link: ShareLink, generation: Generation, image: GeneratedImage) -> HttpResponse:
    width, height = sharing.preview_size(image)
    context: dict[str, Any] = {
        "link": link,
        "image": image,
        "input": _input_of(link),
        "prompt": generation.prompt if link.with_recipe else "",
        "parameters": display.parameters(generation, display.SHARED) if link.with_recipe else [],
        "preview": {"width": width, "height": height},
        "site_url": request.build_absolute_uri("/")[:-1],
    }
    if context["input"]:
        context["has_other_shape"] = compare.has_other_shape(image, context["input"])
    return render(request, "generation/shared.html", context)


def _album_page(request: HttpRequest, link: ShareLink, album: Album) -> HttpResponse:
    """Show a page of a shared album; `page` counts from 1."""
    page = whole_number(request.GET.get("page", ""), _MAX_PAGE) or 1
    start = (page - 1) * PAGE_SIZE
    images = list(albums.public_images(album).select_related("generation")[start : start + PAGE_SIZE + 1])
    width, height = sharing.preview_size(images[0]) if images else (0, 0)
    context = {
        "link": link,
        "album": album,
        "images": [(image, _name(link, image, start + number)) for number, image in enumerate(images[:PAGE_SIZE], 1)],
        "newer": page - 1,
        "older": page + 1 if len(images) > PAGE_SIZE else None,
        "preview": {"width": width, "height": height},
        "site_url": request.build_absolute_uri("/")[:-1],
    }
    return render(request, "generation/shared_album.html", context)


def _name(link: ShareLink, image: GeneratedImage, number: int) -> str:
    """Return what the page of an album calls a picture: its prompt, or its number if the link has no prompts."""
    return image.generation.prompt or "No prompt" if link.with_recipe else f"Picture {number}"


def _input_of(link: ShareLink) -> compare.ComparisonImage | None:
    """Return the input that the page compares the picture with, None if it shows none."""
    row = link.generation
    if row is None or not sharing.shows_input(link):
        return None
    size = row.input_width, row.input_height
    return compare.ComparisonImage(compare.INPUT, "input", "The input", row.input, row.input_thumbnail, *size, False)


def _preview(image: GeneratedImage) -> HttpResponse:
    return HttpResponse(sharing.preview(image), content_type="image/jpeg")


def _stored(request: HttpRequest, name: str) -> HttpResponseBase:
    return _served(request, name, lambda: file_response(name, encoding.media_type(name)))


def _told(generation: Generation, name: str) -> HttpResponse:
    content = archive.told(storage.read(name), name, generation)
    return HttpResponse(content, content_type=encoding.media_type(name))


def _served(request: HttpRequest, identity: str, make: Callable[[], HttpResponseBase]) -> HttpResponseBase:
    """Return the response that `make` makes, or 304 if the browser has the same already. Reading it may fail with 503."""
    etag = f'"{sha256(identity.encode()).hexdigest()[:32]}"'
    try:
        response = public(get_conditional_response(request, etag=etag) or make())
    except storage.StorageFailed:
        logger.exception("a shared picture cannot be read")
        return public(HttpResponse("Try again in a minute.", "text/plain; charset=utf-8", 503))
    response["ETag"] = etag
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def not_found(request: HttpRequest) -> HttpResponseBase:
    return public(render(request, "generation/share_not_found.html", status=404))


def _no_picture() -> HttpResponseBase:
    return public(HttpResponse("There is no picture here.", "text/plain; charset=utf-8", 404))


def public(response: HttpResponseBase) -> HttpResponseBase:
    """Give the response the headers of all that a link shows."""
    for name, value in _PUBLIC_HEADERS.items():
        response[name] = value
    return response
