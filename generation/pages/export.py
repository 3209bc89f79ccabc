"""The page where one takes all of one's data away."""

import asyncio
from collections.abc import AsyncIterator
from typing import IO
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.files.storage import default_storage
from django.db import connections
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts.models import DataExport
from accounts.requests import current_user
from generation.maintenance import data_export

_PIECE = 1 << 18
_LENT_SECONDS = 60


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    """What is being made or can be fetched; POST asks for a new export."""
    user = current_user(request)
    if request.method == "POST":
        if not data_export.request(user):
            messages.info(request, "An export is being made already; wait until it is done.")
        return redirect("export")
    found = data_export.visible_to(user)
    state = DataExport.State
    ready = next((export for export in found if export.state == state.SUCCEEDED), None)
    return render(
        request,
        "accounts/export.html",
        {
            "pending": next((export for export in found if export.state in (state.QUEUED, state.RUNNING)), None),
            "failed": found[0] if found and found[0].state == state.FAILED else None,
            "ready": ready,
            "expires": ready.finished + data_export.RETENTION if ready and ready.finished else None,
        },
    )


@never_cache
@login_required
@require_safe
def download(request: HttpRequest, export_id: UUID) -> HttpResponseBase:
    """The file of one's own finished export, while it is kept."""
    export = get_object_or_404(data_export.ready(current_user(request)), pk=export_id)
    name = f"dreamsite-{timezone.localtime(export.created):%Y-%m-%d}.zip"
    disposition = f'attachment; filename="{name}"'
    if settings.S3_BUCKET:
        # The bucket sends it, to whoever has this address within a minute.
        lent = {"ResponseContentDisposition": disposition}
        return redirect(default_storage.url(export.file.name, parameters=lent, expire=_LENT_SECONDS))  # type: ignore[call-arg]
    try:
        file = default_storage.open(str(export.file.name))
    except OSError:
        raise Http404 from None
    return StreamingHttpResponse(
        _pieces(file),
        content_type="application/zip",
        headers={"Content-Disposition": disposition, "Content-Length": str(export.size)},
    )


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    # A client may take its time: no connection to the database is held meanwhile.
    await sync_to_async(connections.close_all)()
    try:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece
    finally:
        file.close()
