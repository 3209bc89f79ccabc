"""Downloads: a result as a file, converted to another format if the user chooses one, and a mask."""

import logging
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_safe

from accounts.requests import current_user
from generation.asgi import transfers
from generation.images import encoding, storage
from generation.library import archive
from generation.models import GeneratedImage, Generation
from generation.pages.caching import revalidated
from generation.pages.files import attachment, file_response
from generation.parameters import OutputFormat

logger = logging.getLogger(__name__)

NAMES = {OutputFormat.PNG: "PNG", OutputFormat.JPEG: "JPEG", OutputFormat.WEBP: "WebP"}
FORMATS = {encoding.suffix(output_format)[1:]: output_format for output_format in OutputFormat}
"""The formats by file extension."""


@revalidated
@login_required
@require_safe
def download(request: HttpRequest, generation_id: UUID, number: int, extension: str) -> HttpResponseBase:
    """Download a result of the user, counted from 1. In its original format it is sent as it was stored."""
    if extension not in FORMATS:
        raise Http404
    image = get_object_or_404(
        GeneratedImage.objects.select_related("generation__user"),
        generation__in=Generation.objects.owned_by(request.user).filter(pk=generation_id),
        index=number - 1,
    )
    picture = archive.picture_of(image)
    content_type, save_as = encoding.media_type(f".{extension}"), f"{picture.name.rpartition('.')[0]}.{extension}"
    limit = transfers.of_user(current_user(request).pk)
    try:
        if picture.stored.endswith(f".{extension}") and not image.generation.user.tells_recipe:
            return file_response(picture.stored, content_type, save_as=save_as, limit=limit)
        content = encoding.convert(storage.read(picture.stored), picture.stored, FORMATS[extension])
        if image.generation.user.tells_recipe:
            content = archive.told(content, save_as, image.generation)
    except storage.StorageFailed:
        logger.exception("a picture cannot be read")
        messages.error(request, "The picture cannot be read now, so it was not downloaded; try again in a minute.")
        return redirect("generation", generation_id)
    return HttpResponse(content, content_type=content_type, headers={"Content-Disposition": attachment(save_as)})


@revalidated
@login_required
@require_safe
def mask(request: HttpRequest, generation_id: UUID) -> HttpResponseBase:
    """Answer with the mask of one of the user's generations, from this host: a page cannot read a picture of the bucket."""
    rows = Generation.objects.owned_by(request.user).exclude(mask="")
    name = str(get_object_or_404(rows, pk=generation_id).mask)
    try:
        return file_response(name, "image/png", limit=transfers.of_user(current_user(request).pk))
    except storage.StorageFailed:
        raise Http404 from None
