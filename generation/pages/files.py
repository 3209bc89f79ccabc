"""Stored files as responses, and the address at which signed URLs of files lead to them."""

import mimetypes
from hashlib import sha256
from urllib.parse import quote

from django.conf import settings
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_safe

from generation import signatures
from generation.asgi import transfers
from generation.images import storage
from generation.library import files

ACCEL_LOCATION = "/stored-files/"
"""The location of the files in the configuration of nginx."""


@require_safe
def media(request: HttpRequest, name: str) -> HttpResponseBase:
    """Serve the file of a signed address; 404 if the address is invalid or expired, or its owner is suspended or leaves.

    Staff who may see all generations see those of such users, too.
    """
    if not (files.has_active_owner(name) or request.user.has_perm("generation.view_generation")):
        raise Http404
    seconds_left = signatures.seconds_left(storage.SIGNED_KIND, name, request.GET)
    if seconds_left is None or seconds_left < 0:
        raise Http404
    try:
        response = file_response(name, mimetypes.guess_type(name)[0] or "application/octet-stream")
    except storage.StorageFailed:
        raise Http404 from None
    response["ETag"] = f'"{sha256(name.encode()).hexdigest()[:16]}"'
    response["Cache-Control"] = f"private, max-age={seconds_left}, immutable"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["X-Content-Type-Options"] = "nosniff"
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


def file_response(
    name: str, content_type: str, *, save_as: str = "", limit: transfers.Limit | None = None
) -> HttpResponseBase:
    """Return a response with a stored file, with `save_as` to be saved by this name. Raises `StorageFailed`.

    Without another limit, that of responses with the same file applies. With `X_ACCEL_REDIRECT` nginx sends the file.
    """
    if settings.X_ACCEL_REDIRECT:
        response: HttpResponseBase = HttpResponse(content_type=content_type)
        response["X-Accel-Redirect"] = ACCEL_LOCATION + quote(name)
    else:
        limit = limit or transfers.Limit(f"file {name}", transfers.MAX_OF_FILE)
        response = transfers.limited(FileResponse(storage.open_file(name), content_type=content_type), limit)
        del response["Content-Disposition"]
    if save_as:
        response["Content-Disposition"] = attachment(save_as)
    return response


def attachment(name: str) -> str:
    """Return the Content-Disposition of what is saved by this name."""
    return content_disposition_header(as_attachment=True, filename=name) or "attachment"
