"""Results as files, in the format that is wanted."""

import logging
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.http import content_disposition_header
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from generation.images import encoding, storage
from generation.library import archive
from generation.models import GeneratedImage, Generation
from generation.parameters import OutputFormat

logger = logging.getLogger(__name__)

NAMES = {OutputFormat.PNG: "PNG", OutputFormat.JPEG: "JPEG", OutputFormat.WEBP: "WebP"}
FORMATS = {encoding.suffix(format_)[1:]: format_ for format_ in OutputFormat}


@cache_control(private=True, no_cache=True)
@login_required
@require_safe
def download(request: HttpRequest, generation_id: UUID, number: int, extension: str) -> HttpResponse:
    """A result of one's own as a file; `number` counts from 1. The format that it was made in comes as it was stored."""
    if extension not in FORMATS:
        raise Http404
    image = get_object_or_404(
        GeneratedImage.objects.select_related("generation"),
        generation__in=Generation.objects.owned_by(request.user).filter(pk=generation_id),
        index=number - 1,
    )
    picture = archive.picture_of(image)
    try:
        content = encoding.convert(picture.read(), picture.stored, FORMATS[extension])
    except storage.StorageFailed:
        logger.exception("a picture cannot be read")
        messages.error(request, "The picture cannot be read now, so it was not downloaded; try again in a minute.")
        return redirect("generation", generation_id)
    response = HttpResponse(content, content_type=encoding.media_type(f".{extension}"))
    name = f"{picture.name.rpartition('.')[0]}.{extension}"
    response["Content-Disposition"] = content_disposition_header(as_attachment=True, filename=name) or "attachment"
    return response
