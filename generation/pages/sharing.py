"""Share links: create and revoke them, and the public page and pictures behind them."""

import logging
from datetime import timedelta
from hashlib import sha256
from urllib.parse import urlsplit
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.cache import get_conditional_response
from django.views.decorators.http import require_POST, require_safe

from accounts.requests import came_from
from generation import display
from generation.images import encoding, storage
from generation.library import sharing
from generation.models import GeneratedImage, Generation, ShareLink

logger = logging.getLogger(__name__)

_PUBLIC_HEADERS = {
    # Browsers ask again each time, so that a revoked link stops working at once.
    "Cache-Control": "private, no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, noimageindex",
}


class ShareForm(forms.Form):
    """The form for a new link: to which picture, for how long, and whether it shows the recipe."""

    picture = forms.IntegerField(min_value=1, widget=forms.HiddenInput)
    days = forms.TypedChoiceField(
        label="Works for",
        choices=[("1", "1 day"), ("7", "7 days"), ("30", "30 days"), ("0", "ever, until revoked")],
        coerce=int,
        initial="7",
    )
    with_recipe = forms.BooleanField(label="With prompt, seed and values", required=False)

    def duration(self) -> timedelta | None:
        """Return how long the link works, None for a link that does not expire."""
        return timedelta(days=self.cleaned_data["days"]) if self.cleaned_data["days"] else None


@login_required
@require_POST
def share(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Create a link to a result of the user; `picture` counts from 1."""
    generation = get_object_or_404(Generation.objects.owned_by(request.user), pk=generation_id)
    form = ShareForm(request.POST)
    if not form.is_valid():
        messages.error(request, "No link was created: choose a picture and a duration in the form.")
        return redirect(came_from(request) or reverse("generation", args=[generation.pk]))
    image = get_object_or_404(generation.images.all(), index=form.cleaned_data["picture"] - 1)
    try:
        sharing.share(generation, image.index, form.duration(), form.cleaned_data["with_recipe"])
    except sharing.TooManyLinks:
        messages.error(request, f"No link was created: {sharing.MAX_LIVE} links to it work already. Revoke one first.")
    return redirect(_back(request, generation.pk, image.index))


@login_required
@require_POST
def revoke(request: HttpRequest, generation_id: UUID, link_id: int) -> HttpResponse:
    """Revoke a link to a result of the user."""
    rows = Generation.objects.owned_by(request.user).filter(pk=generation_id)
    link = get_object_or_404(ShareLink, pk=link_id, generation__in=rows)
    sharing.revoke(ShareLink.objects.filter(pk=link.pk))
    messages.success(request, "The link was revoked.")
    return redirect(_back(request, generation_id, link.index))


@require_safe
def shared(request: HttpRequest, code: str) -> HttpResponseBase:
    """Show the page of a link to anybody. Every link that does not work gets the same 404."""
    target = sharing.find(code)
    if target is None:
        return _public(render(request, "generation/share_not_found.html", status=404))
    link, image = target
    width, height = sharing.preview_size(image)
    context = {
        "link": link,
        "image": image,
        "prompt": link.generation.prompt if link.with_recipe else "",
        "parameters": display.parameters(link.generation, display.SHARED) if link.with_recipe else [],
        "preview": {"width": width, "height": height},
        "site_url": request.build_absolute_uri("/")[:-1],
    }
    return _public(render(request, "generation/shared.html", context))


@require_safe
def shared_picture(request: HttpRequest, code: str) -> HttpResponseBase:
    """Serve the picture of a link, by its code: a signed URL would outlive the link."""
    return _picture(request, code, is_preview=False)


@require_safe
def shared_preview(request: HttpRequest, code: str) -> HttpResponseBase:
    """Serve the preview that other sites show beside the link."""
    return _picture(request, code, is_preview=True)


def _picture(request: HttpRequest, code: str, *, is_preview: bool) -> HttpResponseBase:
    target = sharing.find(code)
    if target is None:
        return _public(HttpResponse("There is no picture here.", "text/plain; charset=utf-8", 404))
    image = target[1]
    etag = f'"{sha256(f"{image.file}:{is_preview}".encode()).hexdigest()[:32]}"'
    try:
        response = _public(get_conditional_response(request, etag=etag) or _file(image, is_preview))
    except storage.StorageFailed:
        logger.exception("a shared picture cannot be read")
        return _public(HttpResponse("Try again in a minute.", "text/plain; charset=utf-8", 503))
    response["ETag"] = etag
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def _file(image: GeneratedImage, is_preview: bool) -> HttpResponse:
    if is_preview:
        return HttpResponse(sharing.preview(image), content_type="image/jpeg")
    return HttpResponse(storage.read(str(image.file)), content_type=encoding.media_type(str(image.file)))


def _public(response: HttpResponseBase) -> HttpResponseBase:
    for name, value in _PUBLIC_HEADERS.items():
        response[name] = value
    return response


def _back(request: HttpRequest, generation_id: UUID, index: int) -> str:
    """Return the address of the generation's page that shows this result, with the share links open."""
    query = QueryDict(urlsplit(came_from(request)).query, mutable=True)
    query["picture"], query["sharing"] = str(index + 1), ""
    return f"{reverse('generation', args=[generation_id])}?{query.urlencode()}#share"
