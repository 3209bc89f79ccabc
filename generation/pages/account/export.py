"""The page that exports all of the user's data as a zip file."""

from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.files.storage import default_storage
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts import security_log
from accounts.confirmation import ConfirmPasswordForm, is_confirmed
from accounts.models import DataExport
from accounts.requests import current_user, parse_uuid
from generation.asgi import transfers
from generation.images import storage
from generation.maintenance import data_export
from generation.pages.files import attachment, file_response
from generation.pages.security_headers import allow_forms_to_lead_to_bucket

_URL_SECONDS = 60
"""How long a signed URL of an export works."""


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    """Show the user's export: unfinished, failed, or ready to download. `POST` requests a new one, or `download`s one."""
    user = current_user(request)
    form = ConfirmPasswordForm(request, request.POST if request.method == "POST" else None)
    if form.is_valid():
        if export_id := parse_uuid(request.POST.get("download", "")):
            return redirect("export-file", export_id)
        if not data_export.request(user):
            messages.info(request, "An export is being made already; wait until it is done.")
        return redirect("export")
    exports = data_export.visible_to(user)
    state = DataExport.State
    ready = next((export for export in exports if export.state == state.SUCCEEDED), None)
    response = render(
        request,
        "accounts/export.html",
        {
            "form": form,
            "is_confirmed": is_confirmed(request),
            "pending": next((export for export in exports if export.state in (state.QUEUED, state.RUNNING)), None),
            "failed": exports[0] if exports and exports[0].state == state.FAILED else None,
            "ready": ready,
            "expires": ready.finished + data_export.RETENTION if ready and ready.finished else None,
        },
    )
    allow_forms_to_lead_to_bucket(response)
    return response


@never_cache
@login_required
@require_safe
def download(request: HttpRequest, export_id: UUID) -> HttpResponseBase:
    """Download the zip file of one of the user's exports, until it expires."""
    if not is_confirmed(request):
        return redirect("export")
    export = get_object_or_404(data_export.ready(current_user(request)), pk=export_id)
    security_log.log("export.download", export=str(export.pk))
    name = f"dreamsite-{timezone.localtime(export.created):%Y-%m-%d}.zip"
    if settings.S3_BUCKET:
        # The bucket sends the file.
        parameters = {"ResponseContentDisposition": attachment(name)}
        url = default_storage.url(export.file.name, parameters=parameters, expire=_URL_SECONDS)  # type: ignore[call-arg]
        return redirect(url)
    try:
        limit = transfers.of_user(export.user_id)
        return file_response(str(export.file.name), "application/zip", save_as=name, limit=limit)
    except storage.StorageFailed:
        raise Http404 from None
