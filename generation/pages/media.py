"""Files at their signed addresses, which work without a token as long as the account of the files' owner does."""

from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_safe

from generation.images.storage import serve_media
from generation.library import files


@require_safe
def media(request: HttpRequest, name: str) -> HttpResponseBase:
    """Serve the file of a signed address; 404 if the address is invalid or expired, or its owner is suspended or leaves.

    Staff who may see all generations see those of such users, too.
    """
    if not (files.has_active_owner(name) or request.user.has_perm("generation.view_generation")):
        raise Http404
    return serve_media(request, name)
